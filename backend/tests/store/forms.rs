//! What holds in both forms.

use std::path::PathBuf;
use std::sync::Arc;

use farthing_backend::remote::Link;
use farthing_backend::store::{RedisStore, ResponseStore};
use farthing_core::cache::{Bytes, Entry};
use farthing_core::cache_key::CacheKey;

use super::file;
use super::valkey::{PATIENT_MS, Valkey};

pub const NOW_UNIX_S: u64 = 4_000_000_000;

/// Where a store is, which can be opened again and again.
pub enum Form {
    File(PathBuf),
    Redis {
        link: Arc<Link>,
        /// It ends with the form.
        _valkey: Valkey,
    },
}

impl Form {
    /// Both, empty.
    fn each(name: &str) -> [Form; 2] {
        let valkey = Valkey::start(&[]);
        let link = valkey.link(PATIENT_MS);
        let redis = Form::Redis {
            link,
            _valkey: valkey,
        };
        [Form::File(file::fresh(name)), redis]
    }

    fn open(&self) -> Box<dyn ResponseStore> {
        match self {
            Form::File(path) => Box::new(file::open(path)),
            Form::Redis { link, .. } => Box::new(redis_store(link)),
        }
    }
}

pub fn redis_store(link: &Arc<Link>) -> RedisStore {
    RedisStore::start(link, "farthing").expect("it starts")
}

pub fn key(number: u64) -> CacheKey {
    let mut key = [3; 32];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    CacheKey(key)
}

/// An answer that no other number has.
pub fn entry(number: u64, bytes: usize) -> Entry {
    let mut answer = number.to_le_bytes().to_vec();
    answer.resize(bytes, number as u8);
    Entry {
        created_unix_s: NOW_UNIX_S,
        expires_unix_s: NOW_UNIX_S + 60,
        prompt_tokens: number,
        completion_tokens: 1,
        cost_nanousd: 0,
        answer: Bytes(answer),
    }
}

pub fn row(store: &dyn ResponseStore, what: &str) -> u64 {
    let name = format!("farthing_response_store_{what}");
    let rows = store.counts().rows();
    let found = rows.into_iter().find(|(row, ..)| row.starts_with(&name));
    found.expect("a row of that name").3
}

#[test]
fn answers_outlive_the_process_until_they_expire() {
    for form in Form::each("outlive") {
        let store = form.open();
        for number in 0..10 {
            store.put(key(number), entry(number, 500));
        }
        drop(store);
        let store = form.open();
        for number in 0..10 {
            let found = store.get(&key(number), NOW_UNIX_S + 59);
            assert_eq!(found, Some(entry(number, 500)));
            assert_eq!(store.get(&key(number), NOW_UNIX_S + 60), None);
        }
        assert_eq!(store.get(&key(10), NOW_UNIX_S), None);
        let counted = ["hits", "misses", "errors", "damaged"].map(|what| row(&*store, what));
        assert_eq!(counted, [10, 11, 0, 0]);
    }
}

#[test]
fn a_key_has_one_answer_the_last() {
    for form in Form::each("last") {
        let store = form.open();
        for number in 0..50 {
            store.put(key(1), entry(number, 30_000));
        }
        drop(store);
        let store = form.open();
        assert_eq!(store.get(&key(1), NOW_UNIX_S), Some(entry(49, 30_000)));
        assert!(row(&*store, "bytes") < 33_000, "{}", row(&*store, "bytes"));
    }
}

#[test]
fn what_has_expired_is_not_kept() {
    for form in Form::each("gone") {
        let store = form.open();
        let expired = Entry {
            // Of long ago, by the clock of the process and of Redis.
            expires_unix_s: 1,
            ..entry(1, 500)
        };
        store.put(key(1), expired);
        store.put(key(2), entry(2, 500));
        drop(store);
        let store = form.open();
        assert_eq!(store.get(&key(1), 0), None);
        assert_eq!(store.get(&key(2), 0), Some(entry(2, 500)));
    }
}

#[test]
fn more_than_can_be_written_is_dropped_and_counted() {
    for form in Form::each("flood") {
        let store = form.open();
        let count = 20_000;
        for number in 0..count {
            store.put(key(number % 64), entry(number, 4_000));
        }
        let dropped = row(&*store, "dropped");
        drop(store);
        let store = form.open();
        let kept = (0..64).filter_map(|number| store.get(&key(number), NOW_UNIX_S));
        let kept: Vec<Entry> = kept.collect();
        assert!(!kept.is_empty() && kept.iter().all(|kept| kept.answer.0.len() == 4_000));
        assert!(dropped > 0, "a queue of {count} answers");
    }
}
