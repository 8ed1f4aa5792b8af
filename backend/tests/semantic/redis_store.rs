//! What is particular to the semantic store in Redis: who sees what, what is damaged or forged, and
//! an index that is missing, gone or another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farthing_backend::remote::Link;
use farthing_backend::semantic::bound::{MaxWrong, RouteBound, Sample, Verdict};
use farthing_backend::semantic::cache::SemanticCache;
use farthing_backend::semantic::conversation::Asked;
use farthing_backend::semantic::lookup::Question;
use farthing_backend::semantic::scope::{RouteKey, Scope};
use farthing_backend::semantic::score::Level;
use farthing_backend::semantic::store::{Record, RedisSemanticStore, SemanticStore};
use farthing_backend::store::{RedisStore, ResponseStore};
use redis::Value;

use super::store::{has, record, redis_store, vector};
use super::valkey::{PATIENT_MS, Valkey, wait_until};

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Relaxed)
}

/// Puts a record until it is kept, and finds it.
#[track_caller]
fn check_works(store: &RedisSemanticStore, number: usize) {
    wait_until("it keeps records and finds them", || {
        store.put(record(1, number, 100));
        has(store, 1, number)
    });
}

/// Puts records that nothing drops.
#[track_caller]
fn put(store: &RedisSemanticStore, records: impl IntoIterator<Item = Record>) {
    for record in records {
        let before = count(&store.counts().written);
        store.put(record);
        wait_until("it is written", || count(&store.counts().written) > before);
    }
}

#[test]
fn backends_share_and_tenants_do_not() {
    let valkey = Valkey::with_search();
    let links = [valkey.link(PATIENT_MS), valkey.link(PATIENT_MS)];
    let [one, other] = links.each_ref().map(redis_store);
    // The same questions of twenty tenants, whose answers differ.
    let of = |tenant: u8| Record {
        answer_id: tenant.into(),
        ..record(tenant, 1, 100)
    };
    put(&one, (0..20).map(of));
    for tenant in 0..20 {
        let scope = Scope([tenant; 32]);
        wait_until("it is found", || {
            !other.nearest(&scope, &vector(1), 16, 0).is_empty()
        });
        let near = other.nearest(&scope, &vector(1), 16, 0);
        assert_eq!(near.len(), 1, "{near:?}");
        assert_eq!(near[0].record.answer_id, u64::from(tenant));
    }
    assert!(
        other
            .nearest(&Scope([99; 32]), &vector(1), 16, 0)
            .is_empty()
    );
    // Vectors of another model, of the same width, are nobody's neighbours.
    let others = RedisSemanticStore::start(&links[0], "farthing", "another model");
    let others = others.expect("it starts");
    put(&others, [record(50, 1, 100)]);
    wait_until("it is found", || has(&others, 50, 1));
    assert!(!has(&one, 50, 1) && !has(&others, 1, 1));
}

