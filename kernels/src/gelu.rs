//! The Gaussian error linear unit: x times the share of the normal distribution below x, which is
//! (1 + erf(x / sqrt 2)) / 2.
//!
//! Source of the error function: Abramowitz and Stegun, "Handbook of Mathematical Functions",
//! 7.1.26, whose error is below 1.5e-7.

use crate::instruction_set::versions;
use crate::{InstructionSet, exp};

const SQRT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
const SLOPE: f32 = 0.327_591_1;
const TERMS: [f32; 5] = [
    0.254_829_6,
    -0.284_496_74,
    1.421_413_8,
    -1.453_152,
    1.061_405_4,
];

/// Replaces each element by its GELU; the error is below 1e-6 of the larger of 1 and the element.
pub fn gelu(x: &mut [f32]) {
    gelu_rows(InstructionSet::best(), x);
}

versions! {
    /// [`gelu`] with a given instruction set.
    pub(crate) fn gelu_rows(x: &mut [f32]) = gelu_loop;
}

#[inline(always)]
fn gelu_loop(x: &mut [f32]) {
    for x in x {
        let distance = x.abs() * SQRT_HALF;
        let t = 1.0 / (1.0 + SLOPE * distance);
        let mut series = TERMS[4];
        series = series * t + TERMS[3];
        series = series * t + TERMS[2];
        series = series * t + TERMS[1];
        series = series * t + TERMS[0];
        // Of the normal distribution, what is beyond |x| on one side.
        let beyond = 0.5 * series * t * exp(-distance * distance);
        *x *= if *x < 0.0 { beyond } else { 1.0 - beyond };
    }
}
