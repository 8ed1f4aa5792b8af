//! C += A B for the small matrices of one attention tile: scores are queries times keys, results
//! are weights times values.

use crate::lanes::{Chunk, LANES, Lanes};

/// Chunks of C that are summed in registers at once.
pub(super) const CHUNKS: usize = 2;

/// The operands of one product: `rows` rows of A, each `depth` long.
pub(super) struct Product<'a> {
    pub a: &'a [f32],
    /// From one row of A to the next.
    pub a_stride: usize,
    pub b: &'a [Chunk],
    /// From one row of B to the next, in chunks.
    pub b_stride: usize,
    pub depth: usize,
}

impl Product<'_> {
    /// Adds the product to `M` rows of `c`, each `c_stride` chunks, an even number.
    ///
    /// # Safety
    /// As for [`Lanes`].
    #[inline(always)]
    pub unsafe fn add_to<V: Lanes, const M: usize>(&self, c: &mut [Chunk], c_stride: usize) {
        assert!(self.depth > 0 && self.a.len() >= (M - 1) * self.a_stride + self.depth);
        assert!(self.b.len() >= (self.depth - 1) * self.b_stride + c_stride);
        assert!(c.len() >= M * c_stride && c_stride.is_multiple_of(CHUNKS));
        for first in (0..c_stride).step_by(CHUNKS) {
            // SAFETY: the assertions keep every access in bounds; the features are the caller's
            // promise.
            unsafe {
                let mut sums = [[V::splat(0.0); CHUNKS]; M];
                let mut b = self.b.as_ptr().add(first);
                let mut a = self.a.as_ptr();
                for _ in 0..self.depth {
                    let right: [V; CHUNKS] = std::array::from_fn(|n| V::load(&*b.add(n)));
                    for (m, sums) in sums.iter_mut().enumerate() {
                        let left = V::splat(*a.add(m * self.a_stride));
                        for (sum, right) in sums.iter_mut().zip(right) {
                            *sum = left.mul_add(right, *sum);
                        }
                    }
                    // The last step ends beyond the slices without being read.
                    b = b.wrapping_add(self.b_stride);
                    a = a.wrapping_add(1);
                }
                for (m, sums) in sums.into_iter().enumerate() {
                    for (n, sum) in sums.into_iter().enumerate() {
                        let c = &mut *c.as_mut_ptr().add(m * c_stride + first + n);
                        sum.mul_add(V::splat(1.0), V::load(c)).store(c);
                    }
                }
            }
        }
    }
}

/// Chunks that `elements` take, rounded up to what [`Product::add_to`] sums at once.
pub(super) fn chunks_of(elements: usize) -> usize {
    elements.div_ceil(LANES * CHUNKS) * CHUNKS
}
