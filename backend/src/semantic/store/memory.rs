//! What the embedded store holds in memory: every record, found by what is near.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use farthing_core::limits::SEMANTIC_ROUTES_MAX;

use super::log::Event;
use super::worth::Worth;
use super::{Candidate, Record, RecordId};
use crate::semantic::index::{Quantized, VectorIndex};
use crate::semantic::scope::{RouteKey, Scope};

/// Records of bounded bytes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    bytes_max: u64,
    bytes: u64,
    partitions: HashMap<Scope, Partition>,
    records: HashMap<RecordId, Held>,
    worth: Worth,
    expiry: BTreeSet<(u64, RecordId)>,
    samples: HashMap<RouteKey, Vec<u8>>,
}

/// The records of one scope.
#[derive(Debug, Default)]
struct Partition {
    index: VectorIndex,
    /// Which record is in each slot.
    ids: Vec<RecordId>,
}

#[derive(Debug)]
struct Held {
    record: Arc<Record>,
    slot: usize,
}

// === impl Memory ===

impl Memory {
    pub(super) fn new(bytes_max: u64) -> Memory {
        Memory {
            bytes_max,
            ..Memory::default()
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn nearest(
        &self,
        scope: &Scope,
        vector: &Quantized,
        count: usize,
        now_unix_s: u64,
    ) -> Vec<Candidate> {
        let Some(partition) = self.partitions.get(scope) else {
            return Vec::new();
        };
        let near = partition.index.nearest(vector, count);
        let candidates = near.into_iter().filter_map(|neighbour| {
            let held = self.records.get(partition.ids.get(neighbour.slot)?)?;
            let cosine = neighbour.cosine;
            let record = Arc::clone(&held.record);
            Some(Candidate { cosine, record })
        });
        let alive = candidates.filter(|candidate| candidate.record.is_alive(now_unix_s));
        alive.collect()
    }

    /// Takes a record in and says which others had to go. One that is too large by itself is not
    /// taken.
    pub(super) fn put(&mut self, record: Record, now_unix_s: u64) -> Option<Vec<RecordId>> {
        let (id, bytes) = (record.id(), record.bytes());
        if bytes > self.bytes_max {
            return None;
        }
        self.remove(id);
        let partition = self
            .partitions
            .entry(record.scope)
            .or_insert_with(|| Partition::new(record.vector.numbers.len()));
        let slot = partition.index.push(&record.vector)?;
        partition.ids.push(id);
        self.worth.add(id, record.cost_tokens, bytes);
        self.expiry.insert((record.expires_unix_s, id));
        self.bytes += bytes;
        let record = Arc::new(record);
        self.records.insert(id, Held { record, slot });
        Some(self.make_room(now_unix_s))
    }

    /// Drops what has expired, and then what is worth least while there is too much.
    fn make_room(&mut self, now_unix_s: u64) -> Vec<RecordId> {
        let mut gone = Vec::new();
        while let Some((expires_unix_s, id)) = self.expiry.first().copied()
            && expires_unix_s <= now_unix_s
        {
            self.remove(id);
            gone.push(id);
        }
        while self.bytes > self.bytes_max
            && let Some(id) = self.worth.evict()
        {
            self.remove(id);
            gone.push(id);
        }
        gone
    }

    pub(super) fn served(&mut self, id: RecordId) {
        self.worth.asked(id);
    }

    pub(super) fn remove(&mut self, id: RecordId) -> bool {
        let Some(held) = self.records.remove(&id) else {
            return false;
        };
        self.worth.remove(id);
        self.expiry.remove(&(held.record.expires_unix_s, id));
        self.bytes = self.bytes.saturating_sub(held.record.bytes());
        let scope = held.record.scope;
        if let Some(partition) = self.partitions.get_mut(&scope) {
            let moved = partition.remove(held.slot);
            if let Some(moved) = moved.and_then(|id| self.records.get_mut(&id)) {
                moved.slot = held.slot;
            }
            if partition.ids.is_empty() {
                self.partitions.remove(&scope);
            }
        }
        true
    }

    pub(super) fn samples(&self, route: &RouteKey) -> Option<&Vec<u8>> {
        self.samples.get(route)
    }

    /// Further routes than are remembered learn anew after a restart.
    pub(super) fn keep_samples(&mut self, route: RouteKey, samples: Vec<u8>) {
        if self.samples.len() < SEMANTIC_ROUTES_MAX || self.samples.contains_key(&route) {
            self.samples.insert(route, samples);
        }
    }

    /// What a file had to say.
    pub(super) fn replay(&mut self, event: Event, now_unix_s: u64) {
        match event {
            Event::Put(record) => {
                if record.is_alive(now_unix_s) {
                    self.put(record, now_unix_s);
                }
            }
            Event::Removed(id) => {
                self.remove(id);
            }
            Event::Samples { route, samples } => self.keep_samples(route, samples),
        }
    }

    /// All that a new file must hold.
    pub(super) fn snapshot(&self) -> (Vec<Arc<Record>>, HashMap<RouteKey, Vec<u8>>) {
        let records = self.records.values().map(|held| Arc::clone(&held.record));
        (records.collect(), self.samples.clone())
    }
}

// === impl Partition ===

impl Partition {
    fn new(width: usize) -> Partition {
        Partition {
            index: VectorIndex::new(width),
            ids: Vec::new(),
        }
    }

    /// Empties a slot and says which record has taken it.
    fn remove(&mut self, slot: usize) -> Option<RecordId> {
        self.index.swap_remove(slot);
        self.ids.swap_remove(slot);
        self.ids.get(slot).copied()
    }
}
