//! The ring in the shared store: `slots` keys for ever, each answer at home in a few of them. Where
//! all homes are taken, what is worth least goes, and a newcomer that is worth less than that is
//! not admitted. Reading and writing touch `CACHE_PROBES` keys at most.

use super::Levels;
use super::entry::Entry;
use crate::cache_key::CacheKey;
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
    /// All that it could replace is worth more.
    NotAdmitted,
    /// Another worker wrote the slot in the same moment; its answer is as good.
    Raced,
}

pub(super) fn write(
    levels: &Levels<'_>,
    key: &CacheKey,
    entry: &Entry,
    now_unix_s: u64,
) -> Written {
    let sealed = entry.seal(key);
    if sealed.len() > levels.config.entry_bytes_max {
        return Written::TooLarge;
    }
    let worth = alive(levels, key, entry);
    match choose(levels, key, now_unix_s) {
        Some(place) if place.worth <= worth => {
            let written = (levels.store).set(&slot_key(place.slot), &sealed, Some(place.cas));
            written.map_or(Written::Raced, |()| Written::Yes)
        }
        Some(_) => Written::NotAdmitted,
        None => Written::Raced,
    }
}

struct Place {
    slot: u32,
    cas: u32,
    /// The smaller, the sooner it is overwritten.
    worth: Worth,
}

/// In eviction order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// The same key, already there: never store an answer twice.
    Same,
    /// Absent, damaged or expired.
    Nothing,
    /// `worth` as [`super::PerVm::worth`] has it; of equals the older goes.
    Alive { worth: u64, created_unix_s: u64 },
}

fn alive(levels: &Levels<'_>, key: &CacheKey, entry: &Entry) -> Worth {
    Worth::Alive {
        worth: levels.per_vm.worth(key, entry),
        created_unix_s: entry.created_unix_s,
    }
}

fn choose(levels: &Levels<'_>, key: &CacheKey, now_unix_s: u64) -> Option<Place> {
    homes(key, levels.config.slots)
        .map(|slot| match levels.store.get(&slot_key(slot)) {
            None => Place {
                slot,
                cas: CAS_IF_ABSENT,
                worth: Worth::Nothing,
            },
            Some((sealed, cas)) => {
                let worth = match Entry::decode(&sealed) {
                    Some((there, _)) if there == *key => Worth::Same,
                    Some((there, entry)) if entry.is_alive(now_unix_s) => {
                        alive(levels, &there, &entry)
                    }
                    _ => Worth::Nothing,
                };
                Place { slot, cas, worth }
            }
        })
        .min_by(|a, b| a.worth.cmp(&b.worth))
}

/// The slots where an entry may lie, some of them the same at worst.
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
