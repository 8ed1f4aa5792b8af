//! Sums stored in every way, into all columns of an output and into some, with sums beyond what f16
//! holds.

use super::{Extent, Outcome};
use crate::floats::{f32_bytes, f32_values};
use crate::paged::f16_values;
use crate::random::Random;
use farthing_kernels::cuda::matmul::{PART_ALIGNMENT, Part};
use farthing_kernels::cuda::product::Store;
use farthing_kernels::cuda::store_sums::{Operands, Shape, reference, run};
use farthing_kernels::cuda::{CudaError, Device};

/// Tokens, columns of the sums, columns of the output, and the first that is written.
const SMALL: [(usize, usize, usize, usize); 5] = [
    (1, 1, 1, 0),
    (3, 100, 100, 0),
    (5, 37, 300, 263),
    (2, 1025, 1500, 7),
    (17, 256, 512, 256),
];
const FULL: [(usize, usize, usize, usize); 2] =
    [(4096, 4096, 4096, 0), (513, 14_337, 28_672, 14_000)];

pub fn check<D: Device>(
    device: &mut D,
    extent: Extent,
    random: &mut Random,
) -> Result<Vec<Outcome>, CudaError> {
    let full: &[(usize, usize, usize, usize)] = match extent {
        Extent::Small => &[],
        Extent::Full => &FULL,
    };
    let mut outcomes = Vec::new();
    for (index, size) in SMALL.iter().chain(full).enumerate() {
        for store in [Store::F16, Store::F32, Store::Add] {
            let (tokens, cols, out_cols, first) = *size;
            let shape = Shape {
                tokens,
                cols,
                out_cols,
                first,
                store,
            };
            let unlike = unlike(device, &shape, index % 2 == 0, random)?;
            outcomes.push(Outcome {
                operation: "store_sums",
                case: format!("{tokens} x {cols} from column {first} of {out_cols}, {store:?}"),
                error: unlike as f64,
                tolerance: 0.0,
            });
        }
    }
    Ok(outcomes)
}

/// How many elements of the output are not what they must be, bit for bit. One token goes before
/// those that are written, and nothing of it may change.
fn unlike<D: Device>(
    device: &mut D,
    shape: &Shape,
    with_bias: bool,
    random: &mut Random,
) -> Result<usize, CudaError> {
    let Shape {
        tokens,
        cols,
        out_cols,
        first,
        store,
    } = *shape;
    let mut sums = random.values(tokens * cols);
    sums.iter_mut().for_each(|sum| *sum *= 100.0);
    sums[0] = -70_000.0;
    let bias = random.values(out_cols);
    let before = random.values((tokens + 1) * out_cols);
    let start = match store {
        Store::Add => f32_bytes(&before),
        _ => vec![0xff; (tokens + 1) * out_cols * store.output_bytes()],
    };
    let mut padded = vec![0xff; PART_ALIGNMENT];
    padded.extend(f32_bytes(&sums));
    let (sums_there, bias_there) = (device.upload(&padded)?, device.upload(&f32_bytes(&bias))?);
    let out = device.upload(&start)?;
    let operands = Operands {
        sums: Part {
            buffer: &sums_there,
            offset: PART_ALIGNMENT,
        },
        bias: with_bias.then_some(&bias_there),
        out: &out,
        first_token: 1,
    };
    run(device, shape, &operands)?;
    let values = |bytes: &[u8]| match store {
        Store::F16 => f16_values(bytes),
        Store::F32 | Store::Add => f32_values(bytes),
    };
    let (got, start) = (values(&device.download(&out)?), values(&start));
    let expected = |index: usize| {
        let (row, col) = (index / out_cols, index % out_cols);
        if row == 0 || col < first || col >= first + cols {
            return start[index];
        }
        let sum = sums[(row - 1) * cols + col - first];
        reference(sum, with_bias.then(|| bias[col]), before[index], store)
    };
    let same = |index: &usize| got[*index].to_bits() == expected(*index).to_bits();
    Ok((0..got.len()).filter(|index| !same(index)).count())
}
