//! The exact cache: what goes in comes out unharmed, for its key, in its time, or not at all.

use std::rc::Rc;

use farthing_core::cache::{Bytes, CacheControl, Entry, Levels, PerVm};
use farthing_core::cache_key::CacheKey;
use farthing_core::config::{CacheConfig, CachePolicy, SampledCaching};
use farthing_core::store::{MemoryStore, SharedStore};
use proptest::prelude::*;

const PER_VM_BYTES: usize = 64 << 10;

fn config(slots: u32) -> CacheConfig {
    CacheConfig {
        policy: CachePolicy {
            ttl_s: 60,
            sampled: SampledCaching::Never,
            shared: None,
        },
        slots,
        entry_bytes_max: 2_048,
        per_vm_entries: 0,
    }
}

fn key(number: u64) -> CacheKey {
    let mut key = [0; 32];
    for (word, bytes) in key.chunks_exact_mut(8).enumerate() {
        let mixed = (number ^ (word as u64) << 60).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bytes.copy_from_slice(&(mixed ^ mixed >> 29).to_le_bytes());
    }
    CacheKey(key)
}

fn entry(created_unix_s: u64, answer: &[u8]) -> Entry {
    Entry {
        created_unix_s,
        expires_unix_s: created_unix_s + 60,
        prompt_tokens: 3,
        completion_tokens: 4,
        cost_nanousd: 1_000,
        answer: Bytes(answer.to_vec()),
    }
}

/// A worker in front of a ring, with a cache of its own if it has entries for one.
struct Worker<'a> {
    store: &'a MemoryStore,
    config: CacheConfig,
    per_vm: PerVm,
}

impl Worker<'_> {
    fn new(store: &MemoryStore, slots: u32, per_vm_entries: usize) -> Worker<'_> {
        Worker {
            store,
            config: config(slots),
            per_vm: PerVm::new(per_vm_entries, PER_VM_BYTES, slots),
        }
    }

    fn levels(&mut self) -> Levels<'_> {
        Levels {
            store: self.store,
            per_vm: &mut self.per_vm,
            config: &self.config,
        }
    }

    fn insert(&mut self, key: u64, entry: Entry) {
        let now = entry.created_unix_s;
        self.levels()
            .insert(&self::key(key), Rc::new(entry), None, now);
    }

    fn ask(&mut self, key: u64, now: u64) -> Option<Rc<Entry>> {
        self.levels()
            .look_up(&self::key(key), &CacheControl::default(), now)
            .hit()
    }
}

#[test]
fn an_entry_lives_until_it_expires() {
    let store = MemoryStore::new();
    for per_vm_entries in [0, 4] {
        let mut worker = Worker::new(&store, 8, per_vm_entries);
        worker.insert(1, entry(100, b"answer"));
        assert_eq!(worker.ask(1, 159).unwrap().answer.0, b"answer");
        assert_eq!(worker.ask(1, 160), None);
        assert_eq!(worker.ask(2, 100), None);
    }
}

#[test]
fn any_damage_is_a_miss() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, 1, 0);
    worker.insert(1, entry(100, b"an answer"));
    let slot = store.keys().pop().unwrap();
    let (good, _) = store.get(&slot).unwrap();
    for position in 0..good.len() {
        for other in 1..=255 {
            let mut bad = good.clone();
            bad[position] ^= other;
            store.set(&slot, &bad, None).unwrap();
            assert_eq!(worker.ask(1, 100), None, "byte {position} is {other} off");
        }
        store.set(&slot, &good[..position], None).unwrap();
        assert_eq!(worker.ask(1, 100), None, "cut at {position}");
        let mut longer = good.clone();
        longer.insert(position, good[position]);
        store.set(&slot, &longer, None).unwrap();
        assert_eq!(worker.ask(1, 100), None, "a byte more at {position}");
    }
    store.set(&slot, &good, None).unwrap();
    assert!(worker.ask(1, 100).is_some());
}

/// An entry that is whole but another key's, or of another version, is not this key's answer.
#[test]
fn a_foreign_entry_is_a_miss() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, 1, 0);
    worker.insert(1, entry(100, b"an answer"));
    let slot = store.keys().pop().unwrap();
    for bit in 0..256 {
        let mut other = key(1);
        other.0[bit / 8] ^= 1 << (bit % 8);
        let foreign = entry(100, b"an answer").seal(&other);
        store.set(&slot, &foreign, None).unwrap();
        assert_eq!(worker.ask(1, 100), None, "bit {bit} of the key");
    }
    let sealed = entry(100, b"an answer").seal(&key(1));
    let body = &sealed[4..sealed.len() - 8];
    for (version, found) in [(*b"FCE2", false), (*b"FCE3", true), (*b"FSC1", false)] {
        let resealed = farthing_core::store::seal(version, body);
        store.set(&slot, &resealed, None).unwrap();
        assert_eq!(worker.ask(1, 100).is_some(), found, "{version:?}");
    }
}

#[test]
fn the_ring_has_its_slots_and_no_more() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, 16, 0);
    for number in 0..500 {
        worker.insert(number, entry(100 + number, b"x"));
    }
    assert!(store.keys().len() <= 16, "{:?}", store.keys());
    assert!(worker.ask(499, 658).is_some(), "the newest is there");
    assert!(worker.ask(499, 659).is_none(), "until it expires");
    let alive = (0..500).filter(|number| worker.ask(*number, 599).is_some());
    let alive = alive.count();
    assert!((8..=16).contains(&alive), "{alive}");
}

