//! The ring in the shared store: `slots` keys for ever, each answer at home in two of them. A full
//! home evicts what has expired, else what is older. Reading and writing touch two keys at most.

use super::entry::Entry;
use crate::cache_key::CacheKey;
use crate::config::CacheConfig;
use crate::limits::CACHE_PROBES;
use crate::store::{self, CAS_IF_ABSENT, SharedStore};

/// The answer under that key, if it is there, whole and not expired.
pub(super) fn read(
    store: &dyn SharedStore,
    slots: u32,
    key: &CacheKey,
    now_unix_s: u64,
) -> Option<Entry> {
    homes(key, slots)
        .filter_map(|slot| store.get(&slot_key(slot)))
        .find_map(|(sealed, _)| Entry::open(key, &sealed))
        .filter(|entry| entry.is_alive(now_unix_s))
}

/// Did an entry go into the ring?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Yes,
    TooLarge,
    /// Another worker wrote the slot in the same moment; its answer is as good.
    Raced,
}

pub(super) fn write(
    store: &dyn SharedStore,
    config: &CacheConfig,
    key: &CacheKey,
    entry: &Entry,
    now_unix_s: u64,
) -> Written {
    let sealed = entry.seal(key);
    if sealed.len() > config.entry_bytes_max {
        return Written::TooLarge;
    }
    let Some(place) = choose(store, config.slots, key, now_unix_s) else {
        return Written::Raced;
    };
    match store.set(&slot_key(place.slot), &sealed, Some(place.cas)) {
        Ok(()) => Written::Yes,
        Err(_) => Written::Raced,
    }
}

struct Place {
    slot: u32,
    cas: u32,
    /// The smaller, the sooner it is overwritten.
    worth: Worth,
}

/// In eviction order: what counts for nothing first, then by age.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// The same key, already there: never store an answer twice.
    Same,
    /// Absent, damaged or expired.
    Nothing,
    Alive {
        created_unix_s: u64,
    },
}

fn choose(store: &dyn SharedStore, slots: u32, key: &CacheKey, now_unix_s: u64) -> Option<Place> {
    homes(key, slots)
        .map(|slot| match store.get(&slot_key(slot)) {
            None => Place {
                slot,
                cas: CAS_IF_ABSENT,
                worth: Worth::Nothing,
            },
            Some((sealed, cas)) => {
                let worth = match Entry::peek(&sealed) {
                    Some(head) if head.key == *key => Worth::Same,
                    Some(head) if head.expires_unix_s > now_unix_s => Worth::Alive {
                        created_unix_s: head.created_unix_s,
                    },
                    _ => Worth::Nothing,
                };
                Place { slot, cas, worth }
            }
        })
        .min_by(|a, b| a.worth.cmp(&b.worth))
}

/// The slots where an entry may lie; the same one twice at worst.
fn homes(key: &CacheKey, slots: u32) -> impl Iterator<Item = u32> {
    let words = key
        .0
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| u32::from_le_bytes(*word));
    words
        .take(CACHE_PROBES as usize)
        .map(move |word| word % slots.max(1))
}

fn slot_key(slot: u32) -> String {
    format!("{}cache/{slot}", store::KEY_PREFIX)
}
