//! What is particular to Redis: what lies there, who shares it, and how it is bounded.

use farthing_backend::store::{ResponseStore, now_unix_s};
use farthing_core::cache::Entry;
use redis::Value;

use super::forms::{NOW_UNIX_S, entry, key, redis_store, row};
use super::valkey::{PATIENT_MS, Valkey, wait_until};

#[test]
fn two_backends_share_what_either_has_made() {
    let valkey = Valkey::start(&[]);
    let (one, other) = (valkey.link(PATIENT_MS), valkey.link(PATIENT_MS));
    let (one, other) = (redis_store(&one), redis_store(&other));
    one.put(key(1), entry(1, 500));
    other.put(key(2), entry(2, 500));
    wait_until("both are written", || {
        row(&one, "written") == 1 && row(&other, "written") == 1
    });
    assert_eq!(other.get(&key(1), NOW_UNIX_S), Some(entry(1, 500)));
    assert_eq!(one.get(&key(2), NOW_UNIX_S), Some(entry(2, 500)));
}

#[test]
fn what_lies_there_has_the_form_of_the_file_and_expires() {
    let valkey = Valkey::start(&[]);
    let link = valkey.link(PATIENT_MS);
    let store = redis_store(&link);
    let lives_s = 2;
    let entry = Entry {
        expires_unix_s: now_unix_s() + lives_s,
        ..entry(1, 500)
    };
    store.put(key(1), entry.clone());
    wait_until("it is written", || row(&store, "written") == 1);
    let name = valkey.keys("farthing:r:*").remove(0);
    assert_eq!(
        valkey.ask(&[b"GET", &name]),
        Value::BulkString(entry.seal(&key(1)))
    );
    wait_until("Redis has forgotten it", || {
        valkey.ask(&[b"EXISTS", &name]) == Value::Int(0)
    });
    assert_eq!(store.get(&key(1), 0), None);
}

#[test]
fn what_is_not_exactly_its_answer_is_a_miss_and_counted() {
    let valkey = Valkey::start(&[]);
    let link = valkey.link(PATIENT_MS);
    let store = redis_store(&link);
    store.put(key(1), entry(1, 500));
    store.put(key(2), entry(2, 500));
    wait_until("both are written", || row(&store, "written") == 2);
    let names = valkey.keys("farthing:r:*");
    let [Value::BulkString(first), Value::BulkString(second)] =
        [&names[0], &names[1]].map(|name| valkey.ask(&[b"GET", name]))
    else {
        panic!("they are strings");
    };
    // Each under the other's key, whole as they are.
    valkey.ask(&[b"SET", &names[0], &second]);
    valkey.ask(&[b"SET", &names[1], &first]);
    let both = || [1, 2].map(|number| store.get(&key(number), NOW_UNIX_S));
    assert_eq!(both(), [None, None]);
    assert_eq!(row(&store, "damaged"), 2);
    let mut damages = 2;
    for at in (0..first.len()).step_by(7) {
        let mut changed = first.clone();
        changed[at] ^= 0x41;
        valkey.ask(&[b"SET", &names[0], &changed]);
        valkey.ask(&[b"SET", &names[1], &first[..at]]);
        assert_eq!(both(), [None, None], "byte {at}");
        damages += 2;
        assert_eq!(row(&store, "damaged"), damages, "byte {at}");
    }
    // And one that is no string at all.
    valkey.ask(&[b"DEL", &names[0]]);
    valkey.ask(&[b"LPUSH", &names[0], b"an item"]);
    assert_eq!(both(), [None, None]);
    assert_eq!(row(&store, "errors"), 1);
}

#[test]
fn its_memory_is_its_own_to_bound() {
    let bounded = ["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"];
    let valkey = Valkey::start(&bounded);
    let link = valkey.link(PATIENT_MS);
    let store = redis_store(&link);
    let count = 2_000;
    for number in 0..count {
        store.put(key(number), entry(number, 4_000));
        wait_until("it is written", || row(&store, "written") > number);
    }
    assert_eq!(row(&store, "errors"), 0);
    let kept: Vec<u64> = (0..count)
        .filter(|number| store.get(&key(*number), NOW_UNIX_S).is_some())
        .collect();
    assert!(
        (100..count as usize / 2).contains(&kept.len()),
        "{}",
        kept.len()
    );
    assert_eq!(kept.last(), Some(&(count - 1)), "the last one is there");

    let full = ["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"];
    let valkey = Valkey::start(&full);
    let link = valkey.link(PATIENT_MS);
    let store = redis_store(&link);
    for number in 0..1_000 {
        store.put(key(number), entry(number, 4_000));
        let done = || row(&store, "written") + row(&store, "errors") > number;
        wait_until("it is written or refused", done);
    }
    assert!(row(&store, "errors") > 0, "it is full");
    assert_eq!(store.get(&key(0), NOW_UNIX_S), Some(entry(0, 4_000)));
}