/// Fills a ring with answers that saved `there` and have `there_bytes`, then offers as many others;
/// returns how many of the first are still there.
fn survivors((there, there_bytes): (u64, usize), (offered, offered_bytes): (u64, usize)) -> usize {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, 64, 0);
    worker.config.entry_bytes_max = 64 << 10;
    let answer = |cost_nanousd, bytes: usize| Entry {
        cost_nanousd,
        ..entry(100, &vec![b'x'; bytes])
    };
    for number in 0..400 {
        worker.insert(number, answer(there, there_bytes));
    }
    let before: Vec<u64> = (0..400).filter(|n| worker.ask(*n, 100).is_some()).collect();
    assert!(before.len() > 56, "{} of 64 slots are full", before.len());
    for number in 400..800 {
        worker.insert(number, answer(offered, offered_bytes));
    }
    let left = before.iter().filter(|n| worker.ask(**n, 100).is_some());
    left.count()
}

#[test]
fn what_saves_little_does_not_push_out_what_saves_much() {
    assert!(
        survivors((50_000, 1_000), (100, 1_000)) > 56,
        "cheap answers"
    );
    assert!(
        survivors((5_000, 1_000), (5_000, 60_000)) > 56,
        "huge answers"
    );
    assert!(
        survivors((100, 1_000), (50_000, 1_000)) < 8,
        "dear ones get in"
    );
    assert!(
        survivors((5_000, 60_000), (5_000, 1_000)) < 8,
        "as do small ones"
    );
    // Not all: some were counted together with others.
    assert!(
        survivors((100, 1_000), (100, 900)) < 24,
        "of equals, the newer"
    );
}

#[test]
fn what_is_asked_for_often_stays() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, 4, 0);
    worker.insert(1, entry(100, b"popular"));
    for _ in 0..8 {
        assert!(worker.ask(1, 100).is_some());
    }
    for number in 2..50 {
        assert!(worker.ask(number, 100).is_none());
        worker.insert(number, entry(100, b"asked for once"));
    }
    assert!(worker.ask(1, 100).is_some());
}

#[test]
fn what_the_ring_does_not_admit_stays_with_its_worker() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, 1, 2);
    let dear = Entry {
        cost_nanousd: 1 << 30,
        ..entry(100, b"dear")
    };
    worker.insert(1, dear);
    worker.insert(2, entry(100, b"cheap"));
    let mut other = Worker::new(&store, 1, 2);
    assert!(worker.ask(2, 100).is_some() && other.ask(2, 100).is_none());
    assert!(worker.ask(1, 100).is_some() && other.ask(1, 100).is_some());
}

#[test]
fn the_same_answer_is_stored_once() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, 64, 0);
    for created in 0..5 {
        worker.insert(9, entry(100 + created, b"x"));
    }
    assert_eq!(store.keys().len(), 1);
    assert_eq!(worker.ask(9, 110).unwrap().created_unix_s, 104);
}

#[test]
fn an_entry_that_is_too_large_is_not_stored() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, 8, 4);
    worker.insert(1, entry(100, &[b'x'; 2_048]));
    assert_eq!(store.keys(), Vec::<String>::new());
    assert_eq!(worker.ask(1, 100), None);
}

#[test]
fn the_client_bounds_the_age() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, 8, 4);
    worker.insert(1, entry(100, b"x"));
    let mut ask =
        |control: CacheControl, now| worker.levels().look_up(&key(1), &control, now).hit();
    let within = |max_age_s| CacheControl {
        max_age_s: Some(max_age_s),
        ..Default::default()
    };
    let no_cache = CacheControl {
        no_cache: true,
        ..Default::default()
    };
    let no_store = CacheControl {
        no_store: true,
        ..Default::default()
    };
    assert!(ask(within(6), 105).is_some());
    assert!(ask(within(5), 105).is_none());
    assert!(ask(no_cache, 105).is_none());
    assert!(ask(no_store, 105).is_some());
    assert!(ask(CacheControl::default(), 160).is_none());
}

#[test]
fn a_workers_own_cache_is_bounded_and_keeps_what_is_used() {
    // One slot that a dear answer holds, so that all others live in the worker's own cache only.
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, 1, 3);
    let dear = Entry {
        cost_nanousd: u64::MAX,
        ..entry(100, b"x")
    };
    Worker::new(&store, 1, 0).insert(99, dear);
    for number in 0..3 {
        worker.insert(number, entry(100, b"x"));
    }
    assert!(worker.ask(0, 100).is_some());
    worker.insert(3, entry(100, b"x"));
    assert_eq!(worker.per_vm.len(), 3);
    assert!(worker.ask(0, 100).is_some() && worker.ask(1, 100).is_none());
    assert!(worker.ask(3, 160).is_none(), "expired");
    assert_eq!(worker.per_vm.len(), 2);
    let mut small = Worker::new(&store, 1, 100);
    for number in 0..90 {
        small.insert(number, entry(100, &[b'x'; 1_500]));
    }
    let kept = small.per_vm.len();
    assert!((32..PER_VM_BYTES / 1_500).contains(&kept), "{kept}");
    small.config.entry_bytes_max = 64 << 10;
    small.insert(91, entry(100, &[b'x'; 5_000]));
    assert!(small.ask(91, 100).is_none(), "one large one among many");
    assert_eq!(small.per_vm.len(), kept);
}

proptest! {
    #[test]
    fn foreign_bytes_in_a_slot_are_a_miss(bytes: Vec<u8>) {
        let store = MemoryStore::new();
        let mut worker = Worker::new(&store, 1, 0);
        store.set("farthing/1/cache/0", &bytes, None).unwrap();
        prop_assert_eq!(worker.ask(1, 100), None);
        worker.insert(1, entry(100, b"x"));
        prop_assert!(worker.ask(1, 100).is_some());
    }
}