#[test]
fn what_is_forged_or_damaged_is_no_candidate_and_goes() {
    let valkey = Valkey::with_search();
    let link = valkey.link(PATIENT_MS);
    let store = redis_store(&link);
    put(&store, [record(1, 1, 100), record(2, 1, 100)]);
    wait_until("both are found", || has(&store, 1, 1) && has(&store, 2, 1));
    let keys = valkey.keys("farthing:s:*");
    let [first, second] = [&keys[0], &keys[1]];
    let record_of = |key: &Vec<u8>| match valkey.ask(&[b"HGET", key, b"record"]) {
        Value::BulkString(record) => record,
        other => panic!("{other:?}"),
    };
    let (one, two) = (record_of(first), record_of(second));
    let damaged = || count(&store.counts().damaged);
    let is_clean = |expected| {
        let found = [1, 2].map(|scope| store.nearest(&Scope([scope; 32]), &vector(1), 16, 0));
        let found: Vec<_> = found.iter().flatten().collect();
        assert!(found.iter().all(|near| near.record.answer_id == 1));
        found.len() == expected
    };
    // One tenant's record under the tag of the other, and under the other's own key.
    let tag = valkey.ask(&[b"HGET", second, b"scope"]);
    let Value::BulkString(tag) = tag else {
        panic!("{tag:?}");
    };
    let forged = [first.as_slice(), b"forged"].concat();
    let vector_of = valkey.ask(&[b"HGET", first, b"vector"]);
    let Value::BulkString(numbers) = vector_of else {
        panic!("{vector_of:?}");
    };
    let fields: [&[u8]; 8] = [
        b"HSET", &forged, b"scope", &tag, b"vector", &numbers, b"record", &one,
    ];
    valkey.ask(&fields);
    wait_until("it is seen through", || is_clean(2) && damaged() > 0);
    wait_until("it goes", || {
        valkey.ask(&[b"EXISTS", &forged]) == Value::Int(0)
    });
    let before = damaged();
    valkey.ask(&[b"HSET", second, b"record", &one]);
    wait_until("it is seen through", || is_clean(1) && damaged() > before);
    // Rot, and torn writes.
    for at in (0..two.len()).step_by(23) {
        let mut changed = two.clone();
        changed[at] ^= 0x41;
        for bytes in [&changed[..], &two[..at]] {
            let fields: [&[u8]; 8] = [
                b"HSET", second, b"scope", &tag, b"vector", &numbers, b"record", bytes,
            ];
            let before = damaged();
            wait_until("it is seen through", || {
                // A removal of the one before that is still on its way takes this one along.
                valkey.ask(&fields);
                is_clean(1) && damaged() > before
            });
            wait_until("it goes", || {
                valkey.ask(&[b"EXISTS", second]) == Value::Int(0)
            });
        }
    }
    check_works(&store, 1);
    assert_eq!(count(&store.counts().errors), 0);
}

#[test]
fn redis_forgets_what_has_expired_and_what_is_removed() {
    let valkey = Valkey::with_search();
    let link = valkey.link(PATIENT_MS);
    let store = redis_store(&link);
    let soon = Record {
        expires_unix_s: farthing_backend::store::now_unix_s() + 2,
        ..record(1, 1, 100)
    };
    put(&store, [soon, record(1, 2, 100)]);
    wait_until("it has expired", || valkey.keys("farthing:s:*").len() == 1);
    assert!(!has(&store, 1, 1));
    store.served(&record(1, 2, 100));
    store.remove(&record(1, 2, 100));
    wait_until("it is removed", || valkey.keys("farthing:s:*").is_empty());
    assert!(!has(&store, 1, 2));
}

#[test]
fn without_vector_search_only_the_response_store_works() {
    let valkey = Valkey::start(&[]);
    let link = valkey.link(PATIENT_MS);
    let store = redis_store(&link);
    // Before anybody asks.
    wait_until("it is refused", || count(&store.counts().refused) == 1);
    assert!(!has(&store, 1, 1));
    store.put(record(1, 1, 100));
    wait_until("it is dropped", || count(&store.counts().dropped) == 1);
    assert_eq!(count(&store.counts().errors), 0, "it is not asked for");
    let responses = RedisStore::start(&link, "farthing").expect("it starts");
    assert!(
        responses
            .get(&farthing_core::cache_key::CacheKey([1; 32]), 0)
            .is_none()
    );
    let rows = responses.counts().rows();
    let errors = rows
        .iter()
        .find(|(name, ..)| name.ends_with("errors_total"));
    assert_eq!(errors.expect("a row").3, 0);
}

#[test]
fn an_index_that_is_dropped_is_made_again() {
    let valkey = Valkey::with_search();
    let link = valkey.link(PATIENT_MS);
    let store = redis_store(&link);
    put(&store, (0..30).map(|number| record(1, number, 100)));
    wait_until("it is found", || has(&store, 1, 29));
    let index = index(&valkey);
    valkey.ask(&[b"FT.DROPINDEX", &index]);
    assert!(!has(&store, 1, 29), "a miss, and no error");
    wait_until("all are found", || {
        (0..30).all(|number| has(&store, 1, number))
    });
    assert_eq!(count(&store.counts().refused), 0);
}

