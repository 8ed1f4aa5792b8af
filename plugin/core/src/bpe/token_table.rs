//! The tokens of a vocabulary in order of rank, and the rank of any run of bytes.
//!
//! A vocabulary of bytes needs no list of merges. What a list says of two tokens is what the rank
//! of their concatenation says, if the table holds only tokens that the merges reach from their own
//! bytes alone: whenever two neighbours spell such a token, no merge has crossed the edges of what
//! they spell, so they are what its own merges leave before the last one. This is how tiktoken
//! merges; [`super::from_merges`] brings other vocabularies into this form.
//!
//! For 200,000 tokens: 1.4 MB of bytes, 0.2 MB of lengths, 0.2 MB of starts, 1.2 MB of short tokens
//! and 1 MB of slots for the others.

use super::BpeError;
use super::short_tokens::{self, ShortTokens};
use crate::limits::{BPE_VOCABULARY_BYTES_MAX, MODEL_VOCAB_MAX};
use std::borrow::Cow;
use std::ops::Range;

/// No token.
pub(super) const NONE: u32 = u32::MAX;

/// One start is kept for so many tokens; the lengths say the rest.
const TOKENS_PER_START: usize = 4;
/// Slots of the hash table for each token, so that an unsuccessful search takes two or three steps.
const SLOTS_PER_TOKEN: usize = 2;

/// Tokens by rank, and ranks by bytes.
#[derive(Debug)]
pub(super) struct TokenTable {
    /// Holds the bytes and the lengths of the tokens, and perhaps more: a vocabulary file is kept
    /// as it came instead of being copied.
    data: Cow<'static, [u8]>,
    bytes: Range<usize>,
    lengths: Range<usize>,
    /// Where every [`TOKENS_PER_START`]th token starts in `data`.
    starts: Vec<u32>,
    short: ShortTokens,
    /// The other tokens, by open addressing with linear probing: the rank below, a part of the hash
    /// above, so that nearly every search of bytes that are no token ends without looking at a
    /// token's bytes.
    slots: Vec<u32>,
    rank_bits: u32,
    /// Tokens that can be found by their bytes: the first ones.
    indexed: usize,
    /// Bytes of the longest of them.
    longest: usize,
}

/// Bytes within a text and their hash.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    text: &'a [u8],
    start: usize,
    bytes: usize,
    pub(super) hash: u64,
}

impl<'a> Key<'a> {
    /// Of `text[start..end]`. Up to eight bytes are hashed as one number.
    #[inline]
    pub(super) fn new(text: &'a [u8], start: usize, end: usize) -> Key<'a> {
        let bytes = end.wrapping_sub(start);
        let hash = if bytes <= 8 {
            mix(first_bytes(text, start, bytes), bytes as u64)
        } else {
            long_hash(text.get(start..end).unwrap_or_default())
        };
        Key {
            text,
            start,
            bytes,
            hash,
        }
    }

    #[inline]
    pub(super) fn bytes(&self) -> &'a [u8] {
        let end = self.start.saturating_add(self.bytes);
        self.text.get(self.start..end).unwrap_or_default()
    }
}

#[inline]
fn is_short(bytes: usize) -> bool {
    bytes <= short_tokens::BYTES_MAX
}

/// Two rounds of multiply and fold; the constants are those of SplitMix64
/// (<https://prng.di.unimi.it/splitmix64.c>). The tokens are the vocabulary's; text only looks up,
/// so it cannot make the searches longer.
#[inline]
fn mix(word: u64, salt: u64) -> u64 {
    let mixed =
        (word ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 32).wrapping_mul(0x94d0_49bb_1331_11eb)
}

fn long_hash(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(bytes.len() as u64, |hash, word| {
        mix(u64::from_le_bytes(*word), hash)
    });
    mix(first_bytes(rest, 0, rest.len()), hash)
}

