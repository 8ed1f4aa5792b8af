//! Merging a short stretch of text: at each step the lowest rank is looked for in all of it, which
//! is quadratic, but over at most [`BYTES_MAX`] bytes.

use super::merge::Merge;
use super::token_table::NONE;

/// Bytes of the longest stretch. Below 256, because a position is kept beside its rank.
pub(super) const BYTES_MAX: usize = 64;
/// Most stretches are no longer than this.
const HALF: usize = BYTES_MAX / 2;

/// One byte each: tokens are known by where they start.
#[derive(Debug)]
pub(super) struct ShortWindow {
    /// For each token the rank of the pair that it begins, and below it its own position, so that
    /// the smallest is the leftmost of the lowest rank.
    pairs: [u32; BYTES_MAX],
    /// Where each token ends, which is where the next one starts.
    ends: [u8; BYTES_MAX],
    /// Where the one before each token starts.
    befores: [u8; BYTES_MAX],
}

impl Default for ShortWindow {
    fn default() -> Self {
        ShortWindow {
            pairs: [NONE; BYTES_MAX],
            ends: [0; BYTES_MAX],
            befores: [0; BYTES_MAX],
        }
    }
}

impl ShortWindow {
    /// Appends the ends of the tokens of `text[start..end]`.
    pub(super) fn merge(
        &mut self,
        merge: &Merge<'_>,
        start: usize,
        end: usize,
        out: &mut Vec<usize>,
    ) {
        let bytes = (end - start).min(BYTES_MAX);
        let places = self.ends.iter_mut().zip(&mut self.befores).take(bytes);
        for (at, (end, before)) in (0_u8..).zip(places) {
            (*end, *before) = (at.wrapping_add(1), at.wrapping_sub(1));
        }
        self.pairs = [NONE; BYTES_MAX];
        let firsts = bytes.saturating_sub(1);
        for (at, pair) in self.pairs.iter_mut().take(firsts).enumerate() {
            let from = start.wrapping_add(at);
            *pair = entry(merge.rank(from, from.wrapping_add(2)), at);
        }
        if bytes <= HALF {
            while let Some(at) = self.lowest::<HALF>() {
                self.join(merge, start, bytes, at);
            }
        } else {
            while let Some(at) = self.lowest::<BYTES_MAX>() {
                self.join(merge, start, bytes, at);
            }
        }
        let mut at = 0;
        while at < bytes {
            at = self.end_of(at);
            out.push(start.wrapping_add(at));
        }
    }

    /// The leftmost pair of the lowest rank.
    #[inline]
    fn lowest<const PAIRS: usize>(&self) -> Option<usize> {
        // A number that the compiler knows, so that it takes four at a time and never fewer.
        let pairs = self.pairs.first_chunk::<PAIRS>()?;
        let lowest = pairs.iter().fold(NONE, |lowest, pair| lowest.min(*pair));
        (lowest != NONE).then_some(lowest as usize & 0xff)
    }

    /// Joins the token at `at` with the next.
    fn join(&mut self, merge: &Merge<'_>, start: usize, bytes: usize, at: usize) {
        let middle = self.end_of(at);
        let end = self.end_of(middle);
        if let Some(slot) = self.ends.get_mut(at) {
            *slot = end as u8;
        }
        if let Some(slot) = self.pairs.get_mut(middle) {
            *slot = NONE;
        }
        let pair = if end < bytes {
            if let Some(slot) = self.befores.get_mut(end) {
                *slot = at as u8;
            }
            let from = start.wrapping_add(at);
            entry(merge.rank(from, start.wrapping_add(self.end_of(end))), at)
        } else {
            NONE
        };
        if let Some(slot) = self.pairs.get_mut(at) {
            *slot = pair;
        }
        let before = self
            .befores
            .get(at)
            .map_or(usize::MAX, |at| usize::from(*at));
        if let Some(slot) = self.pairs.get_mut(before).filter(|_| at > 0) {
            let from = start.wrapping_add(before);
            *slot = entry(merge.rank(from, start.wrapping_add(end)), before);
        }
    }

    #[inline]
    /// Where a token ends; past the stretch for one that is not in it.
    fn end_of(&self, at: usize) -> usize {
        self.ends
            .get(at)
            .map_or(usize::MAX, |end| usize::from(*end))
    }
}

fn entry(rank: u32, at: usize) -> u32 {
    if rank == NONE {
        NONE
    } else {
        rank << 8 | at as u32
    }
}
