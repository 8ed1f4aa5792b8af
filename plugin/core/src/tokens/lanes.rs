//! Tests of 64 bytes at once, which answer a bit for each byte, the first one's lowest. With SIMD
//! in wasm, where requests are counted in the callbacks of a worker; byte by byte elsewhere.

/// Bytes that are tested together.
pub(super) const BLOCK_BYTES: usize = 64;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd {
    use super::BLOCK_BYTES;
    use std::arch::wasm32::{
        u8x16_bitmask, u8x16_eq, u8x16_lt, u8x16_splat, u8x16_sub, u64x2, v128, v128_or,
    };

    #[derive(Clone, Copy)]
    pub struct Block([v128; 4]);

    impl Block {
        pub fn of(bytes: &[u8; BLOCK_BYTES]) -> Block {
            let (words, _) = bytes.as_chunks::<8>();
            let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
            let mut word = || words.next().unwrap_or_default();
            Block(std::array::from_fn(|_| {
                let low = word();
                u64x2(low, word())
            }))
        }

        /// The same with this bit set in every byte.
        pub fn with(self, bit: u8) -> Block {
            Block(self.0.map(|lane| v128_or(lane, u8x16_splat(bit))))
        }

        /// Which bytes are one of the `count` from `first` on?
        pub fn within(self, first: u8, count: u8) -> u64 {
            bits(self.0.map(|lane| {
                let from_first = u8x16_sub(lane, u8x16_splat(first));
                u8x16_lt(from_first, u8x16_splat(count))
            }))
        }

        /// Which bytes are those of another block in their place?
        pub fn equals(self, other: Block) -> u64 {
            let [a, b, c, d] = self.0;
            let [e, f, g, h] = other.0;
            bits([
                u8x16_eq(a, e),
                u8x16_eq(b, f),
                u8x16_eq(c, g),
                u8x16_eq(d, h),
            ])
        }
    }

    fn bits(lanes: [v128; 4]) -> u64 {
        lanes
            .iter()
            .rev()
            .fold(0, |bits, lane| bits << 16 | u64::from(u8x16_bitmask(*lane)))
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod scalar {
    use super::BLOCK_BYTES;

    #[derive(Clone, Copy)]
    pub struct Block([u8; BLOCK_BYTES]);

    impl Block {
        pub fn of(bytes: &[u8; BLOCK_BYTES]) -> Block {
            Block(*bytes)
        }

        /// The same with this bit set in every byte.
        pub fn with(self, bit: u8) -> Block {
            Block(self.0.map(|byte| byte | bit))
        }

        /// Which bytes are one of the `count` from `first` on?
        pub fn within(self, first: u8, count: u8) -> u64 {
            bits(self.0.map(|byte| byte.wrapping_sub(first) < count))
        }

        /// Which bytes are those of another block in their place?
        pub fn equals(self, other: Block) -> u64 {
            let mut pairs = self.0.iter().zip(&other.0);
            bits(std::array::from_fn(|_| {
                pairs.next().is_some_and(|(a, b)| a == b)
            }))
        }
    }

    fn bits(tests: [bool; BLOCK_BYTES]) -> u64 {
        tests
            .iter()
            .rev()
            .fold(0, |bits, test| bits << 1 | u64::from(*test))
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
pub(super) use scalar::Block;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(super) use simd::Block;
