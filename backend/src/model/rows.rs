//! Element-wise work on the rows of a packed batch, shared among threads when there is enough.

use std::sync::{Mutex, PoisonError};

use farthing_kernels::ThreadPool;

/// Elements below which forking costs more than it saves.
const PARALLEL_ELEMENTS_MIN: usize = 4_096;

/// Calls `work(index, row)` for each row of `x`, which has shape `[rows, width]`. A row's result
/// must not depend on who computes it.
pub(super) fn each_row(
    pool: &ThreadPool,
    x: &mut [f32],
    width: usize,
    work: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    let rows = x.len() / width;
    let share = if x.len() < PARALLEL_ELEMENTS_MIN {
        rows.max(1)
    } else {
        // Two shares a thread, so that one which loses its core delays the others by little.
        rows.div_ceil(pool.threads() * 2)
    };
    let run = |first: usize, part: &mut [f32]| {
        for (index, row) in part.chunks_exact_mut(width).enumerate() {
            work(first + index, row);
        }
    };
    if share >= rows {
        return run(0, x);
    }
    // Each part is locked once, by the one task that works on it.
    let parts: Vec<_> = x.chunks_mut(share * width).map(Mutex::new).collect();
    pool.run(parts.len(), &|task| {
        let mut part = parts[task].lock().unwrap_or_else(PoisonError::into_inner);
        run(task * share, &mut part);
    });
}
