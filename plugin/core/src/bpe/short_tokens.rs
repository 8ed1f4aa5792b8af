//! The ranks of tokens of up to five bytes: most of what merging asks for, and most words. An entry
//! holds the bytes themselves beside the rank, so that a search touches nothing else.

use super::token_table::NONE;

/// Bytes of the longest token in this table.
pub(super) const BYTES_MAX: usize = 5;

/// Slots for each three tokens: nearly every search is for a token, and takes one or two steps.
const SLOTS_PER_THREE_TOKENS: usize = 4;
const EMPTY: u64 = u64::MAX;
/// The key of no bytes, which is never looked for.
const FORGOTTEN: u64 = 0;
/// A rank has 20 bits ([`crate::limits::MODEL_VOCAB_MAX`]), a key the 43 above it.
const RANK_BITS: u32 = 20;

/// One to five bytes and their hash.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShortKey {
    key: u64,
    pub(super) hash: u64,
}

impl ShortKey {
    /// Of the bytes that `word` holds. How many they are is part of the key: without that, two
    /// texts of zeros were one.
    #[inline]
    pub(super) fn new(word: u64, bytes: usize) -> ShortKey {
        let key = word << 3 | bytes as u64;
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = hash ^ hash >> 29;
        ShortKey { key, hash }
    }
}

/// Open addressing with linear probing.
#[derive(Debug)]
pub(super) struct ShortTokens(Vec<u64>);

impl ShortTokens {
    pub(super) fn with_capacity(tokens: usize) -> ShortTokens {
        // One slot stays empty however few there are, or a search for what is not there would not
        // end.
        let slots = (tokens * SLOTS_PER_THREE_TOKENS / 3).max(tokens + 1);
        ShortTokens(vec![EMPTY; slots])
    }

    /// Enters a token; the first of two with the same bytes stays.
    pub(super) fn insert(&mut self, key: ShortKey, rank: u32) {
        let mut at = self.home(key);
        let ShortKey { key, .. } = key;
        // There are more slots than tokens.
        while let Some(entry) = self.0.get_mut(at) {
            if *entry == EMPTY {
                *entry = key << RANK_BITS | u64::from(rank);
                return;
            }
            if *entry >> RANK_BITS == key {
                return;
            }
            at = self.after(at);
        }
    }

    /// The rank of these bytes, the first one lowest, or [`NONE`].
    #[inline]
    pub(super) fn rank(&self, key: ShortKey) -> u32 {
        let mut at = self.home(key);
        let ShortKey { key, .. } = key;
        while let Some(&entry) = self.0.get(at) {
            if entry >> RANK_BITS == key {
                return entry as u32 & ((1 << RANK_BITS) - 1);
            }
            if entry == EMPTY {
                return NONE;
            }
            at = self.after(at);
        }
        NONE
    }

    /// Takes a token out: searches go on behind it.
    pub(super) fn forget(&mut self, key: ShortKey, rank: u32) {
        let entry = key.key << RANK_BITS | u64::from(rank);
        let mut at = self.home(key);
        while let Some(slot) = self.0.get_mut(at).filter(|slot| **slot != EMPTY) {
            if *slot == entry {
                *slot = FORGOTTEN;
                return;
            }
            at = self.after(at);
        }
    }

    #[inline]
    fn home(&self, key: ShortKey) -> usize {
        (((key.hash >> 32) * self.0.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, slot: usize) -> usize {
        let next = slot.wrapping_add(1);
        if next == self.0.len() { 0 } else { next }
    }
}

#[cfg(test)]
mod tests {
    use super::{NONE, ShortKey, ShortTokens};

    /// Searches end, whatever is looked for and however few tokens there are.
    #[test]
    fn what_is_not_there_is_not_found() {
        for tokens in 0..9u32 {
            let mut table = ShortTokens::with_capacity(tokens as usize);
            let key = |of: u32| ShortKey::new(u64::from(of), 4);
            (0..tokens).for_each(|rank| table.insert(key(rank), rank));
            for rank in 0..100 {
                let expected = if rank < tokens { rank } else { NONE };
                assert_eq!(table.rank(key(rank)), expected, "of {tokens}");
            }
        }
    }
}
