//! One cached answer and its stored form: magic with version, the full key, two items of CBOR (its
//! head and its answer), checksum. Whatever does not open exactly is a miss.

use ciborium::de::from_reader;
use ciborium::into_writer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::cache_key::CacheKey;
use crate::limits::CACHE_WORTH_BYTES_MIN;
use crate::store;

/// Names the format and its version.
const MAGIC: [u8; 4] = *b"FCE3";

const KIB: u64 = 1 << 10;

/// A complete answer as it was given, with what it took to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub created_unix_s: u64,
    pub expires_unix_s: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// What generating it cost: every repeat saves as much.
    pub cost_nanousd: u64,
    /// The JSON body of the answer.
    pub answer: Bytes,
}

/// All of a stored entry but its answer: enough to say whether it may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub created_unix_s: u64,
    pub expires_unix_s: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    cost_nanousd: u64,
    answer_bytes: usize,
}

/// A [`Head`] as it is written: a list, in the order of its fields.
type Written = (u64, u64, u64, u64, u64, u64);

impl Head {
    fn of(entry: &Entry) -> Head {
        Head {
            created_unix_s: entry.created_unix_s,
            expires_unix_s: entry.expires_unix_s,
            prompt_tokens: entry.prompt_tokens,
            completion_tokens: entry.completion_tokens,
            cost_nanousd: entry.cost_nanousd,
            answer_bytes: entry.answer.0.len(),
        }
    }

    fn written(self) -> Written {
        (
            self.created_unix_s,
            self.expires_unix_s,
            self.prompt_tokens,
            self.completion_tokens,
            self.cost_nanousd,
            self.answer_bytes as u64,
        )
    }

    fn read(cbor: &mut &[u8]) -> Option<Head> {
        let written: Written = from_reader(cbor).ok()?;
        Some(Head {
            created_unix_s: written.0,
            expires_unix_s: written.1,
            prompt_tokens: written.2,
            completion_tokens: written.3,
            cost_nanousd: written.4,
            answer_bytes: usize::try_from(written.5).ok()?,
        })
    }

    pub(super) fn is_alive(&self, now_unix_s: u64) -> bool {
        now_unix_s < self.expires_unix_s
    }

    /// What an entry is worth that was asked for so often: the square root of what it saves for
    /// each KiB, times that number to the power of one and a half. How often a request came tells
    /// more of how often it will come than its cost does, and costs differ by a factor of a
    /// thousand. (The exponents are those with which `cargo xtask bench cache` finds more hits than
    /// LRU has and still saves most.) A small entry takes a slot as a larger one does, so all below
    /// `CACHE_WORTH_BYTES_MIN` weigh alike; what costs nothing is still worth its time.
    pub(super) fn worth(&self, times: u8) -> u64 {
        let bytes = memory_bytes(self.answer_bytes).max(CACHE_WORTH_BYTES_MIN) as u64;
        let saved = (self.cost_nanousd.saturating_mul(KIB) / bytes).saturating_add(1);
        u64::from(times).pow(3).saturating_mul(saved).isqrt()
    }
}

/// Bytes that an entry with such an answer takes in memory, roughly.
fn memory_bytes(answer_bytes: usize) -> usize {
    answer_bytes.saturating_add(size_of::<Entry>())
}

impl Entry {
    pub fn is_alive(&self, now_unix_s: u64) -> bool {
        now_unix_s < self.expires_unix_s
    }

    pub fn age_s(&self, now_unix_s: u64) -> u64 {
        now_unix_s.saturating_sub(self.created_unix_s)
    }

    /// Bytes it takes in memory, roughly.
    pub fn bytes(&self) -> usize {
        memory_bytes(self.answer.0.len())
    }

    /// All but its answer.
    pub(super) fn head(&self) -> Head {
        Head::of(self)
    }

    /// The stored form.
    pub fn seal(&self, key: &CacheKey) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.bytes());
        payload.extend_from_slice(&key.0);
        // Writing to memory cannot fail; were it to, the entry would not open and be a miss.
        let _ = into_writer(&Head::of(self).written(), &mut payload);
        let _ = into_writer(&self.answer, &mut payload);
        store::seal(MAGIC, &payload)
    }

    /// The entry, if the sealed bytes are one for this key.
    pub fn open(key: &CacheKey, sealed: &[u8]) -> Option<Entry> {
        let (there, _) = split(sealed.strip_prefix(&MAGIC)?)?;
        if there != *key {
            return None;
        }
        let (_, mut cbor) = split(store::open(MAGIC, sealed)?)?;
        let head = Head::read(&mut cbor)?;
        let answer: Bytes = from_reader(&mut cbor).ok()?;
        let exact = cbor.is_empty() && answer.0.len() == head.answer_bytes;
        exact.then_some(Entry {
            created_unix_s: head.created_unix_s,
            expires_unix_s: head.expires_unix_s,
            prompt_tokens: head.prompt_tokens,
            completion_tokens: head.completion_tokens,
            cost_nanousd: head.cost_nanousd,
            answer,
        })
    }

    /// The head of whatever entry the sealed bytes are, with its key, unchecked: that would take as
    /// long as the entry is. Good enough to choose what to overwrite, not to answer with.
    pub(super) fn peek(sealed: &[u8]) -> Option<(CacheKey, Head)> {
        let (key, mut cbor) = split(sealed.strip_prefix(&MAGIC)?)?;
        Some((key, Head::read(&mut cbor)?))
    }
}

/// The key before a payload's CBOR.
fn split(payload: &[u8]) -> Option<(CacheKey, &[u8])> {
    let (key, cbor) = payload.split_first_chunk::<32>()?;
    Some((CacheKey(*key), cbor))
}

/// Bytes that CBOR writes as a byte string, not as a list of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}

struct BytesVisitor;

impl de::Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a byte string")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(Bytes(bytes.to_vec()))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
        Ok(Bytes(bytes))
    }
}
