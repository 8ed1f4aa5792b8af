//! The embedded store: what is put is found again, after any end of the process, and what is
//! damaged is all that is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use farthing_backend::semantic::conversation::Asked;
use farthing_backend::semantic::index::Quantized;
use farthing_backend::semantic::scope::{RouteKey, Scope};
use farthing_backend::semantic::store::{Damage, EmbeddedStore, Record, SemanticStore};

const BYTES_MAX: u64 = 16 << 20;
const NOW: u64 = 1_000;
const LATER: u64 = u64::MAX - 1;

fn path(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("semantic-{name}"));
    let _ = fs::remove_file(&path);
    path
}

fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, BYTES_MAX).expect("it opens")
}

/// A vector that is no other one's neighbour.
fn vector(number: usize) -> Quantized {
    let mut numbers = vec![0.0; 384];
    numbers[number % 384] = 1.0;
    numbers[(number / 384) % 384] += 0.5;
    let length = numbers.iter().map(|x| x * x).sum::<f32>().sqrt();
    Quantized::of(&numbers.iter().map(|x| x / length).collect::<Vec<_>>())
}

fn record(scope: u8, number: usize, answer_bytes: usize) -> Record {
    Record {
        scope: Scope([scope; 32]),
        asked: Asked {
            question: format!("question {number}"),
            context: None,
        },
        vector: vector(number),
        context_vector: None,
        answer_id: number as u64,
        created_unix_s: NOW,
        expires_unix_s: LATER,
        cost_tokens: 100,
        answer: vec![b'a'; answer_bytes],
    }
}

/// Whether a record is found by its vector.
fn has(store: &EmbeddedStore, scope: u8, number: usize) -> bool {
    let found = store.nearest(&Scope([scope; 32]), &vector(number), 1, NOW);
    found
        .first()
        .is_some_and(|candidate| candidate.record.answer_id == number as u64)
}

#[test]
fn what_is_put_outlives_the_store() {
    let path = path("outlives");
    let store = open(&path);
    for number in 0..50 {
        store.put(record(1, number, 100));
    }
    store.put(record(1, 7, 200));
    store.remove(&record(1, 8, 0));
    let route = RouteKey([9; 32]);
    store.keep_samples(&route, vec![1, 2, 3]);
    drop(store);
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "questions are nobody else's");
    let store = open(&path);
    assert_eq!(store.damage(), Damage::default());
    assert!(
        (0..50)
            .filter(|number| *number != 8)
            .all(|number| has(&store, 1, number))
    );
    assert!(!has(&store, 1, 8) && !has(&store, 2, 7));
    let again = store.nearest(&Scope([1; 32]), &vector(7), 1, NOW);
    assert_eq!(again[0].record.answer.len(), 200, "asked twice, kept once");
    assert_eq!(store.counts().entries.load(Relaxed), 49);
    assert_eq!(store.samples(&route), Some(vec![1, 2, 3]));
    assert!(
        store
            .nearest(&Scope([1; 32]), &vector(7), 4, LATER)
            .is_empty(),
        "expired"
    );
}

#[test]
fn only_what_is_damaged_is_lost() {
    let path = path("damaged");
    let store = open(&path);
    for number in 0..20 {
        store.put(record(1, number, 1_000));
    }
    drop(store);
    let whole = fs::read(&path).expect("the file");
    let each = (whole.len() - 8) / 20;
    // A byte of the fourth record, another of the tenth, and the end torn off.
    let mut bytes = whole.clone();
    bytes[8 + 3 * each + each / 2] ^= 0x40;
    bytes[8 + 9 * each + 5] ^= 0xff;
    bytes.truncate(whole.len() - each / 2);
    fs::write(&path, &bytes).expect("written");
    let store = open(&path);
    let lost: Vec<usize> = (0..20).filter(|number| !has(&store, 1, *number)).collect();
    assert_eq!(lost, [3, 9, 19]);
    assert_eq!(store.damage().places, 3);
    store.put(record(1, 3, 10));
    drop(store);
    assert!(has(&open(&path), 1, 3), "it goes on behind the damage");
    // Whatever the bytes are, it opens or says why not.
    for seed in 0..40_usize {
        let mut bytes = whole.clone();
        for step in 0..30 {
            let at = 8 + (seed * 7_919 + step * 104_729) % (bytes.len() - 8);
            bytes[at] = bytes[at].wrapping_add((1 + seed * step % 250) as u8);
        }
        fs::write(&path, &bytes).expect("written");
        let _ = open(&path);
    }
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let path = path("foreign");
    fs::write(&path, "my diary").expect("written");
    assert!(EmbeddedStore::open(&path, BYTES_MAX).is_err());
    assert_eq!(fs::read(&path).expect("it is there"), b"my diary");
    fs::remove_file(&path).expect("removed");
    let held = open(&path);
    assert!(
        EmbeddedStore::open(&path, BYTES_MAX).is_err(),
        "two writers"
    );
    drop(held);
}

#[test]
fn bytes_are_bounded_in_memory_and_in_the_file() {
    let path = path("bounded");
    let store = EmbeddedStore::open(&path, 1 << 20).expect("it opens");
    let dear = Record {
        cost_tokens: 1_000_000,
        ..record(1, 0, 4_000)
    };
    store.put(dear.clone());
    for number in 1..3_000 {
        store.put(record(1, number, 4_000));
        if number % 50 == 0 {
            store.served(&record(1, 1, 0));
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    store.put(record(1, 5_000, 2 << 20));
    assert!(store.counts().bytes.load(Relaxed) <= 1 << 20);
    assert!(has(&store, 1, 0), "what was dear to make stays");
    assert!(has(&store, 1, 2_999) && !has(&store, 1, 500) && !has(&store, 1, 5_000));
    drop(store);
    let length = fs::metadata(&path).expect("a file").len();
    assert!(length < 8 << 20, "{length} bytes for 12 MB that came");
    let store = EmbeddedStore::open(&path, 1 << 20).expect("it opens");
    assert!(store.counts().bytes.load(Relaxed) <= 1 << 20);
    assert!(has(&store, 1, 0), "it was written first");
}

/// The process that is killed: it puts records until then and says how many.
#[test]
fn child_that_is_killed() {
    let Ok(path) = std::env::var("FARTHING_KILLED_STORE") else {
        return;
    };
    let store = open(&PathBuf::from(path));
    for number in 0..100_000 {
        store.put(record(1, number, 500));
        if number % 50 == 49 {
            std::thread::sleep(Duration::from_millis(20));
            println!("put {}", number + 1);
        }
    }
}

#[test]
fn being_killed_loses_nothing_that_was_written() {
    use std::io::{BufRead, BufReader};
    let path = path("killed");
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args(["store::child_that_is_killed", "--exact", "--nocapture"])
        .env("FARTHING_KILLED_STORE", &path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let third = lines
        .by_ref()
        .map_while(Result::ok)
        .filter(|line| line.contains("put "))
        .nth(4);
    assert!(third.is_some(), "it has put some");
    child.kill().expect("killed");
    child.wait().expect("ended");
    let store = open(&path);
    let kept = store.counts().entries.load(Relaxed);
    assert!(
        kept >= 150,
        "{kept} of 250 that were put, 50 to 100 still on their way"
    );
    assert!(store.damage().places <= 1, "at most the last one is torn");
}
