//! The store of the semantic cache: in both forms what is put is found again, in its scope and its
//! time; in a file after any end of the process, and what is damaged is all that is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use farthing_backend::remote::Link;
use farthing_backend::semantic::conversation::Asked;
use farthing_backend::semantic::index::Quantized;
use farthing_backend::semantic::scope::{RouteKey, Scope};
use farthing_backend::semantic::store::{
    Damage, EmbeddedStore, Record, RedisSemanticStore, SemanticStore, Unanswered,
};
use farthing_core::limits::REDIS_SCOPE_LARGE;

use super::valkey::{PATIENT_MS, Valkey, wait_until};

const BYTES_MAX: u64 = 16 << 20;
const NOW: u64 = 1_000;
const LATER: u64 = u64::MAX - 1;

/// Where a store is, which can be opened again and again.
enum Form {
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
        let valkey = Valkey::with_search();
        let link = valkey.link(PATIENT_MS);
        let redis = Form::Redis {
            link,
            _valkey: valkey,
        };
        [Form::File(path(name)), redis]
    }

    fn open(&self) -> Box<dyn SemanticStore> {
        match self {
            Form::File(path) => Box::new(open(path)),
            Form::Redis { link, .. } => Box::new(redis_store(link)),
        }
    }
}

pub fn redis_store(link: &Arc<Link>) -> RedisSemanticStore {
    RedisSemanticStore::start(link, "farthing", "a model").expect("it starts")
}

fn path(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("semantic-{name}"));
    let _ = fs::remove_file(&path);
    path
}

fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, BYTES_MAX).expect("it opens")
}

/// A vector that is no other one's neighbour.
pub fn vector(number: usize) -> Quantized {
    let mut numbers = vec![0.0; 384];
    numbers[number % 384] = 1.0;
    numbers[(number / 384) % 384] += 0.5;
    let length = numbers.iter().map(|x| x * x).sum::<f32>().sqrt();
    Quantized::of(&numbers.iter().map(|x| x / length).collect::<Vec<_>>())
}

