//! Quantization of a row with AVX-512: a block is two registers.

use std::arch::x86_64::{
    __m512, _mm_storeu_si128, _mm512_add_epi32, _mm512_castps_si512, _mm512_cvtepi32_epi8,
    _mm512_cvtps_epi32, _mm512_loadu_ps, _mm512_max_epu32, _mm512_mul_ps, _mm512_reduce_add_epi32,
    _mm512_reduce_max_epu32, _mm512_set1_ps, _mm512_slli_epi32,
};

use super::{HALF_BLOCK, PanelMut, QuantizedBlock, scale_and_inverse};
use crate::block::BLOCK;

/// Quantizes one row of a panel from its values.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn write_row(panel: &mut PanelMut<'_>, row: usize, values: &[f32]) {
    panel.write_blocks(row, values, |values, quants| quantize_block(values, quants));
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn quantize_block(values: &[f32; BLOCK], quants: &mut [i8; BLOCK]) -> QuantizedBlock {
    let (low, high) = values.split_at(HALF_BLOCK);
    // SAFETY: sixteen elements each; the loads need no alignment.
    let (low, high) = unsafe {
        (
            _mm512_loadu_ps(low.as_ptr()),
            _mm512_loadu_ps(high.as_ptr()),
        )
    };
    // Shifting the sign out compares magnitudes as integers, as the portable version does.
    let magnitude = |x: __m512| _mm512_slli_epi32::<1>(_mm512_castps_si512(x));
    let largest = _mm512_reduce_max_epu32(_mm512_max_epu32(magnitude(low), magnitude(high)));
    let (scale, inverse) = scale_and_inverse(f32::from_bits(largest >> 1));
    // Conversion rounds to nearest, ties to even.
    let round = |x: __m512| _mm512_cvtps_epi32(_mm512_mul_ps(x, _mm512_set1_ps(inverse)));
    let halves = [round(low), round(high)];
    for (half, quants) in halves.iter().zip(quants.chunks_exact_mut(HALF_BLOCK)) {
        // SAFETY: sixteen bytes; the store needs no alignment.
        unsafe { _mm_storeu_si128(quants.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(*half)) };
    }
    let total = _mm512_reduce_add_epi32(_mm512_add_epi32(halves[0], halves[1]));
    let low = _mm512_reduce_add_epi32(halves[0]);
    QuantizedBlock {
        scale,
        sums: [low, total.wrapping_sub(low)],
    }
}
