//! The exact cache: what goes in comes out unharmed, for its key, in its time, or not at all.

use std::rc::Rc;

use farthing_core::cache::{self, Bytes, CacheControl, Entry, Lru};
use farthing_core::cache_key::CacheKey;
use farthing_core::config::{CacheConfig, SampledCaching};
use farthing_core::store::{MemoryStore, SharedStore};
use proptest::prelude::*;

fn config(slots: u32) -> CacheConfig {
    CacheConfig {
        ttl_s: 60,
        slots,
        entry_bytes_max: 2_048,
        sampled: SampledCaching::Never,
        per_vm_entries: 0,
    }
}

fn key(number: u64) -> CacheKey {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    key[24..].copy_from_slice(&number.to_le_bytes());
    CacheKey(key)
}

fn entry(created_unix_s: u64, answer: &[u8]) -> Entry {
    Entry {
        created_unix_s,
        expires_unix_s: created_unix_s + 60,
        prompt_tokens: 3,
        completion_tokens: 4,
        answer: Bytes(answer.to_vec()),
    }
}

fn off() -> Lru {
    Lru::new(0, 0)
}

fn look(store: &MemoryStore, slots: u32, key: &CacheKey, now: u64) -> Option<Rc<Entry>> {
    cache::lookup(
        store,
        &mut off(),
        &config(slots),
        key,
        &CacheControl::default(),
        now,
    )
}

#[test]
fn an_entry_lives_until_it_expires() {
    let store = MemoryStore::new();
    cache::insert(
        &store,
        &mut off(),
        &config(8),
        &key(1),
        entry(100, b"answer"),
    );
    assert_eq!(look(&store, 8, &key(1), 159).unwrap().answer.0, b"answer");
    assert_eq!(look(&store, 8, &key(1), 160), None);
    assert_eq!(look(&store, 8, &key(2), 100), None);
}

#[test]
fn any_damage_is_a_miss() {
    let store = MemoryStore::new();
    cache::insert(
        &store,
        &mut off(),
        &config(1),
        &key(1),
        entry(100, b"an answer"),
    );
    let slot = store.keys().pop().unwrap();
    let (good, _) = store.get(&slot).unwrap();
    for position in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[position] ^= 1 << bit;
            store.set(&slot, &bad, None).unwrap();
            assert_eq!(
                look(&store, 1, &key(1), 100),
                None,
                "byte {position} bit {bit}"
            );
        }
        store.set(&slot, &good[..position], None).unwrap();
        assert_eq!(look(&store, 1, &key(1), 100), None, "cut at {position}");
    }
    store.set(&slot, &good, None).unwrap();
    assert!(look(&store, 1, &key(1), 100).is_some());
}

#[test]
fn the_ring_has_its_slots_and_no_more_and_evicts_what_is_older() {
    let store = MemoryStore::new();
    for number in 0..500 {
        cache::insert(
            &store,
            &mut off(),
            &config(16),
            &key(number),
            entry(100 + number, b"x"),
        );
    }
    assert!(store.keys().len() <= 16, "{:?}", store.keys());
    assert!(
        look(&store, 16, &key(499), 658).is_some(),
        "the newest is there"
    );
    assert!(
        look(&store, 16, &key(499), 659).is_none(),
        "until it expires"
    );
    let alive = (0..500)
        .filter(|number| look(&store, 16, &key(*number), 599).is_some())
        .count();
    assert!((8..=16).contains(&alive), "{alive}");
}

#[test]
fn the_same_answer_is_stored_once() {
    let store = MemoryStore::new();
    for created in 0..5 {
        cache::insert(
            &store,
            &mut off(),
            &config(64),
            &key(9),
            entry(100 + created, b"x"),
        );
    }
    assert_eq!(store.keys().len(), 1);
    assert_eq!(look(&store, 64, &key(9), 110).unwrap().created_unix_s, 104);
}

#[test]
fn an_entry_that_is_too_large_is_not_stored() {
    let store = MemoryStore::new();
    cache::insert(
        &store,
        &mut off(),
        &config(8),
        &key(1),
        entry(100, &[b'x'; 2_048]),
    );
    assert_eq!(store.keys(), Vec::<String>::new());
}

#[test]
fn the_client_bounds_the_age() {
    let store = MemoryStore::new();
    let mut lru = Lru::new(4, 1 << 20);
    let config = config(8);
    cache::insert(&store, &mut lru, &config, &key(1), entry(100, b"x"));
    let mut ask = |control: CacheControl, now| {
        cache::lookup(&store, &mut lru, &config, &key(1), &control, now).is_some()
    };
    let within = |max_age_s| CacheControl {
        max_age_s: Some(max_age_s),
        ..Default::default()
    };
    assert!(ask(within(6), 105));
    assert!(!ask(within(5), 105));
    assert!(!ask(
        CacheControl {
            no_cache: true,
            ..Default::default()
        },
        105
    ));
    assert!(ask(
        CacheControl {
            no_store: true,
            ..Default::default()
        },
        105
    ));
    assert!(!ask(CacheControl::default(), 160));
}

#[test]
fn a_workers_own_cache_is_bounded_and_keeps_what_is_used() {
    let mut lru = Lru::new(3, 1 << 20);
    for number in 0..3 {
        lru.insert(key(number), Rc::new(entry(100, b"x")));
    }
    assert!(lru.fetch(&key(0), 100).is_some());
    lru.insert(key(3), Rc::new(entry(100, b"x")));
    assert_eq!(lru.len(), 3);
    assert!(lru.fetch(&key(0), 100).is_some() && lru.fetch(&key(1), 100).is_none());
    assert!(lru.fetch(&key(3), 160).is_none(), "expired");
    assert_eq!(lru.len(), 2);
    let mut small = Lru::new(100, 4_000);
    for number in 0..50 {
        small.insert(key(number), Rc::new(entry(100, &[b'x'; 1_000])));
    }
    assert!((2..=4).contains(&small.len()), "{}", small.len());
    small.insert(key(99), Rc::new(entry(100, &[b'x'; 5_000])));
    assert!(small.fetch(&key(99), 100).is_none());
}

proptest! {
    #[test]
    fn foreign_bytes_in_a_slot_are_a_miss(bytes: Vec<u8>) {
        let store = MemoryStore::new();
        store.set("farthing/1/cache/0", &bytes, None).unwrap();
        prop_assert_eq!(look(&store, 1, &key(1), 100), None);
        cache::insert(&store, &mut off(), &config(1), &key(1), entry(100, b"x"));
        prop_assert!(look(&store, 1, &key(1), 100).is_some());
    }
}
