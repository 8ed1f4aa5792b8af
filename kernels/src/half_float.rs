//! Between f16, as bits, and f32.

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use crate::{HEAD_DIM_MAX, InstructionSet};

/// Rows of f16 in memory.
pub(crate) struct Rows {
    pub count: usize,
    /// Elements of a row.
    pub len: usize,
    /// From one row to the next.
    pub stride: usize,
}

/// Widens every row of `half` into `out`, whose rows are `out_stride` apart. Exact.
pub(crate) fn widen_rows(
    set: InstructionSet,
    half: &[u16],
    rows: &Rows,
    out: &mut [f32],
    out_stride: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if set == InstructionSet::Avx512 {
        assert!(
            set.is_available(),
            "{set:?} is not available on this processor"
        );
        // SAFETY: the assertion says that the processor has these features.
        return unsafe { widen_rows_avx512(half, rows, out, out_stride) };
    }
    #[cfg(target_arch = "aarch64")]
    if set != InstructionSet::Portable {
        return widen_rows_neon(half, rows, out, out_stride);
    }
    // The conversion of `half` looks for F16C itself.
    let _ = set;
    for row in 0..rows.count {
        let half: &[f16] = half[row * rows.stride..][..rows.len].reinterpret_cast();
        half.convert_to_f32_slice(&mut out[row * out_stride..][..rows.len]);
    }
}

/// Writes `values` to `half`, rounded to nearest. What is beyond f16 becomes its largest number:
/// an infinite key or value would make every later product undefined.
///
/// # Panics
/// If the lengths differ, or exceed [`HEAD_DIM_MAX`].
pub(crate) fn narrow(values: &[f32], half: &mut [u16]) {
    let mut clamped = [0.0; HEAD_DIM_MAX];
    let clamped = &mut clamped[..values.len()];
    for (clamped, value) in clamped.iter_mut().zip(values) {
        *clamped = value.clamp(f16::MIN.to_f32_const(), f16::MAX.to_f32_const());
    }
    half.reinterpret_cast_mut::<f16>()
        .convert_from_f32_slice(clamped);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn widen_rows_avx512(half: &[u16], rows: &Rows, out: &mut [f32], out_stride: usize) {
    use std::arch::x86_64::{_mm256_maskz_loadu_epi16, _mm512_cvtph_ps, _mm512_mask_storeu_ps};

    let last = rows.count.saturating_sub(1);
    assert!(
        half.len() >= last * rows.stride + rows.len && out.len() >= last * out_stride + rows.len
    );
    for row in 0..rows.count {
        for first in (0..rows.len).step_by(16) {
            let lanes = (rows.len - first).min(16);
            let mask = (u32::MAX >> (32 - lanes)) as u16;
            // SAFETY: the mask keeps both accesses within the row, which the assertion has placed
            // inside the slices; they need no alignment.
            unsafe {
                let half = half.as_ptr().add(row * rows.stride + first).cast();
                let wide = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, half));
                let out = out.as_mut_ptr().add(row * out_stride + first);
                _mm512_mask_storeu_ps(out, mask, wide);
            }
        }
    }
}

/// Every 64-bit ARM converts f16; `half` asks whether it computes with it, and does not if not.
#[cfg(target_arch = "aarch64")]
fn widen_rows_neon(half: &[u16], rows: &Rows, out: &mut [f32], out_stride: usize) {
    use std::arch::aarch64::{vcvt_f32_f16, vld1_u16, vreinterpret_f16_u16, vst1q_f32};

    for row in 0..rows.count {
        let (half, rest) = half[row * rows.stride..][..rows.len].as_chunks::<4>();
        let (out, last) = out[row * out_stride..][..rows.len].as_chunks_mut::<4>();
        for (half, out) in half.iter().zip(out) {
            // SAFETY: four elements each.
            unsafe {
                let wide = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(half.as_ptr())));
                vst1q_f32(out.as_mut_ptr(), wide);
            }
        }
        for (half, out) in rest.iter().zip(last) {
            *out = f16::from_bits(*half).to_f32();
        }
    }
}
