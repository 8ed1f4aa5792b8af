//! SwiGLU over widths that fill blocks and that do not, with gates whose exponential overflows.

use super::{Extent, Outcome, relative_error};
use crate::paged::{f16_bytes, f16_values};
use crate::random::Random;
use farthing_kernels::cuda::swiglu::{Shape, reference, run};
use farthing_kernels::cuda::{CudaError, Device};

/// The rounding of an f16 result.
const TOLERANCE: f64 = 5e-4;

/// Rows and columns.
const SMALL: [(usize, usize); 6] = [
    (1, 8),
    (17, 40),
    (7, 1536),
    (2, 4864),
    (1, 14_336),
    (3, 18_944),
];

const FULL: [(usize, usize); 3] = [(4096, 1536), (513, 14_336), (300, 18_944)];

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
        let mut values = random.values(2 * rows * cols);
        values.iter_mut().for_each(|x| *x *= 10.0);
        values[..4].copy_from_slice(&[-60_000.0, 60_000.0, -100.0, 0.0]);
        let bytes = f16_bytes(&values, 1.0);
        let wanted = reference(&f16_values(&bytes), cols);
        let wanted = f16_values(&f16_bytes(&saturated(&wanted), 1.0));
        let gate_up = device.upload(&bytes)?;
        let out = device.filled(2 * rows * cols, 0xff)?;
        run(device, &Shape { rows, cols }, &gate_up, &out)?;
        let got = f16_values(&device.download(&out)?);
        // The large products alone would hide all others.
        let (large, rest) = (&got[..4], &got[4..]);
        for (part, got, wanted) in [
            ("extremes", large, &wanted[..4]),
            ("all", rest, &wanted[4..]),
        ] {
            outcomes.push(Outcome {
                operation: "swiglu",
                case: format!("{rows} x {cols} {part}"),
                error: relative_error(got, wanted),
                tolerance: TOLERANCE,
            });
        }
    }
    Ok(outcomes)
}

/// As stores of f16 are.
fn saturated(values: &[f32]) -> Vec<f32> {
    values
        .iter()
        .map(|x| x.clamp(-65_504.0, 65_504.0))
        .collect()
}
