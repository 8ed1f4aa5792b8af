//! Random but well-formed tensors of every format, from a seed.

#![allow(dead_code, reason = "each test file uses a part")]

use candle_core::quantized::GgmlDType;
use farthing_kernels::Dtype;

/// A 64-bit xorshift generator (Marsaglia 2003), enough for test data.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        // A multiplication spreads neighbouring seeds; the state must not be zero.
        Random(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From -1 to 1.
    pub fn value(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Values of different magnitude from block to block, as activations have.
pub fn random_values(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..count)
        .map(|index| random.value() * (1.0 + (index / 32 % 5) as f32))
        .collect()
}

/// `n * k` elements: random bits everywhere but in the scales, which are small numbers of either
/// sign, so that weights stay around 1.
pub fn random_tensor(dtype: Dtype, n: usize, k: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = Vec::new();
    for _ in 0..n * k / dtype.block_len() {
        let start = bytes.len();
        bytes.extend((0..dtype.block_bytes()).map(|_| random.bits() as u8));
        let block = &mut bytes[start..];
        let mut f16 = |block: &mut [u8], at: usize, scale: f32| {
            let value = half::f16::from_f32(random.value() * scale);
            block[at..at + 2].copy_from_slice(&value.to_le_bytes());
        };
        match dtype {
            Dtype::F32 => block.copy_from_slice(&random.value().to_le_bytes()),
            Dtype::F16 => f16(block, 0, 1.0),
            Dtype::BF16 => {
                block.copy_from_slice(&half::bf16::from_f32(random.value()).to_le_bytes());
            }
            Dtype::Q4_0 | Dtype::Q5_0 => f16(block, 0, 0.1),
            Dtype::Q8_0 => f16(block, 0, 0.01),
            Dtype::Q4_1 => {
                f16(block, 0, 0.1);
                f16(block, 2, 1.0);
            }
            Dtype::Q4K => {
                f16(block, 0, 0.002);
                f16(block, 2, 0.01);
            }
            Dtype::Q6K => f16(block, 208, 0.0005),
        }
    }
    bytes
}

/// candle's name of a format.
pub fn candle_dtype(dtype: Dtype) -> GgmlDType {
    match dtype {
        Dtype::F32 => GgmlDType::F32,
        Dtype::F16 => GgmlDType::F16,
        Dtype::BF16 => GgmlDType::BF16,
        Dtype::Q4_0 => GgmlDType::Q4_0,
        Dtype::Q4_1 => GgmlDType::Q4_1,
        Dtype::Q5_0 => GgmlDType::Q5_0,
        Dtype::Q8_0 => GgmlDType::Q8_0,
        Dtype::Q4K => GgmlDType::Q4K,
        Dtype::Q6K => GgmlDType::Q6K,
    }
}
