//! Q4_K: eight groups of 32 with w = (d*s)*q - (d_min*n), s and n of 6 bits.
//!
//! Groups are fitted one by one; what is found is rounded to multiples of one d and one d_min, each
//! group then tries the multiples next to its own, and d and d_min are fitted to the whole. Errors
//! are weighted by how large a value is, as `quantize_row_q4_K_ref` does: large ones matter most.

use super::affine::{Affine, Minimum, fit};
use super::{inverse, nearest, pack_nibbles};
use crate::block::{BLOCK, SUPER_BLOCK};

const GROUPS: usize = SUPER_BLOCK / BLOCK;
/// The largest multiple of d or d_min.
const MULTIPLE_MAX: i32 = 63;

/// A super-block as it will be written; scales are what f16 holds.
#[derive(Clone)]
struct Draft {
    d: half::f16,
    d_min: half::f16,
    scales: [u8; GROUPS],
    mins: [u8; GROUPS],
}

/// `None` if d or d_min is infinite in f16.
pub(super) fn q4_k(values: &[f32], out: &mut [u8]) -> Option<()> {
    let mut weights = [0.0; SUPER_BLOCK];
    for (weights, values) in weights
        .chunks_exact_mut(BLOCK)
        .zip(values.chunks_exact(BLOCK))
    {
        let squares: f32 = values.iter().map(|value| value * value).sum();
        let root_mean_square = (squares / BLOCK as f32).sqrt();
        for (weight, value) in weights.iter_mut().zip(values) {
            *weight = root_mean_square + value.abs();
        }
    }
    let first = Draft::first(values, &weights)?;
    let mut best = first.clone();
    if let Some(fitted) = first.refit(values, &weights)
        && fitted.error(values, &weights) < best.error(values, &weights)
    {
        best = fitted;
    }
    best.write(values, out);
    Some(())
}

// === impl Draft ===

impl Draft {
    fn first(values: &[f32], weights: &[f32]) -> Option<Draft> {
        let mut fits = [Affine::default(); GROUPS];
        for (group, found) in fits.iter_mut().enumerate() {
            *found = fit(of(values, group), of(weights, group), Minimum::NotAbove0);
        }
        let scale = fits.iter().fold(0f32, |max, fit| max.max(fit.scale));
        let min = fits.iter().fold(0f32, |max, fit| max.max(-fit.min));
        let mut draft = Draft {
            d: nearest(scale / MULTIPLE_MAX as f32)?,
            d_min: nearest(min / MULTIPLE_MAX as f32)?,
            scales: [0; GROUPS],
            mins: [0; GROUPS],
        };
        draft.choose_multiples(&fits, values, weights);
        Some(draft)
    }

    /// For each group the multiples of d and d_min, next to what was fitted, with the least error.
    fn choose_multiples(&mut self, fits: &[Affine; GROUPS], values: &[f32], weights: &[f32]) {
        let (to_scale, to_min) = (inverse(self.d.to_f32()), inverse(self.d_min.to_f32()));
        for (group, fit) in fits.iter().enumerate() {
            let near = |x: f32| (x.round() as i32).clamp(0, MULTIPLE_MAX);
            let (scale, min) = (near(fit.scale * to_scale), near(-fit.min * to_min));
            let mut least = f32::INFINITY;
            for scale in (scale - 1).max(0)..=(scale + 1).min(MULTIPLE_MAX) {
                for min in (min - 1).max(0)..=(min + 1).min(MULTIPLE_MAX) {
                    let tried = self.affine(scale as u8, min as u8);
                    let error = tried.error(of(values, group), of(weights, group));
                    if error < least {
                        least = error;
                        (self.scales[group], self.mins[group]) = (scale as u8, min as u8);
                    }
                }
            }
        }
    }

    /// d and d_min by weighted least squares over the whole super-block, quants and multiples as
    /// they are. `None` where they are not determined.
    fn refit(&self, values: &[f32], weights: &[f32]) -> Option<Draft> {
        let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for group in 0..GROUPS {
            let mut quants = [0; BLOCK];
            self.group(group).quantize(of(values, group), &mut quants);
            let (scale, min) = (f32::from(self.scales[group]), f32::from(self.mins[group]));
            let values = of(values, group).iter().zip(of(weights, group));
            for ((value, weight), quant) in values.zip(quants) {
                let (a, b) = (scale * f32::from(quant), -min);
                aa += weight * a * a;
                ab += weight * a * b;
                bb += weight * b * b;
                ax += weight * a * value;
                bx += weight * b * value;
            }
        }
        let determinant = aa * bb - ab * ab;
        if determinant <= 0.0 {
            return None;
        }
        let d = nearest((ax * bb - bx * ab) / determinant)?;
        let d_min = nearest((bx * aa - ax * ab) / determinant)?;
        let positive = d.to_f32() > 0.0 && d_min.to_f32() >= 0.0;
        positive.then(|| Draft {
            d,
            d_min,
            ..self.clone()
        })
    }

    fn error(&self, values: &[f32], weights: &[f32]) -> f32 {
        let error = |group| {
            self.group(group)
                .error(of(values, group), of(weights, group))
        };
        (0..GROUPS).map(error).sum()
    }

    fn group(&self, group: usize) -> Affine {
        self.affine(self.scales[group], self.mins[group])
    }

    fn affine(&self, scale: u8, min: u8) -> Affine {
        Affine {
            scale: self.d.to_f32() * f32::from(scale),
            min: -(self.d_min.to_f32() * f32::from(min)),
        }
    }

    /// d, d_min, twelve bytes of 6-bit multiples, nibbles: the reverse of [`crate::block::Q4K`].
    fn write(&self, values: &[f32], out: &mut [u8]) {
        out[..2].copy_from_slice(&self.d.to_le_bytes());
        out[2..4].copy_from_slice(&self.d_min.to_le_bytes());
        let packed = &mut out[4..16];
        for group in 0..GROUPS / 2 {
            let (scale, min) = (self.scales[group + 4], self.mins[group + 4]);
            packed[group] = self.scales[group] | (scale >> 4 << 6);
            packed[group + 4] = self.mins[group] | (min >> 4 << 6);
            packed[group + 8] = (scale & 15) | (min << 4);
        }
        let mut quants = [0; SUPER_BLOCK];
        for (group, quants) in quants.chunks_exact_mut(BLOCK).enumerate() {
            self.group(group).quantize(of(values, group), quants);
        }
        for (out, quants) in out[16..]
            .chunks_exact_mut(BLOCK)
            .zip(quants.chunks_exact(2 * BLOCK))
        {
            pack_nibbles(quants, out);
        }
    }
}

/// The part of one group.
fn of(values: &[f32], group: usize) -> &[f32] {
    &values[group * BLOCK..][..BLOCK]
}
