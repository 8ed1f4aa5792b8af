//! The response store in a Redis that several backends share: a key for each answer, in the form
//! that it has in the file, until it expires. Redis bounds what it keeps by its own `maxmemory`.
//! One that is gone or slow is a miss.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ::redis::Value;
use farthing_core::cache::Entry;
use farthing_core::cache_key::CacheKey;
use farthing_core::limits::{CACHE_TTL_S_MAX, REDIS_WRITE_MS, RESPONSE_STORE_QUEUE_MAX};

use super::writer::Put;
use super::{Counts, ResponseStore, now_unix_s};
use crate::error::BackendError;
use crate::remote::{Failure, Link, LookUps, command};
use crate::server::log;

/// Answers in Redis.
pub struct RedisStore {
    look_ups: LookUps,
    prefix: String,
    counts: Arc<Counts>,
    /// Taken on drop: its end is the writer's.
    puts: Option<SyncSender<Put>>,
    writer: Option<JoinHandle<()>>,
}

impl RedisStore {
    /// Keeps answers under keys that begin with `prefix`.
    ///
    /// # Errors
    /// `ResponseStore` if there is no thread to be had.
    pub fn start(link: &Arc<Link>, prefix: &str) -> Result<RedisStore, BackendError> {
        let counts = Arc::new(Counts::default());
        let (puts, queue) = sync_channel(RESPONSE_STORE_QUEUE_MAX);
        let (to, of) = (Arc::clone(link), prefix.to_owned());
        let counted = Arc::clone(&counts);
        let thread = std::thread::Builder::new().name("response-store".to_owned());
        let writer = thread.spawn(move || write(&to, &of, &counted, &queue));
        let writer = writer.map_err(|error| BackendError::ResponseStore {
            path: "in Redis".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(RedisStore {
            look_ups: LookUps::new(Arc::clone(link)),
            prefix: prefix.to_owned(),
            counts,
            puts: Some(puts),
            writer: Some(writer),
        })
    }

    fn read(&self, key: &CacheKey) -> Option<Entry> {
        let name = name(&self.prefix, key);
        match self.look_ups.ask(command("GET", &[name.as_bytes()])) {
            Ok(answers) => match answers.into_iter().next() {
                Some(Value::BulkString(sealed)) => self.counts.open(key, &sealed),
                _ => None,
            },
            Err(Failure::Away) => None,
            Err(_) => {
                self.counts.errors.fetch_add(1, Relaxed);
                None
            }
        }
    }
}

impl ResponseStore for RedisStore {
    fn get(&self, key: &CacheKey, now_unix_s: u64) -> Option<Entry> {
        let found = self.read(key);
        let found = found.filter(|entry| entry.is_alive(now_unix_s));
        self.counts.looked_up(found.as_ref());
        found
    }

    fn put(&self, key: CacheKey, entry: Entry) {
        let sent = self.puts.as_ref().map(|puts| puts.try_send((key, entry)));
        if let Some(Err(_)) = sent {
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// Waits until what was put is there, if Redis is.
impl Drop for RedisStore {
    fn drop(&mut self) {
        drop(self.puts.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// The thread that writes, until nobody can put anything any more. An answer that cannot be written
/// is computed again; that is all that is lost.
fn write(link: &Link, prefix: &str, counts: &Counts, queue: &Receiver<Put>) {
    let mut said = None;
    while let Ok((key, entry)) = queue.recv() {
        let lives_s = entry.expires_unix_s.saturating_sub(now_unix_s());
        if lives_s == 0 {
            continue;
        }
        let (name, sealed) = (name(prefix, &key), entry.seal(&key));
        let lives_s = lives_s.min(CACHE_TTL_S_MAX.into()).to_string();
        let set: [&[u8]; 4] = [name.as_bytes(), &sealed, b"EX", lives_s.as_bytes()];
        let set = command("SET", &set);
        let written = link.ask(set, Duration::from_millis(REDIS_WRITE_MS));
        let counter = match &written {
            Ok(_) => &counts.written,
            Err(Failure::Away) => &counts.dropped,
            Err(_) => &counts.errors,
        };
        counter.fetch_add(1, Relaxed);
        // The link says when it is away; anything else is said once until it works again.
        let failure = written.err().filter(|failure| *failure != Failure::Away);
        if let Some(failure) = &failure
            && said.as_ref() != Some(failure)
        {
            log::event("response_store_write_failed", &[("reason", failure)]);
        }
        said = failure;
    }
}

/// What an answer's key is called in Redis.
fn name(prefix: &str, key: &CacheKey) -> String {
    let hexadecimal = key.0.iter().map(|byte| format!("{byte:02x}"));
    format!("{prefix}:r:{}", hexadecimal.collect::<String>())
}
