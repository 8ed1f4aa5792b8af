//! One GGML block taken apart into quants and scales, without loss.
//!
//! Source: `ggml-common.h` (block structs) and `ggml-quants.c` (`dequantize_row_*`).

use half::f16;

/// Elements of a block of the 32-wide formats.
pub(crate) const BLOCK: usize = 32;
/// Elements of a super-block of the K formats.
pub(crate) const SUPER_BLOCK: usize = 256;

/// The f16 at `offset`, in little-endian order as GGUF stores it.
pub(crate) fn f16_at(bytes: &[u8], offset: usize) -> f16 {
    f16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

/// Sixteen bytes of nibbles as 32 values: all low nibbles, then all high ones.
pub(crate) fn nibbles(packed: &[u8], quants: &mut [u8; BLOCK]) {
    let (low, high) = quants.split_at_mut(BLOCK / 2);
    for ((&byte, low), high) in packed.iter().zip(low).zip(high) {
        *low = byte & 0x0f;
        *high = byte >> 4;
    }
}

/// The quants of a Q5_0 block, from -16 to 15; w = d*q.
pub(crate) fn q5_0(block: &[u8], quants: &mut [i8; BLOCK]) -> f16 {
    let fifth_bits = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    let mut low_bits = [0; BLOCK];
    nibbles(&block[6..22], &mut low_bits);
    for (index, (quant, low)) in quants.iter_mut().zip(low_bits).enumerate() {
        let fifth = ((fifth_bits >> index) & 1) as u8;
        *quant = (low | (fifth << 4)) as i8 - 16;
    }
    f16_at(block, 0)
}

/// The quants of a Q8_0 block; w = d*q.
pub(crate) fn q8_0(block: &[u8], quants: &mut [i8; BLOCK]) -> f16 {
    for (quant, &byte) in quants.iter_mut().zip(&block[2..]) {
        *quant = byte as i8;
    }
    f16_at(block, 0)
}

/// A Q4_K super-block: eight groups of 32 with w = (d*scale)*q - (d_min*min).
pub(crate) struct Q4K {
    pub d: f16,
    pub d_min: f16,
    pub scales: [u8; 8],
    pub mins: [u8; 8],
    pub quants: [u8; SUPER_BLOCK],
}

impl Q4K {
    /// Takes 144 bytes apart: d, d_min, twelve bytes of 6-bit scales and mins, nibbles.
    pub fn read(block: &[u8]) -> Q4K {
        let packed = &block[4..16];
        let (mut scales, mut mins) = ([0; 8], [0; 8]);
        for group in 0..4 {
            scales[group] = packed[group] & 63;
            mins[group] = packed[group + 4] & 63;
            scales[group + 4] = (packed[group + 8] & 0x0f) | ((packed[group] >> 6) << 4);
            mins[group + 4] = (packed[group + 8] >> 4) | ((packed[group + 4] >> 6) << 4);
        }
        let mut quants = [0; SUPER_BLOCK];
        for (pair, bytes) in quants
            .chunks_exact_mut(64)
            .zip(block[16..].chunks_exact(32))
        {
            let (low, high) = pair.split_at_mut(32);
            for ((&byte, low), high) in bytes.iter().zip(low).zip(high) {
                *low = byte & 0x0f;
                *high = byte >> 4;
            }
        }
        Q4K {
            d: f16_at(block, 0),
            d_min: f16_at(block, 2),
            scales,
            mins,
            quants,
        }
    }
}

/// A Q6_K super-block: sixteen groups of 16 with w = (d*scale)*q, q from -32 to 31.
pub(crate) struct Q6K {
    pub d: f16,
    pub scales: [i8; 16],
    pub quants: [i8; SUPER_BLOCK],
}

impl Q6K {
    /// Takes 210 bytes apart: low nibbles, high bit pairs, scales, d.
    pub fn read(block: &[u8]) -> Q6K {
        let (low, high) = (&block[..128], &block[128..192]);
        let mut quants = [0; SUPER_BLOCK];
        for half in 0..2 {
            let (low, high) = (&low[half * 64..][..64], &high[half * 32..][..32]);
            let quants = &mut quants[half * 128..][..128];
            for index in 0..32 {
                let bits = high[index];
                let join = |low: u8, shift: u8| (low | (((bits >> shift) & 3) << 4)) as i8 - 32;
                quants[index] = join(low[index] & 0x0f, 0);
                quants[index + 32] = join(low[index + 32] & 0x0f, 2);
                quants[index + 64] = join(low[index] >> 4, 4);
                quants[index + 96] = join(low[index + 32] >> 4, 6);
            }
        }
        let mut scales = [0; 16];
        for (scale, &byte) in scales.iter_mut().zip(&block[192..208]) {
            *scale = byte as i8;
        }
        Q6K {
            d: f16_at(block, 208),
            scales,
            quants,
        }
    }
}
