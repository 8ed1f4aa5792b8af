//! The sampler's random numbers: SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom
//! number generators", OOPSLA 2014; the reference constants of prng.di.unimi.it/splitmix64.c).
//! One number a token is drawn, so speed does not matter; that a seed always means the same
//! numbers, on every machine and in every version, does.

use std::hash::{BuildHasher, RandomState};

/// One sequence's stream of random numbers.
#[derive(Debug, Clone)]
pub struct SplitMix64 {
    state: u64,
}

/// The increment: 2^64 divided by the golden ratio, made odd.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

// === impl SplitMix64 ===

impl SplitMix64 {
    /// The stream of this seed.
    pub fn new(seed: u64) -> SplitMix64 {
        SplitMix64 { state: seed }
    }

    /// The stream of one choice of a seeded request. The seed is mixed first, so that choice 1 of
    /// seed 7 is not choice 0 of seed 8.
    pub fn for_choice(seed: u64, choice: usize) -> SplitMix64 {
        let mut stream = SplitMix64::new(seed);
        let base = stream.next_u64();
        SplitMix64::new(base.wrapping_add((choice as u64).wrapping_mul(GAMMA)))
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in [0, 1), each of the 2^53 equally spaced ones as likely.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

/// A seed that the operating system chose, for requests that bring none. The standard library's
/// hasher is keyed from the system's randomness.
pub fn unpredictable_seed() -> u64 {
    RandomState::new().hash_one(0u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_reference_stream() {
        // First outputs of splitmix64.c for the seed 1234567.
        let mut stream = SplitMix64::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973];
        assert_eq!(expected, [stream.next_u64(), stream.next_u64()]);
    }
}