pub fn record(scope: u8, number: usize, answer_bytes: usize) -> Record {
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
pub fn has(store: &dyn SemanticStore, scope: u8, number: usize) -> bool {
    let found = store.nearest(&Scope([scope; 32]), &vector(number), 1, NOW);
    found
        .first()
        .is_some_and(|candidate| candidate.record.answer_id == number as u64)
}

#[test]
fn what_is_put_outlives_the_store() {
    for form in Form::each("outlives") {
        let store = form.open();
        for number in 0..50 {
            store.put(record(1, number, 100));
        }
        store.put(record(1, 7, 200));
        store.remove(&record(1, 8, 0));
        let route = RouteKey([9; 32]);
        store.keep_samples(&route, vec![1, 2, 3]);
        drop(store);
        let store = form.open();
        wait_until("it is indexed", || has(&*store, 1, 49));
        assert!(
            (0..50)
                .filter(|number| *number != 8)
                .all(|number| has(&*store, 1, number))
        );
        assert!(!has(&*store, 1, 8) && !has(&*store, 2, 7));
        let again = store.nearest(&Scope([1; 32]), &vector(7), 1, NOW);
        assert_eq!(again[0].record.answer.len(), 200, "asked twice, kept once");
        let entries = || store.counts().entries.load(Relaxed);
        wait_until("they are counted", || entries() == 49);
        assert_eq!(store.samples(&route), Ok(Some(vec![1, 2, 3])));
        assert_eq!(store.samples(&RouteKey([8; 32])), Ok(None));
        let late = store.nearest(&Scope([1; 32]), &vector(7), 4, LATER);
        assert!(late.is_empty(), "expired");
        let counted = [&store.counts().errors, &store.counts().damaged];
        assert_eq!(counted.map(|counter| counter.load(Relaxed)), [0, 0]);
    }
}

/// Numbers that look random, and are the same each time.
fn drawn(seed: usize) -> impl Iterator<Item = f32> {
    let mut state = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
}

/// A vector of length 1, near those of its topic.
fn topical(topic: usize, number: usize) -> Quantized {
    let own = drawn(1_000 + number).map(|x| x * 0.6);
    let numbers: Vec<f32> = drawn(topic)
        .zip(own)
        .skip(8)
        .take(384)
        .map(|(a, b)| a + b)
        .collect();
    let length = numbers.iter().map(|x| x * x).sum::<f32>().sqrt();
    Quantized::of(&numbers.iter().map(|x| x / length).collect::<Vec<_>>())
}

/// What decides about an answer is the same in both forms, to the last bit.
#[test]
fn both_forms_give_the_same_candidates_with_the_same_cosines() {
    let forms = Form::each("same");
    let stores = forms.each_ref().map(Form::open);
    let (scopes, each) = (3, 300);
    for number in 0..scopes * each {
        let record = Record {
            vector: topical(number % 20, number),
            ..record((number % scopes) as u8, number, 100)
        };
        stores.iter().for_each(|store| store.put(record.clone()));
        // The queue is bounded and drops; here nothing may be.
        let written = |store: &dyn SemanticStore| store.counts().written.load(Relaxed);
        wait_until("they are written", || {
            stores
                .iter()
                .all(|store| written(&**store) + 32 > number as u64)
        });
    }
    let all = (scopes * each) as u64;
    wait_until("they are counted", || {
        let entries = |store: &dyn SemanticStore| store.counts().entries.load(Relaxed);
        stores.iter().all(|store| entries(&**store) == all)
    });
    for query in 0..60 {
        let vector = topical(query % 20, 10_000 + query);
        let scope = Scope([(query % scopes) as u8; 32]);
        let [file, redis] = stores.each_ref().map(|store| {
            let near = store.nearest(&scope, &vector, 16, NOW);
            let near = near.iter().map(|near| (near.cosine, near.record.answer_id));
            near.collect::<Vec<_>>()
        });
        assert_eq!(file.len(), 16, "query {query}");
        assert_eq!(file, redis, "query {query}");
    }
}

/// In a large scope Redis follows links instead of comparing all, and still finds nearly what there
/// is.
#[test]
fn a_large_scope_is_looked_through_nearly_as_well() {
    let forms = Form::each("large");
    let stores = forms.each_ref().map(Form::open);
    let count = REDIS_SCOPE_LARGE as usize + 100;
    for number in 0..count {
        let record = Record {
            vector: topical(number % 100, number),
            ..record(1, number, 100)
        };
        stores.iter().for_each(|store| store.put(record.clone()));
        let written = || stores[1].counts().written.load(Relaxed);
        wait_until("it is written", || written() + 32 > number as u64);
    }
    let entries = || stores[1].counts().entries.load(Relaxed);
    wait_until("they are counted", || entries() == count as u64);
    let (mut same, mut all) = (0, 0);
    for query in 0..200 {
        let vector = topical(query % 100, 10_000 + query);
        let [file, redis] = stores.each_ref().map(|store| {
            let near = store.nearest(&Scope([1; 32]), &vector, 16, NOW);
            near.iter()
                .map(|near| near.record.answer_id)
                .collect::<Vec<_>>()
        });
        assert_eq!(redis.len(), 16, "query {query}");
        all += file.len();
        same += file.iter().filter(|id| redis.contains(id)).count();
    }
    assert!(same * 100 >= all * 95, "{same} of {all}");
}

#[test]
fn a_file_is_its_owner_s_only_and_whole() {
    let path = path("owner");
    let store = open(&path);
    store.put(record(1, 1, 100));
    drop(store);
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "questions are nobody else's");
    assert_eq!(open(&path).damage(), Damage::default());
}

#[test]
fn a_store_that_does_not_answer_says_so_of_samples() {
    let valkey = Valkey::absent(&[]);
    let link = Link::start(&valkey.config(PATIENT_MS)).expect("it starts");
    let store = redis_store(&Arc::new(link));
    assert_eq!(store.samples(&RouteKey([9; 32])), Err(Unanswered));
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
