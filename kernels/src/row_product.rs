//! A few rows times sixteen columns in f32, in registers: what [`crate::Linear`] and
//! [`crate::self_attention`] are made of.

use crate::InstructionSet;
use crate::lanes::{Chunk, LANES, Lanes};

/// Rows that are multiplied at once at most.
pub(crate) const ROWS_AT_ONCE_MAX: usize = 8;

/// Sixteen sums for each row.
pub(crate) type Sums = [Chunk; ROWS_AT_ONCE_MAX];

/// Rows of A, and sixteen columns of B.
#[derive(Clone, Copy)]
pub(crate) struct RowProduct<'a> {
    pub a: &'a [f32],
    /// From one row of A to the next.
    pub a_stride: usize,
    /// Columns of A, rows of B.
    pub depth: usize,
    pub b: &'a [Chunk],
    /// From one row of B to the next.
    pub b_stride: usize,
    pub ahead: Ahead,
}

/// What will be read next, and is fetched on the way: memory is slow and must not wait for the
/// arithmetic.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    from: *const u8,
    /// Bytes for each row of B.
    step: usize,
}

// === impl Ahead ===

impl Ahead {
    /// Nothing that would be worth it.
    pub const NOTHING: Ahead = Ahead {
        from: std::ptr::null(),
        step: 0,
    };

    /// The `index`th of `parts` equal parts of the `depth` chunks at `next`, which may be anywhere.
    pub fn part(next: *const Chunk, depth: usize, index: usize, parts: usize) -> Ahead {
        let bytes = size_of::<Chunk>();
        Ahead {
            from: next
                .cast::<u8>()
                .wrapping_add(depth * index / parts * bytes),
            step: bytes / parts,
        }
    }
}

/// How many rows fill the registers of a set: enough sums that none waits for another, few enough
/// that all of them have a register.
pub(crate) fn rows_at_once(set: InstructionSet) -> usize {
    match set {
        InstructionSet::Avx512 => 8,
        InstructionSet::Portable => 4,
        _ => 6,
    }
}

// === impl RowProduct ===

impl RowProduct<'_> {
    /// Sets the sums of the first `rows` rows, [`rows_at_once`] at most.
    ///
    /// # Panics
    /// If the processor lacks the set, or an operand is shorter than it must be.
    #[inline]
    pub fn multiply(&self, set: InstructionSet, rows: usize, sums: &mut Sums) {
        assert!(
            set.is_available(),
            "{set:?} is not available on this processor"
        );
        match rows {
            1 => self.multiply_some::<1>(set, sums),
            2 => self.multiply_some::<2>(set, sums),
            3 => self.multiply_some::<3>(set, sums),
            4 => self.multiply_some::<4>(set, sums),
            5 => self.multiply_some::<5>(set, sums),
            6 => self.multiply_some::<6>(set, sums),
            7 => self.multiply_some::<7>(set, sums),
            8 => self.multiply_some::<8>(set, sums),
            _ => panic!("{rows} rows are not 1 to {ROWS_AT_ONCE_MAX}"),
        }
    }

    #[inline(always)]
    fn multiply_some<const M: usize>(&self, set: InstructionSet, sums: &mut Sums) {
        // SAFETY: `multiply` has asserted that the processor has these features; `Chunk` needs
        // none.
        unsafe {
            match set {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 | InstructionSet::AvxVnni => self.multiply_avx2::<M>(sums),
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 => self.multiply_avx512::<M>(sums),
                #[cfg(target_arch = "aarch64")]
                InstructionSet::Neon | InstructionSet::NeonDot => {
                    self.multiply_each::<[std::arch::aarch64::float32x4_t; 4], M>(sums);
                }
                _ => self.multiply_each::<Chunk, M>(sums),
            }
        }
    }

    // Each number of rows has a function of its own: the loops together in one leave the compiler
    // with a sum in memory, which takes twice the time.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    #[inline(never)]
    unsafe fn multiply_avx2<const M: usize>(&self, sums: &mut Sums) {
        // SAFETY: the caller's promise.
        unsafe { self.multiply_each::<[std::arch::x86_64::__m256; 2], M>(sums) };
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
    #[inline(never)]
    unsafe fn multiply_avx512<const M: usize>(&self, sums: &mut Sums) {
        // SAFETY: the caller's promise.
        unsafe { self.multiply_each::<std::arch::x86_64::__m512, M>(sums) };
    }

    /// # Safety
    /// As for [`Lanes`].
    #[inline(always)]
    unsafe fn multiply_each<V: Lanes, const M: usize>(&self, sums: &mut Sums) {
        assert!(self.depth > 0 && self.a.len() >= (M - 1) * self.a_stride + self.depth);
        assert!(self.b.len() > (self.depth - 1) * self.b_stride);
        let rows: [*const f32; M] =
            std::array::from_fn(|m| self.a.as_ptr().wrapping_add(m * self.a_stride));
        // SAFETY: the assertions keep every access in bounds; the features are the caller's
        // promise.
        unsafe {
            let mut each = [V::splat(0.0); M];
            let (mut b, mut ahead) = (self.b.as_ptr(), self.ahead.from);
            for at in 0..self.depth {
                prefetch(ahead);
                let right = V::load(&*b);
                for (sum, row) in each.iter_mut().zip(rows) {
                    *sum = V::splat(*row.add(at)).mul_add(right, *sum);
                }
                // The last step ends beyond the slice without being read.
                b = b.wrapping_add(self.b_stride);
                ahead = ahead.wrapping_add(self.ahead.step);
            }
            for (out, sum) in sums.iter_mut().zip(each) {
                sum.store(out);
            }
        }
    }
}

/// Asks for a cache line, for the second level: the first is full of what is read now.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY: a hint that reads nothing, of any address, which every x86-64 processor has.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) };
}

/// Nothing: whether it helps has not been measured elsewhere.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn prefetch(_: *const u8) {}

/// `rows` in as few equal shares as [`rows_at_once`] allows: the `index`th of `parts`.
pub(crate) fn share(rows: usize, parts: usize, index: usize) -> std::ops::Range<usize> {
    rows * index / parts..rows * (index + 1) / parts
}

/// Elements as whole chunks, what is missing in the last one 0.
pub(crate) fn chunks_of(elements: usize) -> usize {
    elements.div_ceil(LANES)
}
