//! A tensor row as f32, with GGML's own arithmetic, bit for bit.
//!
//! Used for embedding look-ups and as the yardstick of the packed weights.

use half::{bf16, f16};

use crate::block::{self, BLOCK, Q4K, Q6K, SUPER_BLOCK, f16_at};
use crate::{Dtype, KernelError};

/// Writes the `out.len()` elements that `bytes` hold in the format `dtype`.
///
/// # Errors
/// `out` is no whole number of blocks, or `bytes` does not have the length of those blocks.
pub fn dequantize_row(dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> Result<(), KernelError> {
    let expected = dtype.row_bytes(out.len())?;
    if bytes.len() != expected {
        return Err(KernelError::ByteLength {
            expected,
            actual: bytes.len(),
        });
    }
    let blocks = bytes.chunks_exact(dtype.block_bytes());
    for (block, out) in blocks.zip(out.chunks_exact_mut(dtype.block_len())) {
        match dtype {
            Dtype::F32 => out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
            Dtype::F16 => out[0] = f16_at(block, 0).to_f32(),
            Dtype::BF16 => out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
            Dtype::Q4_0 => nibble_block(f16_at(block, 0), None, &block[2..], out),
            Dtype::Q4_1 => nibble_block(f16_at(block, 0), Some(f16_at(block, 2)), &block[4..], out),
            Dtype::Q5_0 => signed_block(block, block::q5_0, out),
            Dtype::Q8_0 => signed_block(block, block::q8_0, out),
            Dtype::Q4K => q4_k(&Q4K::read(block), out),
            Dtype::Q6K => q6_k(&Q6K::read(block), out),
        }
    }
    Ok(())
}

/// Q4_1: w = d*q + m; Q4_0, which has no minimum: w = d*(q - 8).
fn nibble_block(d: f16, min: Option<f16>, packed: &[u8], out: &mut [f32]) {
    let mut quants = [0; BLOCK];
    block::nibbles(packed, &mut quants);
    let d = d.to_f32();
    for (out, quant) in out.iter_mut().zip(quants) {
        *out = match min {
            Some(min) => f32::from(quant) * d + min.to_f32(),
            None => f32::from(quant as i8 - 8) * d,
        };
    }
}

/// Q5_0 and Q8_0: w = d*q.
fn signed_block(block: &[u8], read: fn(&[u8], &mut [i8; BLOCK]) -> f16, out: &mut [f32]) {
    let mut quants = [0; BLOCK];
    let d = read(block, &mut quants).to_f32();
    for (out, quant) in out.iter_mut().zip(quants) {
        *out = f32::from(quant) * d;
    }
}

fn q4_k(block: &Q4K, out: &mut [f32]) {
    let (d, d_min) = (block.d.to_f32(), block.d_min.to_f32());
    let groups = out
        .chunks_exact_mut(BLOCK)
        .zip(block.quants.chunks_exact(BLOCK));
    for ((out, quants), (&scale, &min)) in groups.zip(block.scales.iter().zip(&block.mins)) {
        let (scale, min) = (d * f32::from(scale), d_min * f32::from(min));
        for (out, &quant) in out.iter_mut().zip(quants) {
            *out = scale * f32::from(quant) - min;
        }
    }
}

fn q6_k(block: &Q6K, out: &mut [f32]) {
    let d = block.d.to_f32();
    let group_len = SUPER_BLOCK / block.scales.len();
    let groups = out
        .chunks_exact_mut(group_len)
        .zip(block.quants.chunks_exact(group_len));
    for ((out, quants), &scale) in groups.zip(&block.scales) {
        let scale = d * f32::from(scale);
        for (out, &quant) in out.iter_mut().zip(quants) {
            *out = scale * f32::from(quant);
        }
    }
}
