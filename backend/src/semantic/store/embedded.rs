//! The store of one backend: everything in memory, and in a file that outlives it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use farthing_core::limits::{SEMANTIC_LOG_SLACK_BYTES, SEMANTIC_QUEUE_MAX};

use super::log::{self, Damage, Event, FILE_MAGIC};
use super::memory::Memory;
use super::{Candidate, Record, RecordId, SemanticStore, StoreCounts, Unanswered};
use crate::error::BackendError;
use crate::semantic::index::Quantized;
use crate::semantic::scope::{RouteKey, Scope};
use crate::store::now_unix_s;

/// Read and write for the owner: questions and answers are in it as they were given.
const OWNER_ONLY: u32 = 0o600;

/// Records in memory and in a file.
pub struct EmbeddedStore {
    memory: Arc<Mutex<Memory>>,
    counts: Arc<StoreCounts>,
    damage: Damage,
    /// Taken on drop: its end is the writer's.
    events: Option<SyncSender<Event>>,
    writer: Option<JoinHandle<()>>,
}

/// The thread that writes to the file.
struct Writer {
    path: PathBuf,
    file: File,
    length: u64,
    memory: Arc<Mutex<Memory>>,
    counts: Arc<StoreCounts>,
}

// === impl EmbeddedStore ===

impl EmbeddedStore {
    /// Opens the file, or begins it. What cannot be read of it is left out, and said in
    /// [`EmbeddedStore::damage`].
    ///
    /// # Errors
    /// `SemanticStore` if the file is not one of ours, is in use, or cannot be written.
    pub fn open(path: &Path, bytes_max: u64) -> Result<EmbeddedStore, BackendError> {
        let failed = |error: io::Error| BackendError::SemanticStore {
            path: path.display().to_string(),
            reason: error.to_string(),
        };
        let mut file = open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        if bytes.is_empty() {
            file.write_all(&FILE_MAGIC).map_err(failed)?;
            bytes.extend_from_slice(&FILE_MAGIC);
        }
        let Some(events) = bytes.strip_prefix(&FILE_MAGIC) else {
            let message = "this file is not a semantic cache; remove it or name another path";
            return Err(failed(io::Error::other(message)));
        };
        let (mut memory, now_unix_s) = (Memory::new(bytes_max), now_unix_s());
        let damage = log::scan(events, |event| memory.replay(event, now_unix_s));
        let counts = Arc::new(StoreCounts::default());
        counts.damaged.store(damage.places, Relaxed);
        let memory = Arc::new(Mutex::new(memory));
        let writer = Writer {
            path: path.to_owned(),
            file,
            length: bytes.len() as u64,
            memory: Arc::clone(&memory),
            counts: Arc::clone(&counts),
        };
        drop(bytes);
        writer.count();
        let (events, queue) = sync_channel(SEMANTIC_QUEUE_MAX);
        let thread = std::thread::Builder::new().name("semantic-store".to_owned());
        let writer = thread.spawn(move || writer.run(&queue)).map_err(failed)?;
        Ok(EmbeddedStore {
            memory,
            counts,
            damage,
            events: Some(events),
            writer: Some(writer),
        })
    }

    /// What of the file could not be read when it was opened.
    pub fn damage(&self) -> Damage {
        self.damage
    }

    fn write(&self, event: Event) {
        if let Some(events) = &self.events
            && events.try_send(event).is_err()
        {
            StoreCounts::add(&self.counts.dropped, 1);
        }
    }

    fn removed(&self, gone: Vec<RecordId>) {
        StoreCounts::add(&self.counts.evicted, gone.len() as u64);
        for id in gone {
            self.write(Event::Removed(id));
        }
    }
}

impl SemanticStore for EmbeddedStore {
    fn nearest(
        &self,
        scope: &Scope,
        vector: &Quantized,
        count: usize,
        now_unix_s: u64,
    ) -> Vec<Candidate> {
        lock(&self.memory).nearest(scope, vector, count, now_unix_s)
    }

    fn put(&self, record: Record) {
        let kept = lock(&self.memory).put(record.clone(), now_unix_s());
        if let Some(gone) = kept {
            self.write(Event::Put(record));
            self.removed(gone);
        }
    }

    fn served(&self, record: &Record) {
        lock(&self.memory).served(record.id());
    }

    fn remove(&self, record: &Record) {
        let id = record.id();
        if lock(&self.memory).remove(id) {
            self.write(Event::Removed(id));
        }
    }

    fn samples(&self, route: &RouteKey) -> Result<Option<Vec<u8>>, Unanswered> {
        Ok(lock(&self.memory).samples(route).cloned())
    }

    fn keep_samples(&self, route: &RouteKey, samples: Vec<u8>) {
        lock(&self.memory).keep_samples(*route, samples.clone());
        let route = *route;
        self.write(Event::Samples { route, samples });
    }

    fn counts(&self) -> &StoreCounts {
        &self.counts
    }
}

/// Waits until what was put is in the file.
impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        drop(self.events.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

// === impl Writer ===

impl Writer {
    fn run(mut self, queue: &Receiver<Event>) {
        while let Ok(first) = queue.recv() {
            let batch = std::iter::once(first).chain(queue.try_iter().take(SEMANTIC_QUEUE_MAX));
            let (mut frames, mut events) = (Vec::new(), 0);
            for frame in batch.filter_map(|event| log::frame(&event)) {
                frames.extend(frame);
                events += 1;
            }
            match self.append(&frames) {
                Ok(()) => StoreCounts::add(&self.counts.written, events),
                Err(error) => {
                    StoreCounts::add(&self.counts.errors, 1);
                    let reason: &dyn std::fmt::Display = &error;
                    crate::server::log::event("semantic_store_write_failed", &[("reason", reason)]);
                }
            }
            self.count();
        }
    }

    /// Writes in one call, so that a kill leaves whole records and at most one torn one.
    fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        self.file.write_all(frames)?;
        self.file.sync_data()?;
        self.length += frames.len() as u64;
        let live = lock(&self.memory).bytes();
        if self.length > 2 * live + SEMANTIC_LOG_SLACK_BYTES {
            self.compact()?;
        }
        Ok(())
    }

    /// Writes a new file of what is there now, and puts it in the place of the old one.
    fn compact(&mut self) -> io::Result<()> {
        let (records, samples) = lock(&self.memory).snapshot();
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        let beside = PathBuf::from(name);
        let _ = std::fs::remove_file(&beside);
        let mut file = open(&beside)?;
        let mut length = FILE_MAGIC.len() as u64;
        file.write_all(&FILE_MAGIC)?;
        let puts = records
            .iter()
            .map(|record| Event::Put(Record::clone(record)));
        let samples = samples.into_iter();
        let samples = samples.map(|(route, samples)| Event::Samples { route, samples });
        for frame in puts.chain(samples).filter_map(|event| log::frame(&event)) {
            file.write_all(&frame)?;
            length += frame.len() as u64;
        }
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        (self.file, self.length) = (file, length);
        Ok(())
    }

    fn count(&self) {
        let memory = lock(&self.memory);
        self.counts.entries.store(memory.len() as u64, Relaxed);
        self.counts.bytes.store(memory.bytes(), Relaxed);
    }
}

/// A lock's holder that panicked has left whole records: every change is made in one call.
fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Opens a file for this process alone.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(OWNER_ONLY)
        .open(path)?;
    file.try_lock()
        .map_err(|_| io::Error::other("another process has this file open"))?;
    Ok(file)
}
