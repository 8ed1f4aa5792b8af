//! Merging a stretch of text of any length with a heap of candidates: n log n.

use super::merge::Merge;
use super::token_table::NONE;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Tokens by number, and the merges that may come next.
#[derive(Debug, Default)]
pub(super) struct LongWindow {
    tokens: Vec<Token>,
    /// Lowest rank first, then leftmost: `rank << 32 | number`.
    heap: BinaryHeap<Reverse<u64>>,
}

/// One token, linked to its neighbours by their numbers. Numbers start at the first byte's and end
/// in a token of no bytes.
#[derive(Debug, Clone, Copy)]
struct Token {
    /// [`NONE`] once it was merged into the token to its left.
    start: u32,
    before: u32,
    after: u32,
    /// Rank of the pair that it begins.
    rank: u32,
}

impl LongWindow {
    /// Appends the ends of the tokens of `text[start..end]`.
    pub(super) fn merge(
        &mut self,
        merge: &Merge<'_>,
        start: usize,
        end: usize,
        out: &mut Vec<usize>,
    ) {
        let bytes = end - start;
        self.tokens.clear();
        self.tokens.extend((0..=bytes).map(|at| Token {
            start: at as u32,
            before: (at as u32).wrapping_sub(1),
            after: at as u32 + 1,
            rank: if at + 2 <= bytes {
                merge.rank(start + at, start + at + 2)
            } else {
                NONE
            },
        }));
        let mut candidates = std::mem::take(&mut self.heap).into_vec();
        candidates.clear();
        let ranked = self.tokens.iter().filter(|token| token.rank != NONE);
        candidates.extend(ranked.map(|token| Reverse(candidate(token.rank, token.start))));
        self.heap = BinaryHeap::from(candidates);
        while let Some(Reverse(entry)) = self.heap.pop() {
            let (rank, at) = ((entry >> 32) as u32, entry as u32);
            let current = self.token(at).is_some_and(|token| token.rank == rank);
            if current && let Some(before) = self.join(at) {
                self.find(merge, start, before);
                self.find(merge, start, at);
            }
        }
        let kept = self
            .tokens
            .iter()
            .skip(1)
            .filter(|token| token.start != NONE);
        out.extend(kept.map(|token| start + token.start as usize));
    }

    fn token(&self, at: u32) -> Option<Token> {
        self.tokens.get(at as usize).copied()
    }

    /// Joins a token with the one after it; says which one stands before them.
    fn join(&mut self, at: u32) -> Option<u32> {
        let left = self.token(at)?;
        let right = self.token(left.after)?;
        let merged = self.tokens.get_mut(left.after as usize)?;
        (merged.start, merged.rank) = (NONE, NONE);
        self.tokens.get_mut(at as usize)?.after = right.after;
        self.tokens.get_mut(right.after as usize)?.before = at;
        Some(left.before)
    }

    /// Finds the rank of the pair that a token begins.
    fn find(&mut self, merge: &Merge<'_>, start: usize, at: u32) {
        let rank = self.pair_end(at).map_or(NONE, |end| {
            merge.rank(start + at as usize, start + end as usize)
        });
        if let Some(token) = self.tokens.get_mut(at as usize) {
            token.rank = rank;
            if rank != NONE {
                self.heap.push(Reverse(candidate(rank, at)));
            }
        }
    }

    /// Where the pair that a token begins ends.
    fn pair_end(&self, at: u32) -> Option<u32> {
        let next = self.token(self.token(at)?.after)?;
        Some(self.token(next.after)?.start)
    }
}

fn candidate(rank: u32, at: u32) -> u64 {
    u64::from(rank) << 32 | u64::from(at)
}
