//! Where tokens of more than a few bytes lie, by their hash. An entry says all that is needed to
//! compare the bytes, so that a token is found with two looks into memory.

/// Slots for each three tokens.
const SLOTS_PER_THREE_TOKENS: usize = 4;
const EMPTY: u64 = u64::MAX;

// An entry is, from below: rank, bytes, start, and a part of the hash.
/// [`crate::limits::MODEL_VOCAB_MAX`]
const RANK_BITS: u32 = 20;
const LENGTH_BITS: u32 = 8;
/// [`crate::limits::BPE_VOCABULARY_BYTES_MAX`]
const START_BITS: u32 = 26;
const TAG_BITS: u32 = 10;

const LENGTH_SHIFT: u32 = RANK_BITS;
const START_SHIFT: u32 = LENGTH_SHIFT + LENGTH_BITS;
const TAG_SHIFT: u32 = START_SHIFT + START_BITS;

/// A token: its rank, and where its bytes are among those of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) rank: u32,
    pub(super) start: usize,
    pub(super) bytes: usize,
}

/// Open addressing with linear probing.
#[derive(Debug)]
pub(super) struct LongTokens(Vec<u64>);

impl LongTokens {
    pub(super) fn with_capacity(tokens: usize) -> LongTokens {
        // One slot stays empty however few there are, or a search for what is not there would not
        // end.
        let slots = (tokens * SLOTS_PER_THREE_TOKENS / 3).max(tokens + 1);
        LongTokens(vec![EMPTY; slots])
    }

    /// Enters a token whose bytes no other has.
    pub(super) fn insert(&mut self, hash: u64, place: Place) {
        let mut at = self.home(hash);
        // There are more slots than tokens.
        while self.0.get(at).is_some_and(|slot| *slot != EMPTY) {
            at = self.after(at);
        }
        if let Some(slot) = self.0.get_mut(at) {
            *slot = entry(hash, place);
        }
    }

    /// The token of this hash and so many bytes that `is_spelled` says is the one.
    #[inline]
    pub(super) fn find(
        &self,
        hash: u64,
        bytes: usize,
        is_spelled: impl Fn(Place) -> bool,
    ) -> Option<Place> {
        let mut at = self.home(hash);
        while let Some(&entry) = self.0.get(at) {
            if entry == EMPTY {
                return None;
            }
            if entry >> TAG_SHIFT == tag(hash) {
                let place = place(entry);
                if place.bytes == bytes && is_spelled(place) {
                    return Some(place);
                }
            }
            at = self.after(at);
        }
        None
    }

    /// Takes a token out: searches go on behind it, and it has no bytes to be found by.
    pub(super) fn forget(&mut self, hash: u64, place: Place) {
        let forgotten = entry(hash, Place { bytes: 0, ..place });
        let entry = entry(hash, place);
        let mut at = self.home(hash);
        while let Some(slot) = self.0.get_mut(at).filter(|slot| **slot != EMPTY) {
            if *slot == entry {
                *slot = forgotten;
                return;
            }
            at = self.after(at);
        }
    }

    /// Where the search for a hash begins: its upper half, scaled to the slots.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.0.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, slot: usize) -> usize {
        let next = slot.wrapping_add(1);
        if next == self.0.len() { 0 } else { next }
    }
}

/// The part of a hash that an entry keeps.
#[inline]
fn tag(hash: u64) -> u64 {
    hash >> 12 & ((1 << TAG_BITS) - 1)
}

fn entry(hash: u64, place: Place) -> u64 {
    tag(hash) << TAG_SHIFT
        | (place.start as u64) << START_SHIFT
        | (place.bytes as u64) << LENGTH_SHIFT
        | u64::from(place.rank)
}

#[inline]
fn place(entry: u64) -> Place {
    let field = |shift: u32, bits: u32| entry >> shift & ((1 << bits) - 1);
    Place {
        rank: field(0, RANK_BITS) as u32,
        start: field(START_SHIFT, START_BITS) as usize,
        bytes: field(LENGTH_SHIFT, LENGTH_BITS) as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::{LongTokens, Place};

    /// Searches end, whatever is looked for and however few tokens there are.
    #[test]
    fn what_is_not_there_is_not_found() {
        for tokens in 0..9u32 {
            let mut table = LongTokens::with_capacity(tokens as usize);
            let hash = |of: u32| u64::from(of).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let place = |rank| Place {
                rank,
                start: rank as usize * 6,
                bytes: 6,
            };
            (0..tokens).for_each(|rank| table.insert(hash(rank), place(rank)));
            for rank in 0..100 {
                let found = table.find(hash(rank), 6, |place| place.rank == rank);
                assert_eq!(found, (rank < tokens).then(|| place(rank)), "of {tokens}");
            }
        }
    }
}
