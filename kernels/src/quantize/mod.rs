//! A row of f32 as blocks of GGML, the reverse of [`crate::dequantize_row`].
//!
//! The formats are GGML's (`ggml-common.h`); how scales are found is the encoder's own choice. Here
//! several scales are tried for each block, each is fitted to the quants that it leads to by least
//! squares, and the one with the least squared error is kept, as `make_qx_quants` and
//! `make_qkx2_quants` of `ggml-quants.c` do; quants are then rounded anew for the scale as f16
//! holds it.

mod affine;
mod q4_k;
mod symmetric;

use half::{bf16, f16};

use crate::{Dtype, KernelError};

/// Writes `values` in the format `dtype`.
///
/// # Errors
/// The format is one that is only read (Q5_0, Q6_K), the values are no whole blocks, `out` has
/// another length than they take, or a value is not finite in the format.
pub fn quantize_row(dtype: Dtype, values: &[f32], out: &mut [u8]) -> Result<(), KernelError> {
    let expected = dtype.row_bytes(values.len())?;
    if out.len() != expected {
        let actual = out.len();
        return Err(KernelError::ByteLength { expected, actual });
    }
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        return Err(KernelError::NotFinite { dtype, index });
    }
    let blocks = values
        .chunks_exact(dtype.block_len())
        .zip(out.chunks_exact_mut(dtype.block_bytes()));
    for (index, (values, out)) in blocks.enumerate() {
        let fits = match dtype {
            Dtype::F32 => put(Some(values[0].to_le_bytes()), out),
            Dtype::F16 => put(nearest(values[0]).map(f16::to_le_bytes), out),
            Dtype::BF16 => {
                let half = Some(bf16::from_f32(values[0])).filter(|half| half.is_finite());
                put(half.map(bf16::to_le_bytes), out)
            }
            Dtype::Q8_0 => symmetric::q8_0(values, out),
            Dtype::Q4_0 => symmetric::q4_0(values, out),
            Dtype::Q4_1 => affine::q4_1(values, out),
            Dtype::Q4K => q4_k::q4_k(values, out),
            Dtype::Q5_0 | Dtype::Q6K => return Err(KernelError::ReadOnly { dtype }),
        };
        if fits.is_none() {
            let index = index * dtype.block_len();
            return Err(KernelError::NotFinite { dtype, index });
        }
    }
    Ok(())
}

/// Writes an element, if there is one that fits.
fn put<const N: usize>(element: Option<[u8; N]>, out: &mut [u8]) -> Option<()> {
    out.copy_from_slice(&element?);
    Some(())
}

/// The nearest f16, unless it is infinite.
fn nearest(value: f32) -> Option<f16> {
    Some(f16::from_f32(value)).filter(|half| half.is_finite())
}

/// 32 quants of 4 bits: the first half in the low nibbles.
fn pack_nibbles(quants: &[u8], out: &mut [u8]) {
    let (low, high) = quants.split_at(quants.len() / 2);
    for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
        *out = low | (high << 4);
    }
}

/// The nearest integer to a small number, the even one of two. Where f32 has no bits left for
/// fractions, adding rounds; unlike `f32::round` that is no call for each value.
fn round_small(x: f32) -> f32 {
    const WHOLE: f32 = (3 << 22) as f32;
    (x + WHOLE) - WHOLE
}

/// `1 / x`, and 0 for 0: what a block of zeros is multiplied with.
fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}
