//! The tokens of a vocabulary: bytes by id, and id by bytes.

use super::BpeError;
use crate::limits::{BPE_VOCABULARY_BYTES_MAX, MODEL_VOCAB_MAX};

/// No token: an empty slot, or a byte that the vocabulary lacks.
const NONE: u32 = u32::MAX;

/// All tokens in one run of bytes, with a hash table of ids beside it: for 150,000 tokens 1 MiB of
/// bytes and 1.6 MiB of index, where a map of strings takes ten times as much.
#[derive(Debug)]
pub(super) struct Vocabulary {
    bytes: Vec<u8>,
    /// End of each token in `bytes`; it starts where the one before ends.
    ends: Vec<u32>,
    /// Ids by hash of their bytes, open addressing with linear probing, at most half full.
    slots: Vec<u32>,
    /// Ids of the 256 single bytes.
    byte_ids: Vec<u32>,
}

impl Vocabulary {
    /// `mergeable` says which ids may be looked up by their bytes: not those of control tokens,
    /// which text must never reach by spelling them.
    pub(super) fn new<'a>(
        tokens: impl ExactSizeIterator<Item = &'a [u8]>,
        mergeable: impl Fn(u32) -> bool,
    ) -> Result<Vocabulary, BpeError> {
        let count = tokens.len();
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for token in tokens {
            bytes.extend_from_slice(token);
            if ends.len() >= MODEL_VOCAB_MAX || bytes.len() > BPE_VOCABULARY_BYTES_MAX {
                return Err(BpeError::TooLarge {
                    tokens: count,
                    bytes: bytes.len(),
                    tokens_max: MODEL_VOCAB_MAX,
                    bytes_max: BPE_VOCABULARY_BYTES_MAX,
                });
            }
            ends.push(bytes.len() as u32);
        }
        if ends.is_empty() {
            return Err(BpeError::Empty);
        }
        let slots = vec![NONE; (ends.len() * 2).next_power_of_two()];
        let mut vocabulary = Vocabulary {
            bytes,
            ends,
            slots,
            byte_ids: Vec::new(),
        };
        for id in 0..vocabulary.ends.len() as u32 {
            if mergeable(id) {
                vocabulary.index(id);
            }
        }
        vocabulary.byte_ids = (0..=u8::MAX)
            .map(|byte| vocabulary.id(&[byte]).unwrap_or(NONE))
            .collect();
        Ok(vocabulary)
    }

    /// Enters a token in the hash table; the first of two tokens with the same bytes wins.
    fn index(&mut self, id: u32) {
        let Some(bytes) = self.bytes(id) else { return };
        if bytes.is_empty() || self.id(bytes).is_some() {
            return;
        }
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash(bytes) as usize & mask;
        while self.slots.get(at).is_some_and(|slot| *slot != NONE) {
            at = (at + 1) & mask;
        }
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = id;
        }
    }

    /// The id of the token with exactly these bytes.
    pub(super) fn id(&self, bytes: &[u8]) -> Option<u32> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash(bytes) as usize & mask;
        loop {
            let id = *self.slots.get(at)?;
            if id == NONE {
                return None;
            }
            if self.bytes(id)? == bytes {
                return Some(id);
            }
            at = (at + 1) & mask;
        }
    }

    /// The token whose bytes are those of `left` followed by those of `right`.
    pub(super) fn joined(&self, left: u32, right: u32) -> Option<u32> {
        let bytes = [self.bytes(left)?, self.bytes(right)?].concat();
        self.id(&bytes)
    }

    pub(super) fn byte_id(&self, byte: u8) -> Option<u32> {
        self.byte_ids
            .get(usize::from(byte))
            .copied()
            .filter(|id| *id != NONE)
    }

    pub(super) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let end = *self.ends.get(id as usize)? as usize;
        let start = match id.checked_sub(1) {
            Some(before) => *self.ends.get(before as usize)? as usize,
            None => 0,
        };
        self.bytes.get(start..end)
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }
}

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>), upper half folded in. The keys
/// come from the model file; text only looks up, so it cannot make the probes longer.
fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^ (hash >> 32)
}
