//! One cached answer and its stored form: magic with version, the full key, CBOR, checksum.
//! Whatever does not open exactly is a miss.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::cache_key::CacheKey;
use crate::limits::CACHE_WORTH_BYTES_MIN;
use crate::store;

/// Names the format and its version.
const MAGIC: [u8; 4] = *b"FCE2";

const KIB: u64 = 1 << 10;

/// A complete answer as it was given, with what it took to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl Entry {
    pub fn is_alive(&self, now_unix_s: u64) -> bool {
        now_unix_s < self.expires_unix_s
    }

    pub fn age_s(&self, now_unix_s: u64) -> u64 {
        now_unix_s.saturating_sub(self.created_unix_s)
    }

    /// Bytes it takes in memory, roughly.
    pub fn bytes(&self) -> usize {
        self.answer.0.len().saturating_add(size_of::<Entry>())
    }

    /// What an entry is worth that was asked for so often: the square root of what it saves for
    /// each KiB, times that number to the power of one and a half. How often a request came tells
    /// more of how often it will come than its cost does, and costs differ by a factor of a
    /// thousand. (The exponents are those with which `cargo xtask bench cache` finds more hits than
    /// LRU has and still saves most.) A small entry takes a slot as a larger one does, so all below
    /// `CACHE_WORTH_BYTES_MIN` weigh alike; what costs nothing is still worth its time.
    pub(super) fn worth(&self, times: u8) -> u64 {
        let bytes = self.bytes().max(CACHE_WORTH_BYTES_MIN) as u64;
        let saved = (self.cost_nanousd.saturating_mul(KIB) / bytes).saturating_add(1);
        u64::from(times).pow(3).saturating_mul(saved).isqrt()
    }

    /// The stored form.
    pub fn seal(&self, key: &CacheKey) -> Vec<u8> {
        let mut payload = key.0.to_vec();
        // Writing to memory cannot fail; were it to, the entry would not open and be a miss.
        let _ = ciborium::into_writer(self, &mut payload);
        store::seal(MAGIC, &payload)
    }

    /// The entry, if the sealed bytes are one for this key.
    pub fn open(key: &CacheKey, sealed: &[u8]) -> Option<Entry> {
        let stored_key = sealed.get(MAGIC.len()..)?.first_chunk::<32>()?;
        if *stored_key != key.0 {
            return None;
        }
        Self::decode(sealed).map(|(_, entry)| entry)
    }

    /// Whatever entry the sealed bytes are, with its key.
    pub(super) fn decode(sealed: &[u8]) -> Option<(CacheKey, Entry)> {
        let (key, cbor) = store::open(MAGIC, sealed)?.split_first_chunk::<32>()?;
        let entry = ciborium::from_reader(cbor).ok()?;
        Some((CacheKey(*key), entry))
    }
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
