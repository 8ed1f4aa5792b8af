//! The exponential by the four operations of IEEE 754 alone: the one of the host's library may
//! differ in the last bit, and filter and backend must decide alike.

const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// Beyond this the logistic is 0 or 1 to the last bit, and a power of two might not be normal.
const EXPONENT_MAX: f64 = 700.0;
/// Terms of the series: enough for the last bit within half of `ln 2`.
const TERMS: u32 = 14;

/// From any number to 0..1.
pub(super) fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

fn exp(x: f64) -> f64 {
    let x = x.clamp(-EXPONENT_MAX, EXPONENT_MAX);
    let power = (x * std::f64::consts::LOG2_E + 0.5).floor();
    let rest = (x - power * LN_2_HIGH) - power * LN_2_LOW;
    let series = (1..=TERMS)
        .rev()
        .fold(1.0, |sum, term| 1.0 + sum * rest / f64::from(term));
    let exponent = (power as i64).saturating_add(1_023) as u64;
    series * f64::from_bits(exponent << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits, as they are natively and in wasm.
    #[test]
    fn golden() {
        for (x, bits) in [
            (0.0, 0x3fe0_0000_0000_0000_u64),
            (1.0, 0x3fe7_64d4_f5d5_a2bd_u64),
            (-1.0, 0x3fd1_3656_1454_ba86_u64),
            (0.1, 0x3fe0_cca1_2729_afb8_u64),
            (-3.7, 0x3f98_b4c0_ffc1_4fbe_u64),
            (20.0, 0x3fef_ffff_fee4_b79a_u64),
            (-40.0, 0x3c53_9792_499b_1a24_u64),
            (1e300, 0x3ff0_0000_0000_0000_u64),
            (-1e300, 0x00d1_4f2b_0fb9_307f_u64),
        ] {
            assert_eq!(logistic(x).to_bits(), bits, "{x}");
        }
    }

    #[test]
    fn it_is_the_exponential() {
        for step in -7_000..=7_000 {
            let x = f64::from(step) / 10.0;
            let (ours, theirs) = (exp(x), x.exp());
            assert!(
                (ours - theirs).abs() <= theirs * 1e-15,
                "{x}: {ours} {theirs}"
            );
        }
    }
}
