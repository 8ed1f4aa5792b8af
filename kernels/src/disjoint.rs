//! One output buffer that the tasks of a run write side by side.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice whose parts may be borrowed by several threads, if no two parts overlap.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: `slice` hands out parts that its callers keep apart, so sharing the whole is like
// sending each part to the thread that uses it.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub fn new(whole: &'a mut [T]) -> Disjoint<'a, T> {
        Disjoint {
            start: whole.as_mut_ptr(),
            len: whole.len(),
            borrow: PhantomData,
        }
    }

    /// The part `range`.
    ///
    /// # Safety
    /// No two parts that are alive at once may overlap.
    #[allow(
        clippy::mut_from_ref,
        reason = "parts are disjoint, as the contract says"
    )]
    pub unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "part out of bounds"
        );
        // SAFETY: in bounds by the assertion, exclusive by the contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
