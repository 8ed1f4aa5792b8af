//! The one thread that writes to Redis, and that sees to its index: makes it where it is missing,
//! and says loudly where it cannot be.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use ::redis::{Pipeline, Value};
use farthing_core::limits::{
    CACHE_TTL_S_MAX, REDIS_COUNT_MS, REDIS_LOOK_AFTER_MS, REDIS_SAMPLES_TTL_S, REDIS_WRITE_MS,
};

use super::sizes::Sizes;
use super::space::{self, Space};
use crate::remote::{Failure, Link, command};
use crate::semantic::scope::Scope;
use crate::semantic::store::log::{self, Event};
use crate::semantic::store::{Record, StoreCounts};
use crate::server::log as events;
use crate::store::now_unix_s;

/// One thing to do.
pub(super) enum Work {
    Put(Arc<Space>, Box<Record>),
    /// It answered a question: Redis is to think of it as used.
    Touch(Vec<u8>),
    Remove(Vec<u8>),
    /// A key, and what it is to hold.
    Samples(Vec<u8>, Vec<u8>),
    /// It is used for the first time, or a look-up has failed: the index may not be there.
    Prepare(Arc<Space>),
    /// How many entries are there in that scope?
    Count(Arc<Space>, Scope),
}

/// Does what is to be done, in order.
pub(super) struct Writer {
    link: Arc<Link>,
    counts: Arc<StoreCounts>,
    sizes: Arc<Sizes>,
    /// The space of the last question, and the connection over which its index was seen.
    space: Option<Arc<Space>>,
    prepared_on: Option<u64>,
    /// The connection whose server is known to have search, or not.
    asked_on: Option<u64>,
    refusal: Option<String>,
    counted_at: Option<Instant>,
    /// The last write's failure, which is said once.
    failure: Option<Failure>,
}

