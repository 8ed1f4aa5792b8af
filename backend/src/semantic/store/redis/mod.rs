//! The store of several backends: a Redis with vector search. Each question is a hash with its
//! vector, its scope as a tag, and its record in the form of the embedded store's file. Redis finds
//! what may be near in that scope; how near it is is computed here from the record, so that both
//! stores decide alike, and what is not exactly what was asked for is no candidate.
//!
//! A route's samples are kept there too, for a backend that begins: the last one's list, whole.
//! Each backend goes on from there by its own samples and holds the bound for what it answers
//! itself. Lists are never merged, for then the samples that two of them share would count twice,
//! and the bound would be believed sooner than it is proven.

mod sizes;
mod space;
mod writer;

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use ::redis::Value;
use farthing_core::limits::SEMANTIC_QUEUE_MAX;

use super::log::{self, Event};
use super::{Candidate, Record, SemanticStore, StoreCounts, Unanswered};
use crate::error::BackendError;
use crate::remote::{Failure, Link, LookUps, command};
use crate::semantic::index::Quantized;
use crate::semantic::scope::{RouteKey, Scope};
use sizes::{Due, Sizes};
use space::{Naming, Space};
use writer::{Work, Writer};

/// Questions with their answers in Redis.
pub struct RedisSemanticStore {
    look_ups: LookUps,
    link: Arc<Link>,
    naming: Naming,
    /// By the width of their vectors. There is one, unless a model is changed.
    spaces: Mutex<HashMap<usize, Arc<Space>>>,
    sizes: Arc<Sizes>,
    counts: Arc<StoreCounts>,
    /// Taken on drop: its end is the writer's.
    works: Option<SyncSender<Work>>,
    writer: Option<JoinHandle<()>>,
}

// === impl RedisSemanticStore ===

