//! The response store: complete answers that outlive the process, so that a repeat is answered
//! without a model. It is the level behind the filter's cache, shared by all Envoys in front of
//! this backend, or of several that share a Redis. Entries have the form of that cache's (version,
//! full key, checksum), and what does not open exactly is a miss.

mod disk;
mod redis;
mod revision;
mod writer;

pub use disk::DiskStore;
pub use redis::RedisStore;
pub use revision::{Told, revision};

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use farthing_core::cache::Entry;
use farthing_core::cache_key::CacheKey;

/// Where answers are kept.
pub trait ResponseStore: Send + Sync {
    /// The answer under that key that has not expired. It may wait for a disk or a network: not to
    /// be called on a thread that moves bytes or computes.
    fn get(&self, key: &CacheKey, now_unix_s: u64) -> Option<Entry>;

    /// Keeps an answer, soon. Never waits: when it cannot keep up, answers are dropped.
    fn put(&self, key: CacheKey, entry: Entry);

    /// What it has done so far.
    fn counts(&self) -> &Counts;
}

/// Counters and gauges of a store.
#[derive(Debug, Default)]
pub struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
    errors: AtomicU64,
    damaged: AtomicU64,
    bytes: AtomicU64,
}

/// One number of [`Counts`] for `/metrics`: name, type, help, value.
pub type CountRow = (&'static str, &'static str, &'static str, u64);

impl Counts {
    /// An answer as it was kept; none if it is damaged, which is counted.
    fn open(&self, key: &CacheKey, sealed: &[u8]) -> Option<Entry> {
        let opened = Entry::open(key, sealed);
        if opened.is_none() {
            self.damaged.fetch_add(1, Relaxed);
        }
        opened
    }

    /// What became of a look-up.
    fn looked_up(&self, found: Option<&Entry>) {
        let counter = match found {
            Some(_) => &self.hits,
            None => &self.misses,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Everything that is counted.
    pub fn rows(&self) -> [CountRow; 7] {
        let row = |name, kind, help, value: &AtomicU64| (name, kind, help, value.load(Relaxed));
        [
            row(
                "farthing_response_store_hits_total",
                "counter",
                "Requests answered from the response store.",
                &self.hits,
            ),
            row(
                "farthing_response_store_misses_total",
                "counter",
                "Requests looked up in the response store in vain.",
                &self.misses,
            ),
            row(
                "farthing_response_store_written_total",
                "counter",
                "Answers that are on the disk, or in Redis.",
                &self.written,
            ),
            row(
                "farthing_response_store_dropped_total",
                "counter",
                "Answers not kept because the disk or Redis could not keep up.",
                &self.dropped,
            ),
            row(
                "farthing_response_store_errors_total",
                "counter",
                "Reads and writes that failed.",
                &self.errors,
            ),
            row(
                "farthing_response_store_damaged_total",
                "counter",
                "Answers that were not as they were written.",
                &self.damaged,
            ),
            row(
                "farthing_response_store_bytes",
                "gauge",
                "Bytes of the answers in the file; Redis counts its own.",
                &self.bytes,
            ),
        ]
    }
}

/// Seconds since 1970; 0 should the clock be before that.
pub fn now_unix_s() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.map_or(0, |elapsed| elapsed.as_secs())
}
