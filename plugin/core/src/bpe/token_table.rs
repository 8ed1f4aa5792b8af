//! The tokens of a vocabulary in order of rank, and the rank of any run of bytes.
//!
//! A vocabulary of bytes needs no list of merges. What a list says of two tokens is what the rank
//! of their concatenation says, if the table holds only tokens that the merges reach from their own
//! bytes alone: whenever two neighbours spell such a token, no merge has crossed the edges of what
//! they spell, so they are what its own merges leave before the last one. This is how tiktoken
//! merges; [`super::from_merges`] brings other vocabularies into this form.
//!
//! For 200,000 tokens: 1.4 MB of bytes, 0.2 MB of lengths, 0.2 MB of starts, 0.8 MB of short
//! tokens,
//! 1.3 MB of places of the others, 0.2 MB of filter and 0.3 MB of byte pairs.

use super::BpeError;
use super::byte_pairs::BytePairs;
use super::long_tokens::{LongTokens, Place};
use super::short_tokens::{self, ShortKey, ShortTokens};
use super::token_filter::TokenFilter;
use crate::limits::{BPE_VOCABULARY_BYTES_MAX, MODEL_VOCAB_MAX};
use std::borrow::Cow;
use std::ops::Range;

/// No token.
pub(super) const NONE: u32 = u32::MAX;

/// One start is kept for so many tokens; the lengths say the rest.
const TOKENS_PER_START: usize = 4;

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
    pairs: BytePairs,
    short: ShortTokens,
    long: LongTokens,
    /// Of the tokens of more than two bytes.
    filter: TokenFilter,
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

/// `text[at..at + 2]` as a number.
#[inline]
fn pair_at(text: &[u8], at: usize) -> u16 {
    let pair = text.get(at..).and_then(|rest| rest.first_chunk::<2>());
    pair.map_or(0, |pair| u16::from_be_bytes(*pair))
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
            pairs: BytePairs::new(),
            short: ShortTokens::with_capacity(short),
            long: LongTokens::with_capacity(indexed - short),
            filter: TokenFilter::with_capacity(indexed),
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
            self.enter(rank, start, bytes);
            start += bytes;
        }
    }

    /// Makes a token be found by its bytes, unless one of lower rank has the same.
    fn enter(&mut self, rank: u32, start: usize, bytes: usize) {
        match bytes {
            0 => {}
            2 => self.pairs.insert(pair_at(&self.data, start), rank),
            _ if is_short(bytes) => {
                let key = ShortKey::new(first_bytes(&self.data, start, bytes), bytes);
                self.filter.insert(key.hash);
                self.short.insert(key, rank);
            }
            _ => {
                let key = Key::new(&self.data, start, start + bytes);
                if self.rank_of(key) == NONE {
                    let hash = key.hash;
                    self.filter.insert(hash);
                    self.long.insert(hash, self.place(rank, start, bytes));
                }
            }
        }
    }

    fn place(&self, rank: u32, start: usize, bytes: usize) -> Place {
        Place {
            rank,
            start: start.saturating_sub(self.bytes.start),
            bytes,
        }
    }

    /// The rank of the token with exactly these bytes, or [`NONE`].
    #[inline]
    pub(super) fn rank_of(&self, key: Key<'_>) -> u32 {
        match key.bytes {
            0 => NONE,
            2 => self.pairs.rank(pair_at(key.text, key.start)),
            bytes if is_short(bytes) => {
                let word = first_bytes(key.text, key.start, bytes);
                self.short.rank(ShortKey::new(word, bytes))
            }
            bytes if bytes > self.longest => NONE,
            _ => self.long_rank(key),
        }
    }

    /// The rank of `text[start..end]`, or [`NONE`], which is the answer mostly.
    #[inline]
    pub(super) fn rank(&self, text: &[u8], start: usize, end: usize) -> u32 {
        match end.wrapping_sub(start) {
            0 => NONE,
            2 => self.pairs.rank(pair_at(text, start)),
            bytes if is_short(bytes) => {
                let key = ShortKey::new(first_bytes(text, start, bytes), bytes);
                if bytes == 1 || self.filter.may_hold(key.hash) {
                    self.short.rank(key)
                } else {
                    NONE
                }
            }
            bytes if bytes > self.longest => NONE,
            _ => {
                let key = Key::new(text, start, end);
                if self.filter.may_hold(key.hash) {
                    self.long_rank(key)
                } else {
                    NONE
                }
            }
        }
    }

    #[inline]
    fn long_rank(&self, key: Key<'_>) -> u32 {
        let found = (self.long).find(key.hash, key.bytes, |place| self.is_spelled(place, key));
        found.map_or(NONE, |place| place.rank)
    }

    #[inline]
    fn is_spelled(&self, place: Place, key: Key<'_>) -> bool {
        let start = self.bytes.start.saturating_add(place.start);
        if key.bytes <= 8 {
            let spelled = first_bytes(&self.data, start, key.bytes);
            return spelled == first_bytes(key.text, key.start, key.bytes);
        }
        self.data.get(start..start.saturating_add(key.bytes)) == Some(key.bytes())
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
        match bytes {
            0 => {}
            2 => self.pairs.forget(pair_at(&self.data, start), rank),
            _ if is_short(bytes) => {
                let word = first_bytes(&self.data, start, bytes);
                self.short.forget(ShortKey::new(word, bytes), rank);
            }
            _ => {
                let hash = Key::new(&self.data, start, start + bytes).hash;
                self.long.forget(hash, self.place(rank, start, bytes));
            }
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
