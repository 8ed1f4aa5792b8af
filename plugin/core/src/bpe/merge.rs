//! The merge step: within one piece, the adjacent pair of lowest rank is joined, leftmost first,
//! until no pair has a rank.
//!
//! Two ways to the same result. A short piece (nearly all of them) scans its pairs for the lowest
//! rank at each merge: quadratic, but over at most [`BPE_SHORT_PIECE_BYTES`] bytes. A long piece
//! keeps the pairs in a heap and the tokens in a linked list: O(n log n) on any input, so a
//! mebibyte of underscores costs little more a byte than prose.

use crate::limits::BPE_SHORT_PIECE_BYTES;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No merge, no neighbour, or a token that was merged into the one to its left.
const NONE: u32 = u32::MAX;

/// `left` followed by `right` becomes `merged`; the rank is the position in the table.
#[derive(Debug, Clone, Copy)]
struct Rule {
    left: u32,
    right: u32,
    merged: u32,
}

/// All merges by rank, and the rank of a pair: 20 bytes a merge.
#[derive(Debug)]
pub(super) struct MergeTable {
    rules: Vec<Rule>,
    /// Ranks by hash of the pair, open addressing with linear probing, at most half full.
    slots: Vec<u32>,
}

/// One token of a short piece, with the rank of the pair that it starts.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    id: u32,
    rank: u32,
}

/// One token of a long piece, linked to its neighbours.
#[derive(Debug, Clone, Copy)]
struct Node {
    id: u32,
    previous: u32,
    next: u32,
}

/// Memory that is used again for every piece of a text.
#[derive(Debug, Default)]
pub(super) struct MergeScratch {
    symbols: Vec<Symbol>,
    nodes: Vec<Node>,
    /// Candidate merges, lowest rank first, then leftmost: `rank << 32 | position`.
    heap: BinaryHeap<Reverse<u64>>,
}

impl MergeTable {
    /// An empty table with room for `merges` entries.
    pub(super) fn with_capacity(merges: usize) -> MergeTable {
        let slots = vec![NONE; (merges * 2).next_power_of_two().max(2)];
        MergeTable {
            rules: Vec::with_capacity(merges),
            slots,
        }
    }

