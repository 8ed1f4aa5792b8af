//! e to the x, as straight-line arithmetic that vectorises.
//!
//! Source: Cephes `expf` (range reduction by ln 2 in two parts, a polynomial of degree 6).

/// Above this the result stays at e^88.3, 2.2e38: the next power of two would be infinite.
const INPUT_MAX: f32 = 88.3;
/// Below this the result is 0: it would be below the smallest normal number.
const INPUT_MIN: f32 = -87.3;
/// Adding 1.5 * 2^23 rounds to an integer, which is then found in the low bits.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has few bits, so that its products with small integers are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// e^x with a relative error below 3e-7 for x from -87.3 to 88.3; 0 below, constant above.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let clamped = if x > INPUT_MAX { INPUT_MAX } else { x };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let exponent = shifted - ROUND;
    let rest = clamped - exponent * LN_2_HIGH - exponent * LN_2_LOW;
    let mut series = 1.987_569_1e-4;
    series = series * rest + 1.398_199_9e-3;
    series = series * rest + 8.333_452e-3;
    series = series * rest + 4.166_579_6e-2;
    series = series * rest + 1.666_666_5e-1;
    series = series * rest + 0.5;
    series = series * rest * rest + rest + 1.0;
    let power = (shifted
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(127))
        << 23;
    if x < INPUT_MIN {
        0.0
    } else {
        series * f32::from_bits(power)
    }
}
