//! The ring in the shared store: `slots` keys for ever, each answer at home in a few of them. Where
//! all homes are taken, what is worth least goes, and a newcomer that is worth less than that is
//! not admitted. Reading touches `CACHE_PROBES` keys at most and finds the place to write to as
//! well, so that writing touches one, unless another worker was there meanwhile.

use super::Levels;
use super::entry::{Entry, Head};
use crate::cache_key::CacheKey;
use crate::limits::CACHE_PROBES;
use crate::store::{self, CAS_IF_ABSENT};

/// What a look into the ring found.
pub(super) enum Found {
    /// The answer under that key, whole and not expired.
    Answer(Entry),
    /// Where it would go.
    Place(Option<Place>),
}

pub(super) fn read(levels: &Levels<'_>, key: &CacheKey, now_unix_s: u64) -> Found {
    let mut least: Option<Place> = None;
    for slot in homes(key, levels.config.slots) {
        let stored = levels.store.get(&slot_key(slot));
        let entry = (stored.as_ref()).and_then(|(sealed, _)| Entry::open(key, sealed));
        if let Some(entry) = entry.filter(|entry| entry.is_alive(now_unix_s)) {
            return Found::Answer(entry);
        }
        let place = Place::of(levels, slot, stored, key, now_unix_s);
        if least.as_ref().is_none_or(|least| place.worth < least.worth) {
            least = Some(place);
        }
    }
    Found::Place(least)
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

/// Writes an answer to where a look found that it goes, or else looks for a place.
pub(super) fn write(
    levels: &Levels<'_>,
    key: &CacheKey,
    entry: &Entry,
    found: Option<Place>,
    now_unix_s: u64,
) -> Written {
    let sealed = entry.seal(key);
    if sealed.len() > levels.config.entry_bytes_max {
        return Written::TooLarge;
    }
    let worth = alive(levels, key, &entry.head());
    let put = |place: Option<Place>| match place {
        Some(place) if place.worth <= worth => {
            let written = (levels.store).set(&slot_key(place.slot), &sealed, Some(place.cas));
            written.map_or(Written::Raced, |()| Written::Yes)
        }
        Some(_) => Written::NotAdmitted,
        None => Written::Raced,
    };
    match put(found) {
        Written::Raced => put(choose(levels, key, now_unix_s)),
        written => written,
    }
}

/// Where an answer goes, its own place first if it is there already.
fn choose(levels: &Levels<'_>, key: &CacheKey, now_unix_s: u64) -> Option<Place> {
    homes(key, levels.config.slots)
        .map(|slot| {
            let stored = levels.store.get(&slot_key(slot));
            Place::of(levels, slot, stored, key, now_unix_s)
        })
        .min_by_key(|place| place.worth)
}

/// A slot as it was seen.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    slot: u32,
    cas: u32,
    /// The smaller, the sooner it is overwritten.
    worth: Worth,
}

impl Place {
    fn of(
        levels: &Levels<'_>,
        slot: u32,
        stored: Option<(Vec<u8>, u32)>,
        key: &CacheKey,
        now_unix_s: u64,
    ) -> Place {
        let Some((sealed, cas)) = stored else {
            return Place {
                slot,
                cas: CAS_IF_ABSENT,
                worth: Worth::Nothing,
            };
        };
        let worth = match Entry::peek(&sealed) {
            Some((there, _)) if there == *key => Worth::Same,
            Some((there, head)) if head.is_alive(now_unix_s) => alive(levels, &there, &head),
            _ => Worth::Nothing,
        };
        Place { slot, cas, worth }
    }
}

/// In eviction order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// The same key, already there: never store an answer twice.
    Same,
    /// Absent, damaged or expired.
    Nothing,
    /// `worth` as [`super::PerVm::worth`] has it; of equals the older goes.
    Alive { worth: u64, created_unix_s: u64 },
}

fn alive(levels: &Levels<'_>, key: &CacheKey, head: &Head) -> Worth {
    Worth::Alive {
        worth: levels.per_vm.worth(key, head),
        created_unix_s: head.created_unix_s,
    }
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
    store::numbered_key("cache", slot)
}