    /// Appends the merge of the next rank. A pair that already has a rank keeps it, and so does a
    /// table that is full.
    pub(super) fn insert(&mut self, left: u32, right: u32, merged: u32) {
        let rank = self.rules.len();
        if rank * 2 >= self.slots.len() || self.rank(left, right) != NONE {
            // The rank is used up all the same: ranks are positions in the list of merges.
            self.rules.push(Rule {
                left: NONE,
                right: NONE,
                merged: NONE,
            });
            return;
        }
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash(left, right) & mask;
        while self.slots.get(at).is_some_and(|slot| *slot != NONE) {
            at = (at + 1) & mask;
        }
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = rank as u32;
        }
        self.rules.push(Rule {
            left,
            right,
            merged,
        });
    }

    /// The rank of a pair, `NONE` (higher than every rank) when it does not merge.
    fn rank(&self, left: u32, right: u32) -> u32 {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash(left, right) & mask;
        while let Some(&rank) = self.slots.get(at) {
            match self.rules.get(rank as usize) {
                Some(rule) if rule.left == left && rule.right == right => return rank,
                Some(_) => at = (at + 1) & mask,
                None => return NONE,
            }
        }
        NONE
    }

    /// Merges the tokens of one piece (at first its single bytes) and appends the result to `out`.
    pub(super) fn merge(
        &self,
        ids: impl Iterator<Item = u32>,
        scratch: &mut MergeScratch,
        out: &mut Vec<u32>,
    ) {
        let symbols = &mut scratch.symbols;
        symbols.clear();
        for id in ids {
            if let Some(last) = symbols.last_mut() {
                last.rank = self.rank(last.id, id);
            }
            symbols.push(Symbol { id, rank: NONE });
        }
        if symbols.len() <= BPE_SHORT_PIECE_BYTES {
            self.merge_short(symbols);
            out.extend(symbols.iter().map(|symbol| symbol.id));
        } else {
            self.merge_long(scratch);
            out.extend(
                scratch
                    .nodes
                    .iter()
                    .map(|node| node.id)
                    .filter(|id| *id != NONE),
            );
        }
    }

    fn merge_short(&self, symbols: &mut Vec<Symbol>) {
        loop {
            let ranks = symbols.iter().map(|symbol| symbol.rank).enumerate();
            let Some((at, rank)) = ranks.min_by_key(|(_, rank)| *rank) else {
                return;
            };
            let Some(rule) = self.rules.get(rank as usize) else {
                return;
            };
            symbols.remove(at + 1);
            let after = symbols
                .get(at + 1)
                .map_or(NONE, |right| self.rank(rule.merged, right.id));
            if let Some(symbol) = symbols.get_mut(at) {
                *symbol = Symbol {
                    id: rule.merged,
                    rank: after,
                };
            }
            if let Some(before) = at.checked_sub(1).and_then(|at| symbols.get_mut(at)) {
                before.rank = self.rank(before.id, rule.merged);
            }
        }
    }

    fn merge_long(&self, scratch: &mut MergeScratch) {
        let MergeScratch {
            symbols,
            nodes,
            heap,
        } = scratch;
        nodes.clear();
        nodes.extend(
            (0..)
                .zip(symbols.iter())
                .map(|(at, symbol): (u32, _)| Node {
                    id: symbol.id,
                    previous: at.wrapping_sub(1),
                    next: at.wrapping_add(1),
                }),
        );
        let candidates = (0..)
            .zip(symbols.iter())
            .filter(|(_, symbol)| symbol.rank != NONE);
        let mut entries = std::mem::take(heap).into_vec();
        entries.clear();
        entries.extend(candidates.map(|(at, symbol)| Reverse(candidate(symbol.rank, at))));
        *heap = BinaryHeap::from(entries);
        while let Some(Reverse(entry)) = heap.pop() {
            let (rank, at) = ((entry >> 32) as u32, entry as u32);
            let Some(merged) = self.join(nodes, rank, at) else {
                continue;
            };
            for left in [merged.previous, at] {
                let rank = self.pair_rank(nodes, left);
                if rank != NONE {
                    heap.push(Reverse(candidate(rank, left)));
                }
            }
        }
    }

    /// Applies the merge of `rank` at `at`, if the pair there still is the one it was found for.
    fn join(&self, nodes: &mut [Node], rank: u32, at: u32) -> Option<Node> {
        let rule = self.rules.get(rank as usize)?;
        let left = *nodes.get(at as usize)?;
        let right = *nodes.get(left.next as usize)?;
        if (left.id, right.id) != (rule.left, rule.right) {
            return None;
        }
        let merged = Node {
            id: rule.merged,
            previous: left.previous,
            next: right.next,
        };
        *nodes.get_mut(at as usize)? = merged;
        nodes.get_mut(left.next as usize)?.id = NONE;
        if let Some(after) = nodes.get_mut(right.next as usize) {
            after.previous = at;
        }
        Some(merged)
    }

    /// The rank of the pair that starts at `at`.
    fn pair_rank(&self, nodes: &[Node], at: u32) -> u32 {
        let Some(left) = nodes.get(at as usize) else {
            return NONE;
        };
        let Some(right) = nodes.get(left.next as usize) else {
            return NONE;
        };
        self.rank(left.id, right.id)
    }
}

fn candidate(rank: u32, at: u32) -> u64 {
    u64::from(rank) << 32 | u64::from(at)
}

/// Fibonacci hashing of the pair (Knuth, The Art of Computer Programming, 6.4).
fn hash(left: u32, right: u32) -> usize {
    let key = u64::from(left) << 32 | u64::from(right);
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}
