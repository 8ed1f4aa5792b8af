//! The response store in one file of an embedded database (redb), which survives being killed at
//! any moment. A file that is damaged is set aside and a new one begun: what is in it can be
//! computed again.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use farthing_core::cache::Entry;
use farthing_core::cache_key::CacheKey;
use farthing_core::limits::{RESPONSE_STORE_MEMORY_BYTES, RESPONSE_STORE_QUEUE_MAX};
use redb::{Database, DatabaseError, ReadableDatabase, TableDefinition};

use super::writer::{self, Put};
use super::{Counts, ResponseStore};
use crate::error::BackendError;

/// Key to its place in the order of arrival, and the sealed entry.
pub(super) const ANSWERS: TableDefinition<'_, &[u8; 32], (u64, &[u8])> =
    TableDefinition::new("answers 1");
/// Place in the order of arrival to the key, the bytes it counts for, and when it expires.
pub(super) const ORDER: TableDefinition<'_, u64, (&[u8; 32], u64, u64)> =
    TableDefinition::new("order 1");
/// [`BYTES`] and [`NEXT`].
pub(super) const SUMS: TableDefinition<'_, &str, u64> = TableDefinition::new("sums 1");
/// Bytes that all answers count for.
pub(super) const BYTES: &str = "bytes";
/// Place of the next arrival.
pub(super) const NEXT: &str = "next";

/// What every file of this database begins with, by its format's description.
const FILE_MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// Read and write for the owner.
const OWNER_ONLY: u32 = 0o600;

/// Answers in a file.
pub struct DiskStore {
    database: Arc<Database>,
    counts: Arc<Counts>,
    /// Taken on drop: its end is the writer's.
    puts: Option<SyncSender<Put>>,
    writer: Option<JoinHandle<()>>,
}

/// Why a file cannot be opened.
enum Unusable {
    /// It is ours and broken.
    Damaged(String),
    /// Another process has it, or the operating system refuses.
    Refused(String),
}

impl DiskStore {
    /// Opens the file, or begins it; all answers together have so many bytes at most.
    ///
    /// # Errors
    /// `ResponseStore` if the file is not one of ours, is in use, or cannot be written.
    pub fn open(path: &Path, bytes_max: u64) -> Result<DiskStore, BackendError> {
        let failed = |reason: String| BackendError::ResponseStore {
            path: path.display().to_string(),
            reason,
        };
        check_magic(path).map_err(failed)?;
        let opened = match open(path) {
            Err(Unusable::Damaged(reason)) => {
                let aside = set_aside(path).map_err(|error| failed(error.to_string()))?;
                let fields: [(&str, &dyn std::fmt::Display); 2] =
                    [("reason", &reason), ("moved_to", &aside.display())];
                crate::server::log::event("response_store_damaged", &fields);
                check_magic(path).map_err(failed)?;
                open(path)
            }
            opened => opened,
        };
        let (database, bytes) = opened.map_err(|unusable| match unusable {
            Unusable::Damaged(reason) | Unusable::Refused(reason) => failed(reason),
        })?;
        let (database, counts) = (Arc::new(database), Arc::new(Counts::default()));
        counts.bytes.store(bytes, Relaxed);
        let (puts, queue) = sync_channel(RESPONSE_STORE_QUEUE_MAX);
        let writer = writer::start(Arc::clone(&database), Arc::clone(&counts), bytes_max, queue);
        let writer = writer.map_err(|error| failed(error.to_string()))?;
        Ok(DiskStore {
            database,
            counts,
            puts: Some(puts),
            writer: Some(writer),
        })
    }

    fn read(&self, key: &CacheKey) -> Result<Option<Entry>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let answers = transaction.open_table(ANSWERS)?;
        let found = answers.get(&key.0)?;
        Ok(found.and_then(|found| self.counts.open(key, found.value().1)))
    }
}

impl ResponseStore for DiskStore {
    fn get(&self, key: &CacheKey, now_unix_s: u64) -> Option<Entry> {
        // A damaged page may break the database's own assumptions, which it answers with a panic.
        let read = catch_unwind(AssertUnwindSafe(|| self.read(key)));
        let found = match read {
            Ok(Ok(found)) => found.filter(|entry| entry.is_alive(now_unix_s)),
            Ok(Err(_)) | Err(_) => {
                self.counts.errors.fetch_add(1, Relaxed);
                None
            }
        };
        self.counts.looked_up(found.as_ref());
        found
    }

    fn put(&self, key: CacheKey, entry: Entry) {
        let sent = self.puts.as_ref().map(|puts| puts.try_send((key, entry)));
        if let Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) = sent {
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// Waits until what was put is on the disk.
impl Drop for DiskStore {
    fn drop(&mut self) {
        drop(self.puts.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Makes the file if it is not there, for nobody else to read: answers are in it as they were
/// given. A file with another beginning is somebody's, and the path a mistake.
fn check_magic(path: &Path) -> Result<(), String> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(OWNER_ONLY)
        .open(path);
    let mut file = opened.map_err(|error| error.to_string())?;
    let mut start = Vec::with_capacity(FILE_MAGIC.len());
    let read = Read::by_ref(&mut file)
        .take(FILE_MAGIC.len() as u64)
        .read_to_end(&mut start);
    read.map_err(|error| error.to_string())?;
    if start.is_empty() || start == FILE_MAGIC {
        return Ok(());
    }
    Err("this file is not a response store; remove it or name another path".to_owned())
}

fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    let aside = PathBuf::from(name);
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// The database, and the bytes that its answers count for.
fn open(path: &Path) -> Result<(Database, u64), Unusable> {
    let attempt = catch_unwind(|| {
        let database = Database::builder()
            .set_cache_size(RESPONSE_STORE_MEMORY_BYTES)
            .create(path)
            .map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                    Unusable::Refused("another process has this file open".to_owned())
                }
                DatabaseError::Storage(redb::StorageError::Io(error))
                    if error.kind() != std::io::ErrorKind::InvalidData =>
                {
                    Unusable::Refused(error.to_string())
                }
                other => Unusable::Damaged(other.to_string()),
            })?;
        let bytes = prepare(&database).map_err(|error| Unusable::Damaged(error.to_string()))?;
        Ok((database, bytes))
    });
    attempt.unwrap_or_else(|_| Err(Unusable::Damaged("it cannot be read".to_owned())))
}

/// Makes the tables, so that reading finds them.
fn prepare(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let bytes = {
        transaction.open_table(ANSWERS)?;
        transaction.open_table(ORDER)?;
        let sums = transaction.open_table(SUMS)?;
        writer::sum(&sums, BYTES)?
    };
    transaction.commit()?;
    Ok(bytes)
}