#[test]
fn an_index_of_another_width_is_refused_until_it_is_gone() {
    let valkey = Valkey::with_search();
    let link = valkey.link(PATIENT_MS);
    let store = redis_store(&link);
    put(&store, [record(1, 1, 100)]);
    wait_until("it is found", || has(&store, 1, 1));
    let index = index(&valkey);
    valkey.ask(&[b"FT.DROPINDEX", &index]);
    let narrow: [&[u8]; 18] = [
        b"FT.CREATE",
        &index,
        b"ON",
        b"HASH",
        b"PREFIX",
        b"1",
        b"other:",
        b"SCHEMA",
        b"scope",
        b"TAG",
        b"vector",
        b"VECTOR",
        b"FLAT",
        b"6",
        b"TYPE",
        b"FLOAT32",
        b"DIM",
        b"4",
    ];
    let narrow = [&narrow[..], &[b"DISTANCE_METRIC", b"COSINE"]].concat();
    valkey.ask(&narrow);
    wait_until("it is refused", || {
        assert!(!has(&store, 1, 1));
        count(&store.counts().refused) == 1
    });
    valkey.ask(&[b"FT.DROPINDEX", &index]);
    wait_until("it is made again", || has(&store, 1, 1));
    assert_eq!(count(&store.counts().refused), 0);
}

fn index(valkey: &Valkey) -> Vec<u8> {
    let Value::Array(names) = valkey.ask(&[b"FT._LIST"]) else {
        panic!("a list of names");
    };
    match names.as_slice() {
        [Value::SimpleString(name)] => name.clone().into_bytes(),
        others => panic!("{others:?}"),
    }
}

#[test]
fn one_that_is_killed_in_the_middle_is_missed_until_it_is_back() {
    let mut valkey = Valkey::with_search();
    let link = valkey.link(PATIENT_MS);
    let store = redis_store(&link);
    for round in 0..2 {
        check_works(&store, round);
        let before = count(&store.counts().written);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                for number in 0..500 {
                    store.put(record(1, 1_000 + number, 5_000));
                    has(&store, 1, 1_000 + number / 2);
                }
            });
            wait_until("some are written", || {
                count(&store.counts().written) > before + 5
            });
            valkey.kill();
            asking.join().expect("no look-up fails");
        });
        wait_until("the loss is noticed", || !link.is_up());
        assert!(!has(&store, 1, round));
        valkey.run();
    }
    check_works(&store, 9);
}

/// A backend that begins goes on from the samples that were kept, even if it begins while Redis is
/// away: what it does not know yet must not take their place.
#[test]
fn samples_are_taken_over_once_redis_answers() {
    let mut valkey = Valkey::absent(&[]);
    let link = Arc::new(Link::start(&valkey.config(PATIENT_MS)).expect("it starts"));
    let (route, scope) = (RouteKey([7; 32]), Scope([7; 32]));
    let max_wrong = MaxWrong::new(0.01).expect("a share");
    let question = Question {
        asked: Asked {
            question: "Where is it?".to_owned(),
            context: None,
        },
        vector: vector(1),
        context_vector: None,
    };
    let store = Arc::new(redis_store(&link));
    let cache = SemanticCache::new(RouteBound::new(max_wrong), store, 1);
    let knows = |_: &str| true;
    let look_up = || cache.look_up((&scope, &route), &question, &knows, 0);
    drop(look_up());
    let begun = cache.threshold(&route);
    // Another backend has learned that most is wrong.
    let mut bound = RouteBound::new(max_wrong);
    let level = Level::calibrated(max_wrong);
    for _ in 0..200 {
        let verdict = Verdict::Wrong;
        bound.learn(Sample { level, verdict });
    }
    valkey.run();
    wait_until("there is a connection", || link.is_up());
    let other = redis_store(&link);
    other.keep_samples(&route, bound.to_bytes());
    drop(other);
    drop(look_up());
    assert_ne!(cache.threshold(&route), begun);
    assert_eq!(cache.threshold(&route), bound.threshold());
}
