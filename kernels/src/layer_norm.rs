//! Layer normalisation: (x - mean) / sqrt(variance + eps) * weight + bias.

use crate::InstructionSet;
use crate::instruction_set::versions;
use crate::lanes::{LANES, sum_lanes};

/// Normalises each row of `x`, shape `[rows, weight.len()]`, in place.
///
/// # Panics
/// If `x` is no whole number of rows, or weight and bias differ in length.
pub fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    assert!(
        !weight.is_empty() && x.len().is_multiple_of(weight.len()) && weight.len() == bias.len(),
        "{} elements are no rows of {} with a bias of {}",
        x.len(),
        weight.len(),
        bias.len()
    );
    normalise_rows(InstructionSet::best(), x, weight, bias, eps);
}

versions! {
    fn normalise_rows(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) = normalise_each_row;
}

#[inline(always)]
fn normalise_each_row(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    for x in x.chunks_exact_mut(weight.len()) {
        let count = x.len() as f32;
        let mean = sum_of(x, |x| x) / count;
        let variance = sum_of(x, |x| (x - mean) * (x - mean)) / count;
        let scale = 1.0 / (variance + eps).sqrt();
        for ((x, weight), bias) in x.iter_mut().zip(weight).zip(bias) {
            *x = (*x - mean) * scale * weight + bias;
        }
    }
}

/// Summed in sixteen lanes: fast, and nearer the true sum than one running total.
#[inline(always)]
fn sum_of(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += term(*x);
        }
    }
    sum_lanes(sums) + rest.iter().map(|x| term(*x)).sum::<f32>()
}
