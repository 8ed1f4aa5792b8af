//! What a softmax over a vocabulary says about itself, in one pass that also gives the logarithm of
//! its sum: how certain it is.

use crate::instruction_set::versions;
use crate::lanes::LANES;
use crate::{InstructionSet, exp};

/// A softmax, summed up. With `m` the largest of the logits `x`, the probability of token `i` is
/// `exp(x[i] - m) / sum`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Softmax {
    /// The largest logit.
    pub max: f32,
    /// The second largest logit; equal to `max` if two share it, minus infinity if there is none.
    pub second: f32,
    /// The sum of `exp(x - max)`, 1 at least.
    pub sum: f64,
    /// The sum of `(x - max) * exp(x - max)`, never above zero.
    pub weighted: f64,
}

/// Elements that are summed in f32 before the sums are carried to f64.
const BLOCK: usize = 16 * LANES;

impl Softmax {
    /// Sums up the softmax of `logits`. What is not a number counts as impossible. None if nothing
    /// is possible, or if a logit is infinite and the probabilities with it undefined.
    pub fn of(logits: &[f32]) -> Option<Softmax> {
        let mut largest = [f32::NEG_INFINITY; 2];
        two_largest(InstructionSet::best(), logits, &mut largest);
        let [max, second] = largest;
        if !max.is_finite() {
            return None;
        }
        let mut sums = [0.0; 2];
        shifted_sums(InstructionSet::best(), logits, max, &mut sums);
        let [sum, weighted] = sums;
        Some(Softmax {
            max,
            second,
            sum,
            weighted,
        })
    }

    /// The natural logarithm of the probability of a token with this logit.
    pub fn log_probability(&self, logit: f32) -> f32 {
        (f64::from(logit) - f64::from(self.max) - self.sum.ln()) as f32
    }

    /// The entropy in nats: `-sum(p ln p) = ln(sum) - weighted / sum`.
    pub fn entropy_nats(&self) -> f32 {
        ((self.sum.ln() - self.weighted / self.sum) as f32).max(0.0)
    }

    /// The largest probability less the second largest.
    pub fn margin(&self) -> f32 {
        let second = (f64::from(self.second) - f64::from(self.max)).exp();
        ((1.0 - second) / self.sum) as f32
    }
}

versions! {
    fn two_largest(x: &[f32], largest: &mut [f32; 2]) = two_largest_in_lanes;
}

versions! {
    fn shifted_sums(x: &[f32], max: f32, sums: &mut [f64; 2]) = shifted_block_sums;
}

#[inline(always)]
fn two_largest_in_lanes(x: &[f32], largest: &mut [f32; 2]) {
    let (chunks, rest) = x.as_chunks::<{ 2 * LANES }>();
    let mut first = [f32::NEG_INFINITY; 2 * LANES];
    let mut second = [f32::NEG_INFINITY; 2 * LANES];
    for chunk in chunks {
        for ((first, second), &x) in first.iter_mut().zip(&mut second).zip(chunk) {
            // Comparisons are false for what is not a number, which so changes nothing.
            let lower = if x > *first { *first } else { x };
            *first = if x > *first { x } else { *first };
            *second = if lower > *second { lower } else { *second };
        }
    }
    for &x in first.iter().chain(&second).chain(rest) {
        if x > largest[0] {
            *largest = [x, largest[0]];
        } else if x > largest[1] {
            largest[1] = x;
        }
    }
}

#[inline(always)]
fn shifted_block_sums(x: &[f32], max: f32, sums: &mut [f64; 2]) {
    for block in x.chunks(BLOCK) {
        let (chunks, rest) = block.as_chunks::<LANES>();
        let mut sum = [0.0; LANES];
        let mut weighted = [0.0; LANES];
        for chunk in chunks {
            for ((sum, weighted), &x) in sum.iter_mut().zip(&mut weighted).zip(chunk) {
                let (weight, product) = shifted(x, max);
                *sum += weight;
                *weighted += product;
            }
        }
        let rest = rest.iter().map(|&x| shifted(x, max));
        let lanes = sum.into_iter().zip(weighted);
        for (weight, product) in lanes.chain(rest) {
            sums[0] += f64::from(weight);
            sums[1] += f64::from(product);
        }
    }
}

/// `exp(x - max)`, and the same times `x - max`; zero for what is impossible.
#[inline(always)]
fn shifted(x: f32, max: f32) -> (f32, f32) {
    let shift = x - max;
    let weight = exp(shift);
    // Zero times minus infinity is not a number, and neither comparison holds for one.
    if weight > 0.0 {
        (weight, shift * weight)
    } else {
        (0.0, 0.0)
    }
}
