//! Formats with a minimum: w = scale*q + min, q from 0 to 15.

use super::{inverse, nearest, pack_nibbles, round_small};
use crate::block::BLOCK;

/// The largest quant.
const MAX: f32 = 15.0;
/// Ranges that are tried, in quants from the least value to the greatest: fewer than 15 where
/// values use a part of a scale, 15 and near it where the ends are worth a little error.
const RANGES: [f32; 20] = [
    8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 13.5, 14.0, 14.2, 14.4, 14.6, 14.8, 15.0, 15.2, 15.4, 15.6,
    15.8, 16.0, 16.3, 16.6,
];

/// What a minimum may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Minimum {
    Any,
    /// At most zero.
    NotAbove0,
}

/// Scale and minimum of a group.
#[derive(Clone, Copy, Default)]
pub(super) struct Affine {
    pub(super) scale: f32,
    pub(super) min: f32,
}

/// d, m, then 32 nibbles. `None` if either is infinite in f16.
pub(super) fn q4_1(values: &[f32], out: &mut [u8]) -> Option<()> {
    let fit = fit(values, &[1.0; BLOCK], Minimum::Any);
    let (d, m) = (nearest(fit.scale)?, nearest(fit.min)?);
    out[..2].copy_from_slice(&d.to_le_bytes());
    out[2..4].copy_from_slice(&m.to_le_bytes());
    let mut quants = [0; BLOCK];
    let rounded = Affine {
        scale: d.to_f32(),
        min: m.to_f32(),
    };
    rounded.quantize(values, &mut quants);
    pack_nibbles(&quants, &mut out[4..]);
    Some(())
}

/// Scale and minimum with the least weighted squared error among those that are tried.
pub(super) fn fit(values: &[f32], weights: &[f32], minimum: Minimum) -> Affine {
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    for &value in values {
        (low, high) = (low.min(value), high.max(value));
    }
    if minimum == Minimum::NotAbove0 {
        low = low.min(0.0);
    }
    if high <= low {
        return Affine {
            scale: 0.0,
            min: low,
        };
    }
    let mut best = Affine {
        scale: (high - low) / MAX,
        min: low,
    };
    let mut least = best.error(values, weights);
    for range in RANGES {
        let tried = Affine {
            scale: (high - low) / range,
            min: low,
        };
        let fitted = tried.refit(values, weights, minimum);
        let error = fitted.error(values, weights);
        if error < least {
            (best, least) = (fitted, error);
        }
    }
    best
}

// === impl Affine ===

impl Affine {
    pub(super) fn quantize(self, values: &[f32], quants: &mut [u8]) {
        let inverse = inverse(self.scale);
        for (quant, value) in quants.iter_mut().zip(values) {
            *quant = self.quant(*value, inverse) as u8;
        }
    }

    /// The weighted squared error that is left.
    pub(super) fn error(self, values: &[f32], weights: &[f32]) -> f32 {
        let inverse = inverse(self.scale);
        let errors = values.iter().zip(weights).map(|(&value, weight)| {
            let error = self.scale * self.quant(value, inverse) + self.min - value;
            weight * error * error
        });
        errors.sum()
    }

    /// The quants of this scale and minimum, and the scale and minimum that fit those best
    /// (weighted linear regression of values on quants).
    fn refit(self, values: &[f32], weights: &[f32], minimum: Minimum) -> Affine {
        let inverse = inverse(self.scale);
        let (mut w, mut x, mut q, mut qq, mut xq) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (&value, &weight) in values.iter().zip(weights) {
            let quant = self.quant(value, inverse);
            w += weight;
            x += weight * value;
            q += weight * quant;
            qq += weight * quant * quant;
            xq += weight * value * quant;
        }
        let determinant = w * qq - q * q;
        if determinant <= 0.0 {
            return self;
        }
        let fitted = Affine {
            scale: (w * xq - x * q) / determinant,
            min: (qq * x - q * xq) / determinant,
        };
        if minimum == Minimum::NotAbove0 && fitted.min > 0.0 {
            return Affine {
                scale: xq / qq,
                min: 0.0,
            };
        }
        fitted
    }

    fn quant(self, value: f32, inverse: f32) -> f32 {
        round_small(((value - self.min) * inverse).clamp(0.0, MAX))
    }
}
