//! The merge step: within one piece, the adjacent pair of lowest rank is joined, leftmost first,
//! until no pair has a rank.
//!
//! A short piece is swept: one pass joins every pair of the lowest rank (a join makes only pairs of
//! higher ranks, so the order is kept) and finds the next rank. Where sweeps join little, a heap
//! takes over, so that no input costs more than n log n.
//!
//! A long piece is merged window by window, in memory that stays in the cache. What a window gives
//! is the piece's own result up to the window's last tokens, if its first token does not merge with
//! the token before it. That is enough: let A and B be texts, each merged alone, and let the last
//! token of A and the first of B, merged alone together, stay as they are. Were there a merge across
//! their border in AB, the first such would join parts of just these two tokens, and no merge before
//! it would have crossed their outer edges; so it would happen in the two alone as well.

use super::token_table::{NONE, TokenTable};
use crate::limits::{BPE_SWEPT_BYTES, BPE_WINDOW_BYTES};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What to merge: a part of a text, with the tokens of lower rank than `ranks`.
#[derive(Clone, Copy)]
pub(super) struct Merge<'a> {
    pub(super) table: &'a TokenTable,
    pub(super) text: &'a [u8],
    pub(super) ranks: u32,
}

/// Tokens of a stretch of text.
#[derive(Debug, Default)]
struct Symbols {
    /// Where each starts, and at last where the last one ends.
    starts: Vec<usize>,
    /// Rank of the pair that each begins; that of the last is [`NONE`].
    ranks: Vec<u32>,
    links: Vec<Links>,
    /// Candidate merges, lowest rank first, then leftmost: `rank << 32 | position`.
    heap: BinaryHeap<Reverse<u64>>,
}

/// The neighbours of a token while the heap is used. One that was merged into the token to its left
/// has itself as its neighbour to the right.
#[derive(Debug, Clone, Copy)]
struct Links {
    before: u32,
    after: u32,
}

/// Memory that is used again for every piece of a text.
#[derive(Debug, Default)]
pub(super) struct MergeScratch {
    symbols: Symbols,
    /// The two tokens at a border.
    border: Symbols,
    /// Where the tokens end that are settled.
    ends: Vec<usize>,
}

