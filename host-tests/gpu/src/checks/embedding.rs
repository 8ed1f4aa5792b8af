//! Embedding rows of every format, bit for bit: random bytes are weights of any format. Ids reach
//! the first and the last row, and beyond.

use super::{Extent, Outcome};
use crate::floats::f32_bytes;
use crate::paged::u32_bytes;
use crate::random::Random;
use farthing_kernels::Dtype;
use farthing_kernels::cuda::embedding::{Operands, Shape, reference, run};
use farthing_kernels::cuda::{CudaError, Device};
use half::{bf16, f16};

/// Vocabulary, rows, columns.
const SMALL: [(usize, usize, usize); 4] =
    [(1, 3, 256), (33, 17, 768), (50, 2, 3584), (20, 1, 4096)];

const FULL: [(usize, usize, usize); 2] = [(3000, 257, 4096), (1000, 4096, 512)];

pub fn check<D: Device>(
    device: &mut D,
    extent: Extent,
    random: &mut Random,
) -> Result<Vec<Outcome>, CudaError> {
    let full: &[(usize, usize, usize)] = match extent {
        Extent::Small => &[],
        Extent::Full => &FULL,
    };
    let mut outcomes = Vec::new();
    for dtype in Dtype::ALL {
        for &(vocabulary, rows, cols) in SMALL.iter().chain(full) {
            let shape = Shape {
                rows,
                cols,
                vocabulary,
                dtype,
            };
            outcomes.push(compare(device, random, &shape)?);
        }
        if dtype.block_len() < 64 {
            let shape = Shape {
                rows: 5,
                cols: 576,
                vocabulary: 9,
                dtype,
            };
            outcomes.push(compare(device, random, &shape)?);
        }
    }
    Ok(outcomes)
}

fn compare<D: Device>(
    device: &mut D,
    random: &mut Random,
    shape: &Shape,
) -> Result<Outcome, CudaError> {
    let table = table(random, shape)?;
    let mut ids: Vec<u32> = (0..shape.rows)
        .map(|_| random.below(shape.vocabulary + 1) as u32)
        .collect();
    let extremes = [shape.vocabulary as u32 - 1, u32::MAX, 0];
    ids.iter_mut()
        .zip(extremes)
        .for_each(|(id, extreme)| *id = extreme);
    let wanted = reference(shape, &ids, &table)?;
    let ids = device.upload(&u32_bytes(&ids))?;
    let table = device.upload(&table)?;
    let out = device.filled(4 * wanted.len(), 0xff)?;
    let operands = Operands {
        ids: &ids,
        table: &table,
        out: &out,
    };
    run(device, shape, &operands)?;
    let got = device.download(&out)?;
    // In bits; but zeros are one number, with either sign.
    let (got, _) = got.as_chunks::<4>();
    let wanted = f32_bytes(&wanted);
    let (wanted, _) = wanted.as_chunks::<4>();
    let differ = |got: &[u8; 4], wanted: &[u8; 4]| {
        got != wanted && f32::from_le_bytes(*got) != f32::from_le_bytes(*wanted)
    };
    let pairs = got.iter().zip(wanted);
    let different = pairs.filter(|(got, wanted)| differ(got, wanted)).count();
    Ok(Outcome {
        operation: "embedding",
        case: format!(
            "{:?} {} of {} x {}, elements that differ",
            shape.dtype, shape.rows, shape.vocabulary, shape.cols
        ),
        error: different as f64,
        tolerance: 0.0,
    })
}

/// Random bytes, with scales that are numbers.
fn table(random: &mut Random, shape: &Shape) -> Result<Vec<u8>, CudaError> {
    let bytes = shape.vocabulary * shape.dtype.row_bytes(shape.cols)?;
    let mut table: Vec<u8> = (0..bytes).map(|_| random.bits() as u8).collect();
    for block in table.chunks_exact_mut(shape.dtype.block_bytes()) {
        let scales: &[usize] = match shape.dtype {
            Dtype::F32 => {
                block.copy_from_slice(&random.value().to_le_bytes());
                &[]
            }
            Dtype::BF16 => {
                block.copy_from_slice(&bf16::from_f32(random.value()).to_le_bytes());
                &[]
            }
            Dtype::F16 | Dtype::Q4_0 | Dtype::Q5_0 | Dtype::Q8_0 => &[0],
            Dtype::Q4_1 | Dtype::Q4K => &[0, 2],
            Dtype::Q6K => &[208],
        };
        for &at in scales {
            let scale = f16::from_f32(random.value()).to_le_bytes();
            block[at..at + 2].copy_from_slice(&scale);
        }
    }
    Ok(table)
}
