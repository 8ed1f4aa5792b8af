//! The response store as a file: what is damaged is lost or set aside, and its bounds hold.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use farthing_backend::store::{DiskStore, ResponseStore};
use farthing_core::cache::Entry;

use super::forms::{NOW_UNIX_S, entry, key, row};

const BYTES_MAX: u64 = 1 << 20;

/// A path of a file that is not there.
pub fn fresh(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("store");
    std::fs::create_dir_all(&dir).expect("the target folder is writable");
    for suffix in ["", ".damaged"] {
        let _ = std::fs::remove_file(dir.join(format!("{name}{suffix}")));
    }
    dir.join(name)
}

fn try_open(path: &Path) -> Result<DiskStore, String> {
    DiskStore::open(path, BYTES_MAX).map_err(|error| error.to_string())
}

#[track_caller]
pub fn open(path: &Path) -> DiskStore {
    try_open(path).expect("the store opens")
}

/// Fills a file with so many answers, numbered from 0, and closes it.
fn filled(name: &str, count: u64, bytes: usize) -> PathBuf {
    let path = fresh(name);
    let store = open(&path);
    for number in 0..count {
        store.put(key(number), entry(number, bytes));
        // The queue is bounded and drops; here nothing may be.
        while row(&store, "written") + 64 < number {
            std::thread::yield_now();
        }
    }
    drop(store);
    path
}

#[test]
fn the_file_is_its_owner_s_only() {
    let path = filled("owner", 1, 500);
    let metadata = std::fs::metadata(&path).expect("the file");
    let mode = metadata.permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others may read answers");
}

#[test]
fn it_keeps_within_its_bytes_and_drops_the_oldest() {
    let (count, bytes) = (2_000, 4_000);
    let path = filled("bounded", count, bytes);
    let store = open(&path);
    let kept: Vec<u64> = (0..count)
        .filter(|number| store.get(&key(*number), NOW_UNIX_S).is_some())
        .collect();
    let kept_bytes = kept.len() * bytes;
    assert!(kept_bytes as u64 <= BYTES_MAX, "{kept_bytes} bytes");
    assert!(row(&store, "bytes") > BYTES_MAX * 9 / 10);
    let newest: Vec<u64> = (count - kept.len() as u64..count).collect();
    assert_eq!(kept, newest);
    assert!(row(&store, "bytes") <= BYTES_MAX);
    let file_bytes = std::fs::metadata(&path).expect("the file").len();
    assert!(
        file_bytes <= 3 * BYTES_MAX,
        "the file has {file_bytes} bytes"
    );
    store.put(key(count), entry(count, 2 << 20));
    drop(store);
    assert_eq!(
        open(&path).get(&key(count), NOW_UNIX_S),
        None,
        "more than all"
    );
}

#[test]
fn what_has_expired_makes_room_first() {
    let path = fresh("expired");
    let store = open(&path);
    // Of long ago, by the clock of the process.
    for number in 0..10 {
        let expired = Entry {
            expires_unix_s: 1,
            ..entry(number, 500)
        };
        store.put(key(number), expired);
    }
    store.put(key(10), entry(10, 500));
    drop(store);
    let store = open(&path);
    assert!(store.get(&key(10), NOW_UNIX_S).is_some());
    assert!(row(&store, "bytes") < 1_000, "{}", row(&store, "bytes"));
}

/// Damages the file in one place; the store must still open, and every answer be right or missing.
#[track_caller]
fn check_damaged(good: &[u8], count: u64, damage: impl FnOnce(&mut Vec<u8>), what: &str) -> u64 {
    let path = fresh("damaged");
    let mut bytes = good.to_vec();
    damage(&mut bytes);
    std::fs::write(&path, bytes).expect("a writable folder");
    let store = match try_open(&path) {
        Ok(store) => store,
        Err(error) => {
            assert!(error.contains("not a response store"), "{what}: {error}");
            return 0;
        }
    };
    let mut found = 0;
    for number in 0..count {
        if let Some(there) = store.get(&key(number), NOW_UNIX_S) {
            assert_eq!(there, entry(number, 900), "{what}");
            found += 1;
        }
    }
    // And it goes on working, if it is not the damaged page that would be written.
    store.put(key(count), entry(count, 900));
    drop(store);
    found
}

#[test]
fn a_damaged_file_never_gives_a_wrong_answer() {
    let count = 60;
    let path = filled("good", count, 900);
    let good = std::fs::read(&path).expect("the file");
    assert_eq!(check_damaged(&good, count, |_| {}, "nothing"), count);
    let mut wrong_everywhere = 0;
    let step = good.len() / 240;
    for position in (0..good.len()).step_by(step.max(1)) {
        let flip = |bytes: &mut Vec<u8>| bytes[position] ^= 0x41;
        let found = check_damaged(&good, count, flip, &format!("byte {position}"));
        wrong_everywhere += u64::from(found == 0);
    }
    for length in (0..good.len()).step_by(good.len() / 16) {
        let cut = |bytes: &mut Vec<u8>| bytes.truncate(length);
        check_damaged(&good, count, cut, &format!("cut at {length}"));
    }
    let zero = |bytes: &mut Vec<u8>| bytes[4_096..].fill(0);
    assert_eq!(check_damaged(&good, count, zero, "zeros"), 0);
    assert!(
        wrong_everywhere < 24,
        "{wrong_everywhere} of 240 bytes lose everything"
    );
}

#[test]
fn another_program_s_file_is_refused_and_left_alone() {
    let path = fresh("foreign");
    std::fs::write(&path, "somebody's notes").expect("a writable folder");
    let error = try_open(&path).err().expect("it is not ours");
    assert!(
        error.contains("foreign") && error.contains("not a response store"),
        "{error}"
    );
    assert_eq!(
        std::fs::read(&path).expect("it is there"),
        b"somebody's notes"
    );
    let error = try_open(Path::new("/nonexistent/store")).err();
    assert!(error.is_some_and(|error| error.contains("/nonexistent/store")));
}

#[test]
fn a_file_in_use_is_a_clear_error() {
    let path = fresh("in-use");
    let _first = open(&path);
    let error = try_open(&path).err().expect("it is in use");
    assert!(
        error.contains("another process has this file open"),
        "{error}"
    );
}
