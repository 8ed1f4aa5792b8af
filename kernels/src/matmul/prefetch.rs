//! Weights ahead of time.

#[cfg(target_arch = "x86_64")]
use crate::layout::VECTOR_BYTES;

/// Bytes by which weights are fetched ahead of use: the processor's own prefetcher stops at the end
/// of each page, and a tile of few rows is done before it has started again.
#[cfg(target_arch = "x86_64")]
const PREFETCH_BYTES: usize = 4096;

/// Asks for `VECTORS` cache lines that will be read a while after those at `weights`. Any address
/// is allowed.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn prefetch<const VECTORS: usize>(weights: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    for vector in 0..VECTORS {
        let line = weights.wrapping_add(PREFETCH_BYTES + vector * VECTOR_BYTES);
        // SAFETY: a hint that reads nothing, which every x86-64 processor has.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
}

/// Nothing: whether it helps has not been measured elsewhere.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn prefetch<const VECTORS: usize>(_: *const u8) {}
