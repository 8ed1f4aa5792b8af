//! A Redis that is not there, dies, hangs, refuses or is none: a miss each time, and when it is
//! back it is used again.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use farthing_backend::config::{KeySource, RedisConfig, RedisUrl};
use farthing_backend::remote::Link;
use farthing_backend::store::ResponseStore;

use super::forms::{NOW_UNIX_S, entry, key, redis_store, row};
use super::valkey::{PATIENT_MS, Valkey, wait_until};

fn counted(link: &Link, what: &str) -> u64 {
    let name = format!("farthing_redis_{what}");
    let rows = link.rows();
    let found = rows.into_iter().find(|(row, ..)| row.starts_with(&name));
    found.expect("a row of that name").3
}

/// Puts an answer until it is kept, and finds it.
#[track_caller]
fn check_works(store: &dyn ResponseStore, number: u64) {
    wait_until("it keeps answers and finds them", || {
        store.put(key(number), entry(number, 500));
        store.get(&key(number), NOW_UNIX_S) == Some(entry(number, 500))
    });
}

#[test]
fn one_that_is_not_there_is_missed_until_it_comes() {
    let mut valkey = Valkey::absent(&[]);
    let link = Arc::new(Link::start(&valkey.config(PATIENT_MS)).expect("it starts"));
    let store = redis_store(&link);
    store.put(key(1), entry(1, 500));
    wait_until("it is dropped", || row(&store, "dropped") == 1);
    assert_eq!(store.get(&key(1), NOW_UNIX_S), None);
    assert_eq!((counted(&link, "up"), counted(&link, "late")), (0, 0));
    valkey.run();
    check_works(&store, 2);
    assert_eq!(counted(&link, "up"), 1);
}

#[test]
fn one_that_is_killed_in_the_middle_is_missed_until_it_is_back() {
    let mut valkey = Valkey::start(&[]);
    let link = valkey.link(PATIENT_MS);
    let store = redis_store(&link);
    for round in 0..3 {
        check_works(&store, round);
        let before = row(&store, "written");
        // Look-ups and writes are on their way when it dies.
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                for number in 0..2_000 {
                    store.put(key(100 + number), entry(number, 5_000));
                    if let Some(found) = store.get(&key(100 + number / 2), NOW_UNIX_S) {
                        assert_eq!(found, entry(number / 2, 5_000));
                    }
                }
            });
            wait_until("some are written", || row(&store, "written") > before + 20);
            valkey.kill();
            asking.join().expect("no look-up fails");
        });
        wait_until("the loss is noticed", || !link.is_up());
        assert_eq!(store.get(&key(round), NOW_UNIX_S), None);
        valkey.run();
    }
    check_works(&store, 9);
    assert!(counted(&link, "connections") >= 4);
}

#[test]
fn one_that_hangs_costs_one_deadline_and_is_used_again_when_it_goes_on() {
    let valkey = Valkey::start(&[]);
    let link = valkey.link(50);
    let store = redis_store(&link);
    store.put(key(1), entry(1, 500));
    wait_until("it is there", || store.get(&key(1), NOW_UNIX_S).is_some());
    let late = counted(&link, "late");
    valkey.hang();
    for _ in 0..1_000 {
        assert_eq!(store.get(&key(1), NOW_UNIX_S), None);
    }
    assert_eq!(counted(&link, "late"), late + 1, "who else waited?");
    valkey.go_on();
    check_works(&store, 1);
}

/// A server of this address, spoken to with patience.
fn config_of(url: &str) -> RedisConfig {
    let config = Valkey::absent(&[]).config(PATIENT_MS);
    RedisConfig {
        url: RedisUrl::try_from(url.to_owned()).expect("an address"),
        ..config
    }
}

#[test]
fn one_that_never_answers_and_one_that_is_none_are_missed() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addresses = [&silent, &other].map(|listener| listener.local_addr().expect("bound"));
    let (said, heard) = std::sync::mpsc::channel();
    // It answers everything with a page, and ends with the test process.
    std::thread::spawn(move || {
        for stream in other.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 1_024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n<html></html>");
            let _ = said.send(());
        }
    });
    for address in addresses {
        let link = Link::start(&config_of(&format!("redis://{address}"))).expect("it starts");
        let store = redis_store(&Arc::new(link));
        assert_eq!(store.get(&key(1), NOW_UNIX_S), None);
        store.put(key(1), entry(1, 500));
        wait_until("it is dropped", || row(&store, "dropped") == 1);
    }
    heard.recv().expect("it was spoken to");
    let (mut stream, _) = silent.accept().expect("so was this one");
    let mut hello = [0; 1];
    stream.read_exact(&mut hello).expect("it was greeted");
}

#[test]
fn a_wrong_password_is_read_again_until_it_is_right() {
    let valkey = Valkey::start(&["--requirepass", "the-right-one"]);
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("redis-password");
    std::fs::write(&file, "the-wrong-one\n").expect("the target folder is writable");
    let config = RedisConfig {
        password: Some(KeySource::File(file.clone())),
        ..valkey.config(PATIENT_MS)
    };
    let store = redis_store(&Arc::new(Link::start(&config).expect("it starts")));
    store.put(key(1), entry(1, 500));
    wait_until("it is dropped", || row(&store, "dropped") == 1);
    assert_eq!(store.get(&key(1), NOW_UNIX_S), None);
    std::fs::write(&file, "the-right-one\n").expect("the target folder is writable");
    check_works(&store, 2);

    std::fs::remove_file(&file).expect("it was there");
    let error = Link::start(&config).err().expect("there is no password");
    assert!(error.to_string().contains("redis.password.file"), "{error}");
}
