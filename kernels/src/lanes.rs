//! Sixteen f32 side by side, the width that loops are written for; narrower registers take two
//! or four steps.

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::{float32x4_t, vdupq_n_f32, vfmaq_f32, vld1q_f32, vst1q_f32};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
};

/// Elements of one step.
pub(crate) const LANES: usize = 16;

/// One step's elements in memory.
pub(crate) type Chunk = [f32; LANES];

/// The sum of all lanes, in a fixed order: halves onto halves.
#[inline(always)]
pub(crate) fn sum_lanes(lanes: Chunk) -> f32 {
    let mut eight = [0.0; 8];
    for (index, sum) in eight.iter_mut().enumerate() {
        *sum = lanes[index] + lanes[index + 8];
    }
    let mut four = [0.0; 4];
    for (index, sum) in four.iter_mut().enumerate() {
        *sum = eight[index] + eight[index + 4];
    }
    (four[0] + four[2]) + (four[1] + four[3])
}

/// The second if it is larger, else the first: what is not a number is never larger.
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// The largest of all lanes, halves onto halves; of none but undefined ones, any.
#[inline(always)]
pub(crate) fn max_lanes(lanes: Chunk) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|lane| larger(lanes[lane], lanes[lane + 8]));
    let four: [f32; 4] = std::array::from_fn(|lane| larger(eight[lane], eight[lane + 4]));
    larger(larger(four[0], four[2]), larger(four[1], four[3]))
}

/// A chunk in registers.
///
/// # Safety
/// The processor must have the instructions of the implementing type, and the code that calls
/// these methods must be compiled for them, or each becomes a call.
pub(crate) trait Lanes: Copy {
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(chunk: &Chunk) -> Self;
    unsafe fn store(self, chunk: &mut Chunk);
    /// `self * other + sum`.
    unsafe fn mul_add(self, other: Self, sum: Self) -> Self;
}

impl Lanes for Chunk {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Chunk {
        [value; LANES]
    }

    #[inline(always)]
    unsafe fn load(chunk: &Chunk) -> Chunk {
        *chunk
    }

    #[inline(always)]
    unsafe fn store(self, chunk: &mut Chunk) {
        *chunk = self;
    }

    #[inline(always)]
    unsafe fn mul_add(self, other: Chunk, sum: Chunk) -> Chunk {
        std::array::from_fn(|lane| self[lane] * other[lane] + sum[lane])
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes for __m512 {
    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(chunk: &Chunk) -> __m512 {
        // SAFETY: sixteen elements; the load needs no alignment.
        unsafe { _mm512_loadu_ps(chunk.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn store(self, chunk: &mut Chunk) {
        // SAFETY: sixteen elements; the store needs no alignment.
        unsafe { _mm512_storeu_ps(chunk.as_mut_ptr(), self) };
    }

    #[inline(always)]
    unsafe fn mul_add(self, other: __m512, sum: __m512) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_fmadd_ps(self, other, sum) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes for [__m256; 2] {
    #[inline(always)]
    unsafe fn splat(value: f32) -> [__m256; 2] {
        // SAFETY: the caller's promise.
        [unsafe { _mm256_set1_ps(value) }; 2]
    }

    #[inline(always)]
    unsafe fn load(chunk: &Chunk) -> [__m256; 2] {
        // SAFETY: twice eight elements; the loads need no alignment.
        unsafe {
            [
                _mm256_loadu_ps(chunk.as_ptr()),
                _mm256_loadu_ps(chunk.as_ptr().add(8)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn store(self, chunk: &mut Chunk) {
        // SAFETY: twice eight elements; the stores need no alignment.
        unsafe {
            _mm256_storeu_ps(chunk.as_mut_ptr(), self[0]);
            _mm256_storeu_ps(chunk.as_mut_ptr().add(8), self[1]);
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, other: [__m256; 2], sum: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            [
                _mm256_fmadd_ps(self[0], other[0], sum[0]),
                _mm256_fmadd_ps(self[1], other[1], sum[1]),
            ]
        }
    }
}

#[cfg(target_arch = "aarch64")]
impl Lanes for [float32x4_t; 4] {
    #[inline(always)]
    unsafe fn splat(value: f32) -> [float32x4_t; 4] {
        // SAFETY: the caller's promise.
        [unsafe { vdupq_n_f32(value) }; 4]
    }

    #[inline(always)]
    unsafe fn load(chunk: &Chunk) -> [float32x4_t; 4] {
        // SAFETY: four times four elements.
        unsafe {
            [
                vld1q_f32(chunk.as_ptr()),
                vld1q_f32(chunk.as_ptr().add(4)),
                vld1q_f32(chunk.as_ptr().add(8)),
                vld1q_f32(chunk.as_ptr().add(12)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn store(self, chunk: &mut Chunk) {
        // SAFETY: four times four elements.
        unsafe {
            vst1q_f32(chunk.as_mut_ptr(), self[0]);
            vst1q_f32(chunk.as_mut_ptr().add(4), self[1]);
            vst1q_f32(chunk.as_mut_ptr().add(8), self[2]);
            vst1q_f32(chunk.as_mut_ptr().add(12), self[3]);
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, other: [float32x4_t; 4], sum: [float32x4_t; 4]) -> [float32x4_t; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            [
                vfmaq_f32(sum[0], self[0], other[0]),
                vfmaq_f32(sum[1], self[1], other[1]),
                vfmaq_f32(sum[2], self[2], other[2]),
                vfmaq_f32(sum[3], self[3], other[3]),
            ]
        }
    }
}
