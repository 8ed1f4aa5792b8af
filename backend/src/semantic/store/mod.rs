//! Where the semantic cache keeps what it knows. A store finds what is near and keeps what it is
//! given; what may be answered with it is decided elsewhere ([`super::lookup`]).

mod embedded;
pub(in crate::semantic::store) mod log;
mod memory;
mod redis;
mod worth;

pub use embedded::EmbeddedStore;
pub use log::Damage;
pub use redis::RedisSemanticStore;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::conversation::Asked;
use super::index::Quantized;
use super::scope::{RouteKey, Scope};

/// Names a record by what it is asked: 128 bits of a hash over scope and question.
pub type RecordId = u128;

/// One question with its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Everything that must be equal.
    pub scope: Scope,
    pub asked: Asked,
    /// Of the question.
    pub vector: Quantized,
    /// Of the conversation before it, if there is one.
    pub context_vector: Option<Quantized>,
    /// The same for all questions that are known to have the same answer.
    pub answer_id: u64,
    pub created_unix_s: u64,
    pub expires_unix_s: u64,
    /// What generating the answer took: what a hit saves.
    pub cost_tokens: u64,
    /// The body of the answer.
    #[serde(with = "bytes")]
    pub answer: Vec<u8>,
}

/// What is near a question.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub cosine: f32,
    pub record: Arc<Record>,
}

/// A store did not say whether it has something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unanswered;

/// Questions with their answers, and the samples of each route.
pub trait SemanticStore: Send + Sync {
    /// The entries of a scope nearest to a vector that have not expired, nearest first, `count` at
    /// most. It may wait for a network, though never long: no answer in time is no candidate.
    fn nearest(
        &self,
        scope: &Scope,
        vector: &Quantized,
        count: usize,
        now_unix_s: u64,
    ) -> Vec<Candidate>;

    /// Keeps a record, soon. Never waits: what it cannot keep up with is dropped.
    fn put(&self, record: Record);

    /// Says that a record answered a question: what does so is kept longer.
    fn served(&self, record: &Record);

    /// Forgets a record: its answer was wrong.
    fn remove(&self, record: &Record);

    /// The samples of a route that were kept last, if any were.
    ///
    /// # Errors
    /// There was no answer in time.
    fn samples(&self, route: &RouteKey) -> Result<Option<Vec<u8>>, Unanswered>;

    /// Keeps the samples of a route, soon.
    fn keep_samples(&self, route: &RouteKey, samples: Vec<u8>);

    /// What it has done so far.
    fn counts(&self) -> &StoreCounts;
}

/// Counters and gauges of a store.
#[derive(Debug, Default)]
pub struct StoreCounts {
    pub entries: AtomicU64,
    pub bytes: AtomicU64,
    pub evicted: AtomicU64,
    pub dropped: AtomicU64,
    pub damaged: AtomicU64,
    pub errors: AtomicU64,
    pub written: AtomicU64,
    /// 1 while the store cannot be used at all.
    pub refused: AtomicU64,
}

/// One number for `/metrics`: name, type, help, value.
pub type Row = (&'static str, &'static str, &'static str, u64);

impl StoreCounts {
    /// Everything that is counted.
    pub fn rows(&self) -> Vec<Row> {
        let row = |name, kind, help, value: &AtomicU64| (name, kind, help, value.load(Relaxed));
        let total = |name, help, value| row(name, "counter", help, value);
        vec![
            row(
                "farthing_semantic_entries",
                "gauge",
                "Questions that are kept.",
                &self.entries,
            ),
            row(
                "farthing_semantic_bytes",
                "gauge",
                "Bytes of what is kept here; Redis counts its own.",
                &self.bytes,
            ),
            total(
                "farthing_semantic_evicted_total",
                "Entries that made room or expired.",
                &self.evicted,
            ),
            total(
                "farthing_semantic_dropped_total",
                "Entries not written because the disk or Redis could not keep up.",
                &self.dropped,
            ),
            total(
                "farthing_semantic_damaged_total",
                "Entries that were not as they were written.",
                &self.damaged,
            ),
            total(
                "farthing_semantic_errors_total",
                "Reads and writes that failed.",
                &self.errors,
            ),
            total(
                "farthing_semantic_written_total",
                "Changes that are on the disk, or in Redis.",
                &self.written,
            ),
            row(
                "farthing_semantic_refused",
                "gauge",
                "1 while the cache is off because Redis has no vector search for it.",
                &self.refused,
            ),
        ]
    }

    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Relaxed);
    }
}

impl Record {
    /// The same question in the same scope has the same id, so that it is kept once.
    pub fn id(&self) -> RecordId {
        let mut digest = Sha256::new();
        digest.update(self.scope.0);
        for part in self.asked.parts() {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let hash: [u8; 32] = digest.finalize().into();
        let half = hash.iter().take(16);
        half.fold(0, |id, byte| id << 8 | u128::from(*byte))
    }

    /// Bytes that it counts for.
    pub fn bytes(&self) -> u64 {
        let asked = self.asked.bytes() + self.answer.len();
        let vectors = self.vector.numbers.len() * 2;
        (asked + vectors + size_of::<Record>()) as u64
    }

    pub fn is_alive(&self, now_unix_s: u64) -> bool {
        now_unix_s < self.expires_unix_s
    }
}

/// CBOR has byte strings, which serde takes a list of numbers for.
mod bytes {
    use serde::de::{Deserializer, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_byte_buf(Bytes)
    }

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            to.write_str("bytes")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }
    }
}
