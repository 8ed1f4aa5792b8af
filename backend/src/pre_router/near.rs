//! Which known prompts are nearest to each of them, those of its own part left out.

use std::collections::BinaryHeap;

use farthing_kernels::{Activation, KernelError, Linear, ThreadPool};

/// Prompts whose neighbours are looked up at once.
const ROWS: usize = 64;

/// A known prompt near another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Near {
    pub cosine: f32,
    pub at: usize,
}

impl Eq for Near {}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Near) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The farther is the greater, so that a heap gives it up first.
impl Ord for Near {
    fn cmp(&self, other: &Near) -> std::cmp::Ordering {
        other
            .cosine
            .total_cmp(&self.cosine)
            .then(self.at.cmp(&other.at))
    }
}

/// For each vector the nearest of other parts, nearest first, `count` at most.
pub(super) fn nearest_of_others(
    pool: &ThreadPool,
    vectors: &[&[f32]],
    parts: &[usize],
    count: usize,
) -> Result<Vec<Vec<Near>>, KernelError> {
    let width = vectors.first().map_or(0, |vector| vector.len());
    let all = Linear::pack(&vectors.concat(), width, vec![0.0; vectors.len()])?;
    let mut found = Vec::with_capacity(vectors.len());
    let mut cosines = vec![0.0; ROWS * vectors.len()];
    for (some, own) in vectors.chunks(ROWS).zip(parts.chunks(ROWS)) {
        let cosines = &mut cosines[..some.len() * vectors.len()];
        all.apply(pool, &some.concat(), Activation::Identity, cosines);
        for (cosines, own) in cosines.chunks_exact(vectors.len()).zip(own) {
            let mut heap = BinaryHeap::with_capacity(count + 1);
            for (at, (cosine, part)) in cosines.iter().zip(parts).enumerate() {
                let near = Near {
                    cosine: *cosine,
                    at,
                };
                let is_nearer = heap.len() < count || heap.peek().is_some_and(|last| near < *last);
                if part != own && is_nearer {
                    heap.push(near);
                    if heap.len() > count {
                        heap.pop();
                    }
                }
            }
            found.push(heap.into_sorted_vec());
        }
    }
    Ok(found)
}
