//! RMSNorm with and without a delta, widths that leave threads idle and that need several rounds.

use super::{Extent, Outcome, relative_error};
use crate::floats::{f32_bytes, f32_values, worse};
use crate::paged::{f16_bytes, f16_values};
use crate::random::Random;
use farthing_kernels::cuda::rms_norm::{Delta, Operands, Shape, reference, run};
use farthing_kernels::cuda::{CudaError, Device};

/// The rounding of an f16 result.
const TOLERANCE: f64 = 5e-4;
const EPS: f32 = 1e-5;

#[derive(Debug, Clone, Copy)]
enum Kind {
    None,
    F16,
    F32,
}

/// Rows and columns.
const SMALL: [(usize, usize); 10] = [
    (1, 4),
    (2, 576),
    (7, 576),
    (3, 896),
    (1, 1536),
    (2, 3584),
    (1, 4096),
    (1, 8192),
    (1, 16_384),
    // Many rows have narrower blocks.
    (300, 1032),
];

const FULL: [(usize, usize); 4] = [(17, 4096), (257, 4096), (1000, 3584), (513, 12_288)];

pub fn check<D: Device>(
    device: &mut D,
    extent: Extent,
    random: &mut Random,
) -> Result<Vec<Outcome>, CudaError> {
    let full: &[(usize, usize)] = match extent {
        Extent::Small => &[],
        Extent::Full => &FULL,
    };
    let mut outcomes = Vec::new();
    for &(rows, cols) in SMALL.iter().chain(full) {
        for kind in [Kind::None, Kind::F16, Kind::F32] {
            outcomes.push(compare(device, random, Shape { rows, cols }, kind)?);
        }
    }
    Ok(outcomes)
}

fn compare<D: Device>(
    device: &mut D,
    random: &mut Random,
    shape: Shape,
    kind: Kind,
) -> Result<Outcome, CudaError> {
    let elements = shape.rows * shape.cols;
    let mut wanted_residual: Vec<f32> = random.values(elements);
    wanted_residual.iter_mut().for_each(|x| *x *= 8.0);
    let weight = random.values(shape.cols);
    let residual = device.upload(&f32_bytes(&wanted_residual))?;
    let weight_buffer = device.upload(&f32_bytes(&weight))?;
    let (delta_bytes, delta) = match kind {
        Kind::None => (Vec::new(), None),
        Kind::F16 => {
            let bytes = f16_bytes(&random.values(elements), 3.0);
            let values = f16_values(&bytes);
            (bytes, Some(values))
        }
        Kind::F32 => {
            let values = random.values(elements);
            (f32_bytes(&values), Some(values))
        }
    };
    let wanted = reference(&mut wanted_residual, delta.as_deref(), &weight, EPS);
    let delta_buffer = device.upload(&delta_bytes)?;
    let out = device.filled(2 * elements, 0xff)?;
    let operands = Operands {
        residual: &residual,
        delta: match kind {
            Kind::None => Delta::None,
            Kind::F16 => Delta::F16(&delta_buffer),
            Kind::F32 => Delta::F32(&delta_buffer),
        },
        weight: &weight_buffer,
        eps: EPS,
        out: &out,
    };
    run(device, &shape, &operands)?;
    let error = relative_error(&f16_values(&device.download(&out)?), &wanted);
    // A single sum in f32, the same everywhere.
    let streamed = f32_values(&device.download(&residual)?);
    let changed = streamed != wanted_residual;
    Ok(Outcome {
        operation: "rms_norm",
        case: format!("{} x {} delta {kind:?}", shape.rows, shape.cols),
        error: worse(error, if changed { 1.0 } else { 0.0 }),
        tolerance: TOLERANCE,
    })
}
