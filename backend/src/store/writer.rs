//! The one thread that writes to the response store: many answers in one transaction, for each
//! transaction waits for the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use farthing_core::cache::Entry;
use farthing_core::cache_key::CacheKey;
use farthing_core::limits::{
    RESPONSE_STORE_BATCH_MAX, RESPONSE_STORE_ENTRY_OVERHEAD_BYTES, RESPONSE_STORE_SHARED_PAGE_BYTES,
};
use redb::{Database, ReadableTable, Table};

use super::disk::{ANSWERS, BYTES, NEXT, ORDER, SUMS};
use super::{Counts, now_unix_s};
use crate::server::log;

/// An answer to be written.
pub(super) type Put = (CacheKey, Entry);

/// Starts the thread; it ends when nobody can put anything any more.
pub(super) fn start(
    database: Arc<Database>,
    counts: Arc<Counts>,
    bytes_max: u64,
    queue: Receiver<Put>,
) -> std::io::Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name("response-store".to_owned());
    thread.spawn(move || {
        while let Ok(first) = queue.recv() {
            let rest = queue.try_iter().take(RESPONSE_STORE_BATCH_MAX - 1);
            let batch: Vec<Put> = std::iter::once(first).chain(rest).collect();
            let write = || write(&database, &batch, bytes_max, now_unix_s());
            match catch_unwind(AssertUnwindSafe(write)) {
                Ok(Ok(bytes)) => {
                    counts.bytes.store(bytes, Relaxed);
                    counts.written.fetch_add(batch.len() as u64, Relaxed);
                }
                Ok(Err(error)) => failed(&counts, &error.to_string()),
                Err(_) => failed(&counts, "the file is damaged"),
            }
        }
    })
}

/// What is not written is computed again; that is all that is lost.
fn failed(counts: &Counts, reason: &str) {
    counts.errors.fetch_add(1, Relaxed);
    log::event("response_store_write_failed", &[("reason", &reason)]);
}

/// Writes a batch and makes room for it: what has expired goes, then what came first. Returns the
/// bytes that all answers count for afterwards.
fn write(
    database: &Database,
    batch: &[Put],
    bytes_max: u64,
    now_unix_s: u64,
) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let bytes = {
        let mut answers = transaction.open_table(ANSWERS)?;
        let mut order = transaction.open_table(ORDER)?;
        let mut sums = transaction.open_table(SUMS)?;
        let mut bytes = sum(&sums, BYTES)?;
        let mut next = sum(&sums, NEXT)?;
        for (key, entry) in batch {
            let sealed = entry.seal(key);
            let size = size_in_file(sealed.len());
            if size > bytes_max {
                continue;
            }
            let before = answers.insert(&key.0, (next, sealed.as_slice()))?;
            let before = before.map(|before| before.value().0);
            if let Some(place) = before {
                bytes = bytes.saturating_sub(take(&mut order, place)?);
            }
            order.insert(next, (&key.0, size, entry.expires_unix_s))?;
            bytes += size;
            next += 1;
        }
        while let Some((place, key)) = first_to_go(&order, bytes > bytes_max, now_unix_s)? {
            answers.remove(&key)?;
            bytes = bytes.saturating_sub(take(&mut order, place)?);
        }
        sums.insert(BYTES, bytes)?;
        sums.insert(NEXT, next)?;
        bytes
    };
    transaction.commit()?;
    Ok(bytes)
}

/// What an answer takes in the file: small ones share pages, a larger one has pages of its own, of
/// which the database makes runs of a power of two.
fn size_in_file(sealed_bytes: usize) -> u64 {
    let bytes = sealed_bytes as u64 + RESPONSE_STORE_ENTRY_OVERHEAD_BYTES;
    if bytes <= RESPONSE_STORE_SHARED_PAGE_BYTES {
        bytes
    } else {
        bytes.next_power_of_two()
    }
}

/// One of [`SUMS`]; 0 before it was first written.
pub(super) fn sum(
    sums: &impl ReadableTable<&'static str, u64>,
    name: &str,
) -> Result<u64, redb::Error> {
    Ok(sums.get(name)?.map_or(0, |value| value.value()))
}

/// Removes a place from the order; the bytes that it counted for.
fn take(
    order: &mut Table<'_, u64, (&'static [u8; 32], u64, u64)>,
    place: u64,
) -> Result<u64, redb::Error> {
    Ok(order.remove(place)?.map_or(0, |row| row.value().1))
}

/// The first arrival, if there is no room for it or it has expired. All live equally long, so the
/// first expires first.
fn first_to_go(
    order: &Table<'_, u64, (&'static [u8; 32], u64, u64)>,
    is_full: bool,
    now_unix_s: u64,
) -> Result<Option<(u64, [u8; 32])>, redb::Error> {
    let Some((place, row)) = order.first()? else {
        return Ok(None);
    };
    let (key, _, expires_unix_s) = row.value();
    let goes = is_full || expires_unix_s <= now_unix_s;
    Ok(goes.then(|| (place.value(), *key)))
}
