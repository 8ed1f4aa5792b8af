//! The weights of a softmax at a temperature, with partial sums to draw from.

use crate::instruction_set::versions;
use crate::lanes::LANES;
use crate::{InstructionSet, LOGITS_PER_BLOCK, exp};

/// Writes `exp((x - max) / temperature)` to `weights`, and the sum of each run of
/// [`LOGITS_PER_BLOCK`] of them to `sums`. What is not a number weighs nothing, and neither does
/// what weighs less than `least`. Relative error of a weight below 1e-6.
///
/// # Panics
/// If the lengths do not fit.
pub fn exp_weights(
    x: &[f32],
    max: f32,
    temperature: f32,
    least: f32,
    weights: &mut [f32],
    sums: &mut [f64],
) {
    assert!(
        weights.len() == x.len() && sums.len() == x.len().div_ceil(LOGITS_PER_BLOCK),
        "{} elements have as many weights, not {}, and {} sums do not fit",
        x.len(),
        weights.len(),
        sums.len()
    );
    let best = InstructionSet::best();
    weigh(best, x, max, temperature, least, weights, sums);
}

versions! {
    fn weigh(
        x: &[f32], max: f32, temperature: f32, least: f32, weights: &mut [f32], sums: &mut [f64],
    ) = weigh_blocks;
}

#[inline(always)]
fn weigh_blocks(
    x: &[f32],
    max: f32,
    temperature: f32,
    least: f32,
    weights: &mut [f32],
    sums: &mut [f64],
) {
    let blocks = x
        .chunks(LOGITS_PER_BLOCK)
        .zip(weights.chunks_mut(LOGITS_PER_BLOCK));
    for ((x, weights), sum) in blocks.zip(sums) {
        for (weight, &x) in weights.iter_mut().zip(x) {
            let value = exp((x - max) / temperature);
            // False for what is not a number.
            *weight = if value >= least { value } else { 0.0 };
        }
        let (chunks, rest) = weights.as_chunks::<LANES>();
        let mut lanes = [0.0f32; LANES];
        for chunk in chunks {
            for (lane, weight) in lanes.iter_mut().zip(chunk) {
                *lane += weight;
            }
        }
        let all = lanes.iter().chain(rest);
        *sum = all.map(|&weight| f64::from(weight)).sum();
    }
}
