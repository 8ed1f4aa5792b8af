//! The ranks of tokens of up to five bytes: most of what merging asks for, and most words. An entry
//! holds the bytes themselves beside the rank, so that a search touches nothing else.

use super::token_table::NONE;

/// Bytes of the longest token in this table.
pub(super) const BYTES_MAX: usize = 5;

/// Slots for each token, so that a search takes two or three steps.
const SLOTS_PER_TOKEN: usize = 2;
const EMPTY: u64 = u64::MAX;
/// The key of no bytes, which is never looked for.
const FORGOTTEN: u64 = 0;
/// A rank has 20 bits ([`crate::limits::MODEL_VOCAB_MAX`]), a key the 43 above it.
const RANK_BITS: u32 = 20;

/// Open addressing with linear probing.
#[derive(Debug)]
pub(super) struct ShortTokens(Vec<u64>);

impl ShortTokens {
    pub(super) fn with_capacity(tokens: usize) -> ShortTokens {
        ShortTokens(vec![EMPTY; (tokens * SLOTS_PER_TOKEN).max(2)])
    }

    /// Enters a token; the first of two with the same bytes stays.
    pub(super) fn insert(&mut self, word: u64, bytes: usize, rank: u32) {
        if bytes == 0 {
            return;
        }
        let key = key(word, bytes);
        let mut at = self.home(key);
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

    /// The rank of the bytes that `word` holds, the first one lowest, or [`NONE`].
    #[inline]
    pub(super) fn rank(&self, word: u64, bytes: usize) -> u32 {
        if bytes == 0 {
            return NONE;
        }
        let key = key(word, bytes);
        let mut at = self.home(key);
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
    pub(super) fn forget(&mut self, word: u64, bytes: usize, rank: u32) {
        let entry = key(word, bytes) << RANK_BITS | u64::from(rank);
        let mut at = self.home(key(word, bytes));
        while let Some(slot) = self.0.get_mut(at).filter(|slot| **slot != EMPTY) {
            if *slot == entry {
                *slot = FORGOTTEN;
                return;
            }
            at = self.after(at);
        }
    }

    #[inline]
    fn home(&self, key: u64) -> usize {
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = hash ^ hash >> 29;
        (((hash >> 32) * self.0.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, slot: usize) -> usize {
        if slot + 1 == self.0.len() {
            0
        } else {
            slot + 1
        }
    }
}

/// The bytes and how many they are: without the number, two texts of zeros were one.
#[inline]
fn key(word: u64, bytes: usize) -> u64 {
    word << 3 | bytes as u64
}
