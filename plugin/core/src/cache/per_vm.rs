//! One worker's own cache: least recently used out first, bounded in entries and in bytes. It saves
//! the copy out of the shared store for what this worker serves often, and takes what the ring does
//! not admit.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::entry::{Entry, Head};
use super::sketch::Sketch;
use crate::cache_key::CacheKey;
use crate::limits::CACHE_PER_VM_ENTRIES_MIN;

/// What one worker remembers of the cache.
#[derive(Debug)]
pub struct PerVm {
    entries_max: usize,
    bytes_max: usize,
    bytes: usize,
    /// Rises with every use.
    clock: u64,
    entries: BTreeMap<CacheKey, (Rc<Entry>, u64)>,
    /// Keys by their last use.
    uses: BTreeMap<u64, CacheKey>,
    /// What this worker was asked for, whether it had it or not.
    asked: Sketch,
}

impl PerVm {
    /// `slots` is the size of the ring that this cache stands in front of.
    pub fn new(entries_max: usize, bytes_max: usize, slots: u32) -> PerVm {
        PerVm {
            entries_max,
            bytes_max,
            bytes: 0,
            clock: 0,
            entries: BTreeMap::new(),
            uses: BTreeMap::new(),
            asked: Sketch::new(entries_max.saturating_add(slots as usize)),
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Remembers that a key was asked for.
    pub(super) fn count(&mut self, key: &CacheKey) {
        self.asked.count(key);
    }

    /// What an entry under this key is worth. One that this worker was never asked for was asked
    /// for once, elsewhere.
    pub(super) fn worth(&self, key: &CacheKey, head: &Head) -> u64 {
        head.worth(self.asked.estimate(key).max(1))
    }

    /// An entry that has not expired; an expired one is dropped.
    pub(super) fn fetch(&mut self, key: &CacheKey, now_unix_s: u64) -> Option<Rc<Entry>> {
        let (entry, used) = self.entries.get_mut(key)?;
        if !entry.is_alive(now_unix_s) {
            self.remove(key);
            return None;
        }
        let entry = Rc::clone(entry);
        self.uses.remove(used);
        self.clock = self.clock.wrapping_add(1);
        *used = self.clock;
        self.uses.insert(self.clock, *key);
        Some(entry)
    }

    pub(super) fn insert(&mut self, key: CacheKey, entry: Rc<Entry>) {
        self.remove(&key);
        if self.entries_max == 0 || entry.bytes() > self.bytes_max / CACHE_PER_VM_ENTRIES_MIN {
            return;
        }
        self.clock = self.clock.wrapping_add(1);
        self.bytes = self.bytes.saturating_add(entry.bytes());
        self.uses.insert(self.clock, key);
        self.entries.insert(key, (entry, self.clock));
        while self.entries.len() > self.entries_max || self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.uses.pop_first() else {
                return;
            };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &CacheKey) {
        if let Some((entry, used)) = self.entries.remove(key) {
            self.uses.remove(&used);
            self.bytes = self.bytes.saturating_sub(entry.bytes());
        }
    }
}
