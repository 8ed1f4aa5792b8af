//! One worker's own cache, bounded in entries and in bytes. It saves the copy out of the shared
//! store for what this worker serves often, and takes what the ring does not admit.
//!
//! Eviction is GreedyDual-Size-Frequency (Cherkasova 1998): an entry's priority is the clock at its
//! last use plus what it saves in each byte times how often it is asked for; the lowest priority
//! goes, and the clock moves up to it, so what is not used any more falls behind.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::entry::Entry;
use super::sketch::Sketch;
use crate::cache_key::CacheKey;

/// What one worker remembers of the cache.
#[derive(Debug)]
pub struct PerVm {
    entries_max: usize,
    bytes_max: usize,
    bytes: usize,
    /// Priority of what was evicted last.
    clock: u64,
    /// Rises with every use, to tell equal priorities apart by age.
    sequence: u64,
    entries: BTreeMap<CacheKey, (Rc<Entry>, Priority)>,
    /// Keys in the order in which they go.
    order: BTreeMap<Priority, CacheKey>,
    /// What this worker was asked for, in this cache or not.
    pub(super) asked: Sketch,
}

/// Priority and sequence number of the last use.
type Priority = (u64, u64);

impl PerVm {
    /// `slots` is the size of the ring that this cache stands in front of.
    pub fn new(entries_max: usize, bytes_max: usize, slots: u32) -> PerVm {
        PerVm {
            entries_max,
            bytes_max,
            bytes: 0,
            clock: 0,
            sequence: 0,
            entries: BTreeMap::new(),
            order: BTreeMap::new(),
            asked: Sketch::new(entries_max.saturating_add(slots as usize)),
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What an entry under this key is worth: what it saves in each byte, as often as it was asked
    /// for. An entry that this worker was never asked for was asked for once, elsewhere.
    pub(super) fn worth(&self, key: &CacheKey, entry: &Entry) -> u64 {
        let times = u64::from(self.asked.estimate(key).max(1));
        entry.saved_by_byte().saturating_mul(times)
    }

    /// An entry that has not expired; an expired one is dropped.
    pub(super) fn fetch(&mut self, key: &CacheKey, now_unix_s: u64) -> Option<Rc<Entry>> {
        let (entry, _) = self.entries.get(key)?;
        let entry = Rc::clone(entry);
        if !entry.is_alive(now_unix_s) {
            self.remove(key);
            return None;
        }
        let priority = self.next_priority(key, &entry);
        if let Some((_, before)) = self.entries.get_mut(key) {
            self.order.remove(before);
            *before = priority;
            self.order.insert(priority, *key);
        }
        Some(entry)
    }

    pub(super) fn insert(&mut self, key: CacheKey, entry: Rc<Entry>) {
        self.remove(&key);
        if self.entries_max == 0 || entry.bytes() > self.bytes_max {
            return;
        }
        self.bytes = self.bytes.saturating_add(entry.bytes());
        let priority = self.next_priority(&key, &entry);
        self.order.insert(priority, key);
        self.entries.insert(key, (entry, priority));
        while self.entries.len() > self.entries_max || self.bytes > self.bytes_max {
            let Some(((priority, _), lowest)) = self.order.pop_first() else {
                return;
            };
            self.clock = self.clock.max(priority);
            self.remove(&lowest);
        }
    }

    fn next_priority(&mut self, key: &CacheKey, entry: &Entry) -> Priority {
        self.sequence = self.sequence.wrapping_add(1);
        let priority = self.clock.saturating_add(self.worth(key, entry));
        (priority, self.sequence)
    }

    fn remove(&mut self, key: &CacheKey) {
        if let Some((entry, priority)) = self.entries.remove(key) {
            self.order.remove(&priority);
            self.bytes = self.bytes.saturating_sub(entry.bytes());
        }
    }
}