impl Merge<'_> {
    /// The ends of the tokens of `text[start..end]`; stops early once there are more than `limit`.
    pub(super) fn ends<'s>(
        &self,
        start: usize,
        end: usize,
        limit: usize,
        scratch: &'s mut MergeScratch,
    ) -> &'s [usize] {
        let MergeScratch {
            symbols,
            border,
            ends,
        } = scratch;
        if end - start <= BPE_WINDOW_BYTES {
            self.merge(start, end, symbols);
            return symbols.starts.get(1..).unwrap_or_default();
        }
        ends.clear();
        let mut window_bytes = BPE_WINDOW_BYTES;
        while ends.len() <= limit {
            let from = ends.last().copied().unwrap_or(start);
            let until = from.saturating_add(window_bytes).min(end);
            self.merge(from, until, symbols);
            let found = symbols.starts.get(1..).unwrap_or_default();
            let joins = self.stays_apart(ends, start, found.first().copied(), border);
            if joins && until == end {
                ends.extend_from_slice(found);
                break;
            }
            // The last tokens of a window may change with what follows.
            let settled_until = until - window_bytes / 4;
            let settled = found.partition_point(|end| *end <= settled_until);
            if joins && settled > 0 {
                ends.extend(found.iter().take(settled));
                window_bytes = (window_bytes / 2).max(BPE_WINDOW_BYTES);
            } else {
                if !joins {
                    ends.pop();
                }
                window_bytes *= 2;
            }
        }
        ends
    }

    /// Do the last settled token and the one that ends at `next_end` stay as they are?
    fn stays_apart(
        &self,
        ends: &[usize],
        start: usize,
        next_end: Option<usize>,
        border: &mut Symbols,
    ) -> bool {
        let (Some((&middle, before)), Some(next_end)) = (ends.split_last(), next_end) else {
            return true;
        };
        let from = before.last().copied().unwrap_or(start);
        self.merge(from, next_end, border);
        border.starts.as_slice() == [from, middle, next_end]
    }

    fn rank(&self, start: usize, end: usize) -> u32 {
        match self.table.rank(self.text, start, end) {
            rank if rank < self.ranks => rank,
            _ => NONE,
        }
    }

    fn merge(&self, start: usize, end: usize, symbols: &mut Symbols) {
        symbols.starts.clear();
        symbols.starts.extend(start..=end);
        symbols.ranks.clear();
        let pairs = start..(end - 1).max(start);
        symbols.ranks.extend(pairs.map(|at| self.rank(at, at + 2)));
        symbols.ranks.push(NONE);
        loop {
            let lowest = symbols.ranks.iter().copied().min().unwrap_or(NONE);
            if lowest == NONE {
                return;
            }
            let before = symbols.ranks.len();
            self.sweep(lowest, symbols);
            let joined = before - symbols.ranks.len();
            if before > BPE_SWEPT_BYTES && joined < before / 8 {
                return self.merge_with_heap(symbols);
            }
        }
    }

    /// Joins every pair of this rank, from left to right.
    fn sweep(&self, lowest: u32, symbols: &mut Symbols) {
        let Symbols { starts, ranks, .. } = symbols;
        let (mut read, mut write) = (0_usize, 0_usize);
        while let Some((&rank, &start)) = ranks.get(read).zip(starts.get(read)) {
            let mut kept = rank;
            if rank == lowest {
                read += 1;
                let end = starts.get(read + 1).copied().unwrap_or_default();
                kept = match starts.get(read + 2) {
                    Some(next_end) => self.rank(start, *next_end),
                    None => NONE,
                };
                let before = write.wrapping_sub(1);
                if let Some((rank, from)) = ranks.get_mut(before).zip(starts.get(before)) {
                    *rank = self.rank(*from, end);
                }
            }
            if let Some((rank, slot)) = ranks.get_mut(write).zip(starts.get_mut(write)) {
                (*rank, *slot) = (kept, start);
            }
            read += 1;
            write += 1;
        }
        let end = starts.last().copied().unwrap_or_default();
        starts.truncate(write);
        starts.push(end);
        ranks.truncate(write);
    }

    fn merge_with_heap(&self, symbols: &mut Symbols) {
        let Symbols {
            starts,
            ranks,
            links,
            heap,
        } = symbols;
        let count = ranks.len() as u32;
        links.clear();
        links.extend((0..count).map(|at| Links {
            before: at.wrapping_sub(1),
            after: at + 1,
        }));
        let mut candidates = std::mem::take(heap).into_vec();
        candidates.clear();
        let ranked = (0..).zip(ranks.iter()).filter(|(_, rank)| **rank != NONE);
        candidates.extend(ranked.map(|(at, rank)| Reverse(candidate(*rank, at))));
        *heap = BinaryHeap::from(candidates);
        while let Some(Reverse(entry)) = heap.pop() {
            let (rank, at) = ((entry >> 32) as u32, entry as u32);
            if ranks.get(at as usize) != Some(&rank) {
                continue;
            }
            let Some(before) = join(links, ranks, at) else {
                continue;
            };
            for left in [before, at] {
                let rank = self.pair_rank(starts, links, left);
                if let Some(slot) = ranks.get_mut(left as usize) {
                    *slot = rank;
                    if rank != NONE {
                        heap.push(Reverse(candidate(rank, left)));
                    }
                }
            }
        }
        let end = starts.last().copied().unwrap_or_default();
        let mut at = 0;
        starts.retain(|_| {
            let kept = links.get(at).is_some_and(|links| links.after != at as u32);
            at += 1;
            kept
        });
        starts.push(end);
    }

    /// The rank of the pair that starts at `at`.
    fn pair_rank(&self, starts: &[usize], links: &[Links], at: u32) -> u32 {
        let end_of = |at: u32| {
            let links = links.get(at as usize)?;
            let end = starts.get(links.after as usize)?;
            Some((links.after, *end))
        };
        let pair = starts.get(at as usize).zip(end_of(at));
        let Some((start, (next, _))) = pair else {
            return NONE;
        };
        end_of(next).map_or(NONE, |(_, end)| self.rank(*start, end))
    }
}

/// Joins the token at `at` with the one after it; says which one stands before them.
fn join(links: &mut [Links], ranks: &mut [u32], at: u32) -> Option<u32> {
    let left = *links.get(at as usize)?;
    let right = *links.get(left.after as usize)?;
    links.get_mut(left.after as usize)?.after = left.after;
    *ranks.get_mut(left.after as usize)? = NONE;
    links.get_mut(at as usize)?.after = right.after;
    if let Some(next) = links.get_mut(right.after as usize) {
        next.before = at;
    }
    Some(left.before)
}

fn candidate(rank: u32, at: u32) -> u64 {
    u64::from(rank) << 32 | u64::from(at)
}
