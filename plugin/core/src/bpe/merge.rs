//! The merge step: within one piece, the adjacent pair of lowest rank is joined, leftmost first,
//! until no pair has a rank.
//!
//! A piece is merged window by window, in memory that stays in the cache. Of a window's tokens all
//! but the last ones are settled, since only those may change with what follows, and the next
//! window begins with the last settled token. If that comes out of it again as its first one, what
//! both windows give is what merging all of their text gives. For neighbours in what merging gives
//! are also what merging the two alone gives, and so is every stretch of them; and let A and B be
//! texts, each merged alone, and let the last token of A and the first of B, merged alone together,
//! stay as they are: were there a merge across their border in AB, the first such would join parts
//! of just these two tokens, and no merge before it would have crossed their outer edges; so it
//! would happen in the two alone as well. Here A ends before the last settled token, which its own
//! last token stood beside before.
//!
//! Most pieces are shorter than one window. A window whose first token is another is begun one
//! token earlier, widened and merged with a heap, so that no input costs more than n log n.

use super::merge_long::LongWindow;
use super::merge_short::{self, ShortWindow};
use super::token_table::{NONE, TokenTable};
use crate::limits::BPE_WINDOW_BYTES;

/// So much of a window's end is not settled: one part in eight.
const UNSETTLED_SHARE: usize = 8;

/// What to merge: a part of a text, with the tokens of lower rank than `ranks`.
#[derive(Clone, Copy)]
pub(super) struct Merge<'a> {
    pub(super) table: &'a TokenTable,
    pub(super) text: &'a [u8],
    pub(super) ranks: u32,
}

/// Memory that is used again for every piece of a text.
#[derive(Debug, Default)]
pub(super) struct MergeScratch {
    window: Window,
    /// Where the tokens end that are settled.
    ends: Vec<usize>,
}

/// A stretch of text and where its tokens end.
#[derive(Debug, Default)]
struct Window {
    start: usize,
    end: usize,
    ends: Vec<usize>,
    short: ShortWindow,
    long: LongWindow,
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
        let MergeScratch { window, ends } = scratch;
        window.forget();
        if end - start <= merge_short::BYTES_MAX {
            window.merge(self, start, end);
            return &window.ends;
        }
        ends.clear();
        // Where the next window ends. It only grows, and grows whenever a window is of no use, so
        // there is an end to looking back.
        let mut reach = start + BPE_WINDOW_BYTES;
        while ends.len() <= limit {
            // The last settled token is merged again, to see whether it stays as it is.
            let known = ends.last().copied();
            let from = match ends.len() {
                0 | 1 => start,
                count => ends.get(count - 2).copied().unwrap_or(start),
            };
            let until = reach.min(end);
            window.merge(self, from, until);
            let holds = known.is_none() || window.ends.first().copied() == known;
            let found = window.ends.get(usize::from(known.is_some())..);
            let found = found.unwrap_or_default();
            if holds && until == end {
                ends.extend_from_slice(found);
                break;
            }
            // The last tokens of a window may change with what follows.
            let settled_until = until - ((until - from) / UNSETTLED_SHARE);
            let settled = found.partition_point(|end| *end <= settled_until);
            let last = found.get(..settled).and_then(<[usize]>::last);
            match last.filter(|_| holds) {
                Some(last) => {
                    // Wide enough for a few tokens such as these.
                    let wanted = (last - from).div_ceil(settled) * 4;
                    let before = settled.checked_sub(2).and_then(|at| found.get(at)).copied();
                    let next_from = before.or(known).unwrap_or(start);
                    reach = reach.max(next_from + wanted.max(BPE_WINDOW_BYTES));
                    ends.extend(found.iter().take(settled));
                }
                None => {
                    if !holds {
                        ends.pop();
                    }
                    reach = until + (until - from);
                }
            }
        }
        ends
    }

    /// The rank of `text[start..end]` if it may be merged into, or [`NONE`].
    #[inline]
    pub(super) fn rank(&self, start: usize, end: usize) -> u32 {
        match self.table.rank(self.text, start, end) {
            rank if rank < self.ranks => rank,
            _ => NONE,
        }
    }
}

impl Window {
    /// Is of no text any more.
    fn forget(&mut self) {
        (self.start, self.end) = (0, 0);
        self.ends.clear();
    }

    fn merge(&mut self, merge: &Merge<'_>, start: usize, end: usize) {
        let (bytes, before) = (end - start, self.end - self.start);
        let repeats =
            bytes == before && merge.text.get(start..end) == merge.text.get(self.start..self.end);
        if repeats && start >= self.start {
            // What repeats need not be merged again.
            let shift = start - self.start;
            self.ends.iter_mut().for_each(|end| *end += shift);
        } else {
            self.ends.clear();
            if bytes <= merge_short::BYTES_MAX {
                self.short.merge(merge, start, end, &mut self.ends);
            } else {
                self.long.merge(merge, start, end, &mut self.ends);
            }
        }
        (self.start, self.end) = (start, end);
    }
}
