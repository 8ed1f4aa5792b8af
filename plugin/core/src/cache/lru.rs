//! One worker's own cache: least recently used out first, bounded in entries and in bytes. It saves
//! the copy out of the shared store for what this worker serves often.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::entry::Entry;
use crate::cache_key::CacheKey;

#[derive(Debug)]
pub struct Lru {
    entries_max: usize,
    bytes_max: usize,
    bytes: usize,
    /// Rises with every use.
    clock: u64,
    entries: BTreeMap<CacheKey, (Rc<Entry>, u64)>,
    /// Keys by their last use.
    uses: BTreeMap<u64, CacheKey>,
}

impl Lru {
    pub fn new(entries_max: usize, bytes_max: usize) -> Lru {
        Lru {
            entries_max,
            bytes_max,
            bytes: 0,
            clock: 0,
            entries: BTreeMap::new(),
            uses: BTreeMap::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An entry that has not expired; an expired one is dropped.
    pub fn fetch(&mut self, key: &CacheKey, now_unix_s: u64) -> Option<Rc<Entry>> {
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

    pub fn insert(&mut self, key: CacheKey, entry: Rc<Entry>) {
        self.remove(&key);
        if self.entries_max == 0 || entry.bytes() > self.bytes_max {
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
