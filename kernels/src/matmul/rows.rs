//! What the SIMD versions read: the rows of a block, and weights ahead of time.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use super::RowBlock;
use crate::block::BLOCK;
use crate::layout::VECTOR_BYTES;

/// Bytes by which weights are fetched ahead of use: the processor's own prefetcher stops at the end
/// of each page, and a tile of few rows is done before it has started again.
const PREFETCH_BYTES: usize = 4096;

/// Pointers to the first element of `M` neighbouring rows.
pub(super) struct Rows<const M: usize> {
    pub cols: usize,
    /// Blocks of 32 columns: each row has 32 quants, a scale, a sum, an offset and two half
    /// offsets for each.
    pub blocks: usize,
    pub values: [*const f32; M],
    pub quants: [*const i8; M],
    pub scales: [*const f32; M],
    pub sums: [*const f32; M],
    pub offsets: [*const i32; M],
    pub half_offsets: [*const i32; M],
}

impl<const M: usize> Rows<M> {
    /// The rows of `block` from its `skip`th on. Their extent is checked here.
    pub fn new(block: &RowBlock<'_>, skip: usize) -> Rows<M> {
        let (x, first, blocks) = (block.x, block.first + skip, block.x.blocks());
        let row = |index: usize, width: usize| (first + index) * width..(first + index + 1) * width;
        Rows {
            cols: x.cols(),
            blocks,
            values: std::array::from_fn(|m| x.values[row(m, blocks * BLOCK)].as_ptr()),
            quants: std::array::from_fn(|m| x.quants[row(m, blocks * BLOCK)].as_ptr()),
            scales: std::array::from_fn(|m| x.scales[row(m, blocks)].as_ptr()),
            sums: std::array::from_fn(|m| x.sums[row(m, blocks)].as_ptr()),
            offsets: std::array::from_fn(|m| x.offsets[row(m, blocks)].as_ptr()),
            half_offsets: std::array::from_fn(|m| x.half_offsets[row(m, 2 * blocks)].as_ptr()),
        }
    }
}

/// Asks for `VECTORS` cache lines that will be read a while after those at `weights`. Any address
/// is allowed.
#[inline(always)]
pub(super) fn prefetch<const VECTORS: usize>(weights: *const u8) {
    for vector in 0..VECTORS {
        let line = weights.wrapping_add(PREFETCH_BYTES + vector * VECTOR_BYTES);
        // SAFETY: a hint that reads nothing, which every x86-64 processor has.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
}