/// Can the store be used?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Usable {
    Yes,
    No,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(link: Arc<Link>, counts: Arc<StoreCounts>, sizes: Arc<Sizes>) -> Writer {
        Writer {
            link,
            counts,
            sizes,
            space: None,
            prepared_on: None,
            asked_on: None,
            refusal: None,
            counted_at: None,
            failure: None,
        }
    }

    /// Until nobody has anything to do any more.
    pub(super) fn run(mut self, queue: &Receiver<Work>) {
        loop {
            match queue.recv_timeout(Duration::from_millis(REDIS_LOOK_AFTER_MS)) {
                Ok(work) => self.work(work),
                Err(RecvTimeoutError::Timeout) => self.look_after(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::Put(space, record) => self.put(&space, &record),
            Work::Touch(key) => drop(self.ask(command("TOUCH", &[&key]))),
            Work::Remove(key) => drop(self.ask(command("UNLINK", &[&key]))),
            Work::Samples(key, sealed) => {
                let lives_s = REDIS_SAMPLES_TTL_S.to_string();
                let set: [&[u8]; 4] = [&key, &sealed, b"EX", lives_s.as_bytes()];
                let written = self.ask(command("SET", &set));
                self.wrote(written);
            }
            Work::Prepare(space) => {
                self.prepared_on = None;
                self.prepare(&space);
            }
            Work::Count(space, scope) => {
                let answer = self.ask(space.count(&scope)).ok();
                let entries = answer.and_then(|answer| space::total(answer.first()?));
                if let Some(entries) = entries {
                    self.sizes.set(&scope, entries);
                }
            }
        }
    }

    fn put(&mut self, space: &Arc<Space>, record: &Record) {
        let lives_s = record.expires_unix_s.saturating_sub(now_unix_s());
        if lives_s == 0 {
            return;
        }
        let (Usable::Yes, Some(sealed)) = (
            self.prepare(space),
            log::seal(&Event::Put(Record::clone(record))),
        ) else {
            StoreCounts::add(&self.counts.dropped, 1);
            return;
        };
        let lives_s = lives_s.min(CACHE_TTL_S_MAX.into());
        let place = (record.id(), &record.scope);
        let written = self.ask(space.put(place, &record.vector, &sealed, lives_s));
        self.wrote(written);
        self.counted_at = None;
    }

    fn ask(&self, commands: Pipeline) -> Result<Vec<Value>, Failure> {
        self.link
            .ask(commands, Duration::from_millis(REDIS_WRITE_MS))
    }

    fn wrote(&mut self, written: Result<Vec<Value>, Failure>) {
        let counter = match &written {
            Ok(_) => &self.counts.written,
            Err(Failure::Away) => &self.counts.dropped,
            Err(_) => &self.counts.errors,
        };
        StoreCounts::add(counter, 1);
        let failure = written.err().filter(|failure| *failure != Failure::Away);
        if let Some(failure) = &failure
            && self.failure.as_ref() != Some(failure)
        {
            events::event("semantic_store_write_failed", &[("reason", failure)]);
        }
        self.failure = failure;
    }

    /// Looks after the index when there is nothing to write.
    fn look_after(&mut self) {
        let Some(connection) = self.link.connection() else {
            return;
        };
        let due = |at: Instant| at.elapsed() >= Duration::from_millis(REDIS_COUNT_MS);
        let is_due = self.counted_at.is_none_or(due);
        if self.asked_on != Some(connection) || (self.refusal.is_some() && is_due) {
            self.counted_at = Some(Instant::now());
            self.find_search(connection);
        }
        let Some(space) = self.space.clone() else {
            return;
        };
        if self.prepare(&space) == Usable::Yes && is_due {
            self.counted_at = Some(Instant::now());
            let info = self.ask(space.info());
            match info.as_ref().map(|info| info.first().map(space::entries)) {
                Ok(entries) => {
                    let entries = entries.flatten().unwrap_or_default();
                    self.counts.entries.store(entries, Relaxed);
                }
                Err(Failure::Away | Failure::Late) => {}
                Err(_) => self.prepared_on = None,
            }
        }
    }

    /// Whether this server has search at all, before anybody asks a question.
    fn find_search(&mut self, connection: u64) {
        match self.ask(command("FT._LIST", &[])) {
            Ok(_) if self.space.is_none() => self.accept(),
            Err(Failure::NoSuchCommand) => self.refuse("it has no vector search"),
            Err(Failure::Away | Failure::Late) => return,
            // Its index will show it.
            Ok(_) | Err(Failure::Refused(_)) => self.prepared_on = None,
        }
        self.asked_on = Some(connection);
    }

    /// Makes the index if it is not there.
    fn prepare(&mut self, space: &Arc<Space>) -> Usable {
        let Some(connection) = self.link.connection() else {
            return Usable::No;
        };
        let is_same = |before: &Arc<Space>| before.width == space.width;
        if self.space.as_ref().is_some_and(is_same) && self.prepared_on == Some(connection) {
            return match self.refusal {
                None => Usable::Yes,
                Some(_) => Usable::No,
            };
        }
        self.space = Some(Arc::clone(space));
        let made = match self.ask(space.info()) {
            Err(Failure::Refused(_)) => self.ask(space.create()),
            described => described,
        };
        match made {
            Ok(described) => {
                let width = described.first().and_then(space::width);
                if width.is_some_and(|width| width != space.width as u64) {
                    self.refuse("its index has vectors of another width");
                } else {
                    self.accept();
                }
            }
            Err(Failure::NoSuchCommand) => self.refuse("it has no vector search"),
            // Another backend was faster.
            Err(Failure::Refused(word)) if word == "Index" => self.accept(),
            Err(Failure::Refused(word)) => self.refuse(&word),
            Err(Failure::Away | Failure::Late) => return Usable::No,
        }
        self.prepared_on = Some(connection);
        match self.refusal {
            None => Usable::Yes,
            Some(_) => Usable::No,
        }
    }

    /// Nothing is looked up any more, and one line says why.
    fn refuse(&mut self, reason: &str) {
        self.counts.refused.store(1, Relaxed);
        if self.refusal.as_deref() != Some(reason) {
            events::event("semantic_store_refused", &[("reason", &reason)]);
        }
        self.refusal = Some(reason.to_owned());
    }

    fn accept(&mut self) {
        self.refusal = None;
        if self.counts.refused.swap(0, Relaxed) > 0 {
            events::event("semantic_store_usable", &[]);
        }
    }
}