/// `text[at..at + bytes]` as a little-endian number; at most eight bytes.
#[inline]
fn first_bytes(text: &[u8], at: usize, bytes: usize) -> u64 {
    let rest = text.get(at..).unwrap_or_default();
    match (rest.first_chunk::<8>(), bytes) {
        (_, 0) => 0,
        (Some(word), 1..=8) => {
            let unused_bits = 64 - 8 * bytes as u32;
            u64::from_le_bytes(*word) << unused_bits >> unused_bits
        }
        _ => rest
            .iter()
            .take(bytes)
            .rev()
            .fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

impl TokenTable {
    /// A table of the tokens whose bytes stand one after the other in `data[bytes]` and whose
    /// lengths are the bytes of `data[lengths]`. The first `indexed` can be found by their bytes;
    /// of two with the same bytes the first wins.
    pub(super) fn new(
        data: Cow<'static, [u8]>,
        bytes: Range<usize>,
        lengths: Range<usize>,
        indexed: usize,
    ) -> Result<TokenTable, BpeError> {
        let count = lengths.len();
        let byte_count = bytes.len();
        if count > MODEL_VOCAB_MAX || byte_count > BPE_VOCABULARY_BYTES_MAX {
            return Err(BpeError::TooLarge {
                tokens: count,
                bytes: byte_count,
                tokens_max: MODEL_VOCAB_MAX,
                bytes_max: BPE_VOCABULARY_BYTES_MAX,
            });
        }
        let known_lengths = data.get(lengths.clone()).unwrap_or_default();
        if known_lengths.is_empty() || indexed > count {
            return Err(BpeError::Empty);
        }
        let mut starts = Vec::with_capacity(count.div_ceil(TOKENS_PER_START));
        let mut at = bytes.start;
        for group in known_lengths.chunks(TOKENS_PER_START) {
            starts.push(at as u32);
            at += group.iter().map(|bytes| usize::from(*bytes)).sum::<usize>();
        }
        if at != bytes.end || data.get(bytes.clone()).is_none() {
            return Err(BpeError::Lengths {
                lengths: at.saturating_sub(bytes.start),
                bytes: byte_count,
            });
        }
        let found_by_bytes = || known_lengths.iter().take(indexed);
        let longest = found_by_bytes().max();
        let short = found_by_bytes().filter(|bytes| is_short(usize::from(**bytes)));
        let short = short.count();
        let mut table = TokenTable {
            longest: longest.map_or(0, |bytes| usize::from(*bytes)),
            short: ShortTokens::with_capacity(short),
            slots: vec![NONE; ((indexed - short) * SLOTS_PER_TOKEN).max(2)],
            rank_bits: (indexed as u32 + 1).next_power_of_two().trailing_zeros(),
            data,
            bytes,
            lengths,
            starts,
            indexed,
        };
        table.index();
        Ok(table)
    }

    /// A table of these tokens, each of at most 255 bytes.
    pub(super) fn of_tokens<'a>(
        tokens: impl Iterator<Item = &'a [u8]>,
        indexed: usize,
    ) -> Result<TokenTable, BpeError> {
        let (mut data, mut lengths) = (Vec::new(), Vec::new());
        for token in tokens {
            let Ok(bytes) = u8::try_from(token.len()) else {
                return Err(BpeError::LongToken { bytes: token.len() });
            };
            lengths.push(bytes);
            data.extend_from_slice(token);
        }
        let bytes = 0..data.len();
        data.append(&mut lengths);
        let lengths = bytes.end..data.len();
        TokenTable::new(Cow::Owned(data), bytes, lengths, indexed)
    }

    fn index(&mut self) {
        let mut start = self.bytes.start;
        for rank in 0..self.indexed as u32 {
            let Some(bytes) = self.length(rank) else {
                return;
            };
            let key = Key::new(&self.data, start, start + bytes);
            if is_short(bytes) {
                self.short
                    .insert(first_bytes(&self.data, start, bytes), bytes, rank);
            }
            start += bytes;
            if is_short(bytes) || self.rank_of(key) != NONE {
                continue;
            }
            let entry = self.tag(key.hash) << self.rank_bits | rank;
            let mut at = self.home(key.hash);
            while self.slots.get(at).is_some_and(|slot| *slot != NONE) {
                at = self.after(at);
            }
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = entry;
            }
        }
    }

    /// Where the search for a hash begins: its upper half, scaled to the slots.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.slots.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, slot: usize) -> usize {
        if slot + 1 == self.slots.len() {
            0
        } else {
            slot + 1
        }
    }

    /// The part of a hash that an entry keeps.
    #[inline]
    fn tag(&self, hash: u64) -> u32 {
        hash as u32 >> self.rank_bits
    }

    /// The rank of the token with exactly these bytes, or [`NONE`].
    #[inline]
    pub(super) fn rank_of(&self, key: Key<'_>) -> u32 {
        if is_short(key.bytes) {
            return self
                .short
                .rank(first_bytes(key.text, key.start, key.bytes), key.bytes);
        }
        if key.bytes > self.longest {
            return NONE;
        }
        let tag = self.tag(key.hash);
        let mut at = self.home(key.hash);
        while let Some(&entry) = self.slots.get(at) {
            if entry == NONE {
                return NONE;
            }
            if entry >> self.rank_bits == tag {
                let rank = entry & ((1 << self.rank_bits) - 1);
                if self.is_spelled(rank, key) {
                    return rank;
                }
            }
            at = self.after(at);
        }
        NONE
    }

    /// The rank of `text[start..end]`, or [`NONE`].
    #[inline]
    pub(super) fn rank(&self, text: &[u8], start: usize, end: usize) -> u32 {
        let bytes = end.wrapping_sub(start);
        if is_short(bytes) {
            return self.short.rank(first_bytes(text, start, bytes), bytes);
        }
        if bytes > self.longest {
            return NONE;
        }
        self.rank_of(Key::new(text, start, end))
    }

    #[inline]
    fn is_spelled(&self, rank: u32, key: Key<'_>) -> bool {
        if rank as usize >= self.indexed || self.length(rank) != Some(key.bytes) {
            return false;
        }
        let start = self.start(rank);
        if key.bytes <= 8 {
            let spelled = first_bytes(&self.data, start, key.bytes);
            return spelled == first_bytes(key.text, key.start, key.bytes);
        }
        self.data.get(start..start + key.bytes) == Some(key.bytes())
    }

    #[inline]
    fn length(&self, rank: u32) -> Option<usize> {
        let at = self.lengths.start + rank as usize;
        if at >= self.lengths.end {
            return None;
        }
        self.data.get(at).map(|bytes| usize::from(*bytes))
    }

    #[inline]
    fn start(&self, rank: u32) -> usize {
        let rank = rank as usize;
        let known = self.starts.get(rank / TOKENS_PER_START);
        let first = self.lengths.start + rank / TOKENS_PER_START * TOKENS_PER_START;
        let before = self.data.get(first..self.lengths.start + rank);
        known.map_or(0, |start| *start as usize)
            + before
                .unwrap_or_default()
                .iter()
                .map(|bytes| usize::from(*bytes))
                .sum::<usize>()
    }

    /// Takes a token out of the index; its bytes stay.
    pub(super) fn forget(&mut self, rank: u32) {
        let Some(bytes) = self.length(rank) else {
            return;
        };
        let start = self.start(rank);
        if is_short(bytes) {
            let word = first_bytes(&self.data, start, bytes);
            return self.short.forget(word, bytes, rank);
        }
        let hash = Key::new(&self.data, start, start + bytes).hash;
        let entry = self.tag(hash) << self.rank_bits | rank;
        // The rank of no token: indexed ranks are smaller, and searches go on behind it.
        let tombstone = (1 << self.rank_bits) - 1;
        let mut at = self.home(hash);
        while let Some(slot) = self.slots.get_mut(at).filter(|slot| **slot != NONE) {
            if *slot == entry {
                *slot = tombstone;
                return;
            }
            at = self.after(at);
        }
    }

    /// The bytes of the token at this place.
    pub(super) fn token(&self, rank: u32) -> Option<&[u8]> {
        let bytes = self.length(rank)?;
        let start = self.start(rank);
        self.data.get(start..start + bytes)
    }

    /// Tokens, those that are not indexed included.
    pub(super) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens that can be found by their bytes.
    pub(super) fn indexed(&self) -> usize {
        self.indexed
    }

    /// The indexed tokens: their lengths, and their bytes one after the other.
    pub(super) fn parts(&self) -> (&[u8], &[u8]) {
        let lengths = self.data.get(self.lengths.clone()).unwrap_or_default();
        let lengths = lengths.get(..self.indexed).unwrap_or_default();
        let bytes = lengths
            .iter()
            .map(|bytes| usize::from(*bytes))
            .sum::<usize>();
        let all = self.data.get(self.bytes.clone()).unwrap_or_default();
        (lengths, all.get(..bytes).unwrap_or_default())
    }
}