impl RedisSemanticStore {
    /// Keeps what the embedding model `revision` has made vectors of, under keys that begin with
    /// `prefix`. Vectors of different models cannot be compared, so they are kept apart.
    ///
    /// # Errors
    /// `SemanticStore` if there is no thread to be had.
    pub fn start(
        link: &Arc<Link>,
        prefix: &str,
        revision: &str,
    ) -> Result<RedisSemanticStore, BackendError> {
        let counts = Arc::new(StoreCounts::default());
        let (works, queue) = sync_channel(SEMANTIC_QUEUE_MAX);
        let sizes = Arc::new(Sizes::default());
        let writer = Writer::new(Arc::clone(link), Arc::clone(&counts), Arc::clone(&sizes));
        let thread = std::thread::Builder::new().name("semantic-store".to_owned());
        let writer = thread.spawn(move || writer.run(&queue));
        let writer = writer.map_err(|error| BackendError::SemanticStore {
            path: "in Redis".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(RedisSemanticStore {
            look_ups: LookUps::new(Arc::clone(link)),
            link: Arc::clone(link),
            naming: Naming::new(prefix, revision),
            spaces: Mutex::default(),
            sizes,
            counts,
            works: Some(works),
            writer: Some(writer),
        })
    }

    /// The space of some width. The writer learns of it with its first use, so that the index is
    /// there soon.
    fn space(&self, width: usize) -> Arc<Space> {
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        let space = spaces.entry(width).or_insert_with(|| {
            let space = Arc::new(self.naming.space(width));
            self.write(Work::Prepare(Arc::clone(&space)));
            space
        });
        Arc::clone(space)
    }

    fn space_of(&self, record: &Record) -> Arc<Space> {
        self.space(record.vector.numbers.len())
    }

    fn write(&self, work: Work) {
        if let Some(works) = &self.works
            && works.try_send(work).is_err()
        {
            StoreCounts::add(&self.counts.dropped, 1);
        }
    }

    /// What was found, if it is a record of ours, whole, of that scope and under its own key.
    fn open(&self, space: &Space, scope: &Scope, key: &[u8], sealed: &[u8]) -> Option<Record> {
        let opened = match log::open(sealed) {
            Some(Event::Put(record)) => Some(record),
            _ => None,
        };
        let is_it = |record: &Record| {
            let (is_its_scope, width) = (record.scope == *scope, record.vector.numbers.len());
            is_its_scope && width == space.width && space.key(record.id()).as_bytes() == key
        };
        let found = opened.filter(is_it);
        if found.is_none() {
            StoreCounts::add(&self.counts.damaged, 1);
            // It would only be in the way of others.
            self.write(Work::Remove(key.to_vec()));
        }
        found
    }

    fn failed(&self, space: Option<&Arc<Space>>, failure: &Failure) {
        match failure {
            Failure::Away => {}
            Failure::Late => StoreCounts::add(&self.counts.errors, 1),
            Failure::NoSuchCommand | Failure::Refused(_) => {
                StoreCounts::add(&self.counts.errors, 1);
                // The index may be gone.
                if let Some(space) = space {
                    self.write(Work::Prepare(Arc::clone(space)));
                }
            }
        }
    }
}

impl SemanticStore for RedisSemanticStore {
    fn nearest(
        &self,
        scope: &Scope,
        vector: &Quantized,
        count: usize,
        now_unix_s: u64,
    ) -> Vec<Candidate> {
        if self.counts.refused.load(Relaxed) > 0 {
            return Vec::new();
        }
        let space = self.space(vector.numbers.len());
        let all = self.counts.entries.load(Relaxed);
        let (plan, due) = self.sizes.plan(scope, all, Instant::now());
        if due == Due::Yes {
            self.write(Work::Count(Arc::clone(&space), *scope));
        }
        let search = space.search((scope, plan), vector, count, self.link.timeout());
        let answer = match self.look_ups.ask(search) {
            Ok(answer) => answer,
            Err(failure) => {
                self.failed(Some(&space), &failure);
                return Vec::new();
            }
        };
        let found = answer.first().map(space::found).unwrap_or_default();
        let records = found
            .into_iter()
            .filter_map(|(key, sealed)| self.open(&space, scope, key, sealed));
        let alive = records.filter(|record| record.is_alive(now_unix_s));
        let mut candidates: Vec<Candidate> = alive
            .map(|record| Candidate {
                cosine: record.vector.cosine(vector),
                record: Arc::new(record),
            })
            .collect();
        candidates.sort_by(|a, b| b.cosine.total_cmp(&a.cosine));
        candidates.truncate(count);
        candidates
    }

    fn put(&self, record: Record) {
        let space = self.space_of(&record);
        self.write(Work::Put(space, Box::new(record)));
    }

    fn served(&self, record: &Record) {
        let key = self.space_of(record).key(record.id());
        self.write(Work::Touch(key.into_bytes()));
    }

    fn remove(&self, record: &Record) {
        let key = self.space_of(record).key(record.id());
        self.write(Work::Remove(key.into_bytes()));
    }

    fn samples(&self, route: &RouteKey) -> Result<Option<Vec<u8>>, Unanswered> {
        let name = self.naming.samples(route);
        let answer = match self.look_ups.ask(command("GET", &[name.as_bytes()])) {
            Ok(answer) => answer,
            Err(Failure::Away | Failure::Late) => return Err(Unanswered),
            Err(failure) => {
                self.failed(None, &failure);
                return Ok(None);
            }
        };
        let Some(Value::BulkString(sealed)) = answer.first() else {
            return Ok(None);
        };
        match log::open(sealed) {
            Some(Event::Samples { route: of, samples }) if of == *route => Ok(Some(samples)),
            _ => {
                StoreCounts::add(&self.counts.damaged, 1);
                Ok(None)
            }
        }
    }

    fn keep_samples(&self, route: &RouteKey, samples: Vec<u8>) {
        let name = self.naming.samples(route).into_bytes();
        let route = *route;
        if let Some(sealed) = log::seal(&Event::Samples { route, samples }) {
            self.write(Work::Samples(name, sealed));
        }
    }

    fn counts(&self) -> &StoreCounts {
        &self.counts
    }
}

/// Waits until what was put is there, if Redis is.
impl Drop for RedisSemanticStore {
    fn drop(&mut self) {
        drop(self.works.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}
