//! Formats without a minimum: w = d*q.

use super::{inverse, nearest, pack_nibbles, round_small};
use crate::block::BLOCK;

/// The largest quant of Q8_0; -128 is left out, as GGML does.
const Q8_MAX: f32 = 127.0;
/// Quants of Q4_0 are from -8 to 7.
const Q4_MIN: f32 = -8.0;
const Q4_MAX: f32 = 7.0;
/// How many scales beside the one that maps the largest value to -8 are tried on either side, and
/// how far they lie apart, in quants.
const STEPS: i32 = 9;
const STEP: f32 = 0.1;

/// d, then 32 signed bytes. `None` if d is infinite in f16.
pub(super) fn q8_0(values: &[f32], out: &mut [u8]) -> Option<()> {
    let largest = values.iter().fold(0f32, |max, value| max.max(value.abs()));
    let d = nearest(largest / Q8_MAX)?;
    let scale = inverse(d.to_f32());
    out[..2].copy_from_slice(&d.to_le_bytes());
    for (out, value) in out[2..].iter_mut().zip(values) {
        *out = (value * scale).round().clamp(-Q8_MAX, Q8_MAX) as i8 as u8;
    }
    Some(())
}

/// d, then 32 nibbles that hold q + 8. `None` if d is infinite in f16.
pub(super) fn q4_0(values: &[f32], out: &mut [u8]) -> Option<()> {
    let d = nearest(best_scale(values))?;
    let scale = inverse(d.to_f32());
    out[..2].copy_from_slice(&d.to_le_bytes());
    let mut quants = [0; BLOCK];
    for (quant, value) in quants.iter_mut().zip(values) {
        *quant = (round4(value * scale) - Q4_MIN) as u8;
    }
    pack_nibbles(&quants, &mut out[2..]);
    Some(())
}

fn round4(x: f32) -> f32 {
    round_small(x.clamp(Q4_MIN, Q4_MAX))
}

/// The scale with the least squared error. For quants q, d = sum(xq) / sum(q^2) is the best scale,
/// and leaves sum(x^2) - sum(xq)^2 / sum(q^2).
fn best_scale(values: &[f32]) -> f32 {
    let largest = values.iter().fold(0f32, |max, value| max.max(value.abs()));
    if largest == 0.0 {
        return 0.0;
    }
    let (mut best, mut gain) = (0.0, 0.0);
    // Either sign: the range has one more quant below zero than above.
    for sign in [1.0, -1.0] {
        for step in -STEPS..=STEPS {
            let scale = sign * (Q4_MIN - STEP * step as f32) / largest;
            let (mut xq, mut qq) = (0.0, 0.0);
            for value in values {
                let quant = round4(value * scale);
                xq += value * quant;
                qq += quant * quant;
            }
            if qq > 0.0 && xq * xq > gain * qq {
                gain = xq * xq / qq;
                best = xq / qq;
            }
        }
    }
    best
}
