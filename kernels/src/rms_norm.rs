//! RMSNorm: x / sqrt(mean(x^2) + eps) * weight.

use crate::InstructionSet;
use crate::instruction_set::versions;
use crate::lanes::{LANES, sum_lanes};

/// Normalises each row of `x`, shape `[rows, weight.len()]`, into `out`.
///
/// # Panics
/// If `x` is no whole number of rows or `out` does not have its length.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(
        !weight.is_empty() && x.len().is_multiple_of(weight.len()) && out.len() == x.len(),
        "{} elements to {} are no rows of {}",
        x.len(),
        out.len(),
        weight.len()
    );
    normalise_rows(InstructionSet::best(), x, weight, eps, out);
}

versions! {
    fn normalise_rows(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) = normalise_each_row;
}

#[inline(always)]
fn normalise_each_row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let rows = x
        .chunks_exact(weight.len())
        .zip(out.chunks_exact_mut(weight.len()));
    for (x, out) in rows {
        let scale = 1.0 / (sum_of_squares(x) / x.len() as f32 + eps).sqrt();
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * weight;
        }
    }
}

/// Summed in sixteen lanes: fast, and nearer the true sum than one running total.
#[inline(always)]
fn sum_of_squares(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x * x;
        }
    }
    sum_lanes(sums) + rest.iter().map(|x| x * x).sum::<f32>()
}
