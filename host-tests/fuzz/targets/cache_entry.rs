//! A value of the shared store where a cached answer should be: whatever is there, it opens exactly
//! or it is a miss.

#![no_main]

use farthing_core::cache::{Bytes, Entry};
use farthing_core::cache_key::CacheKey;
use farthing_core::store;
use libfuzzer_sys::fuzz_target;

const KEY: CacheKey = CacheKey([7; 32]);

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else {
        return;
    };
    match choice % 3 {
        0 => check(bytes),
        1 => check(&with_checksum(bytes)),
        _ => damage(bytes),
    }
});

/// What opens is what was sealed: no two values open to the same answer by chance.
fn check(sealed: &[u8]) {
    let Some(entry) = Entry::open(&KEY, sealed) else {
        return;
    };
    assert_eq!(Entry::open(&KEY, &entry.seal(&KEY)), Some(entry.clone()));
    let _ = (entry.is_alive(u64::MAX), entry.age_s(0), entry.bytes());
    assert_eq!(Entry::open(&CacheKey([8; 32]), sealed), None, "another key");
}

/// Bytes after the right magic and key, under a checksum that fits: only then is the rest read.
fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    let sealed = entry().seal(&KEY);
    let magic = *sealed.first_chunk().expect("a magic");
    store::seal(magic, &[&KEY.0, bytes].concat())
}

/// A good value with bytes changed: the checksum finds any one of them, and chance does the rest.
fn damage(changes: &[u8]) {
    let good = entry().seal(&KEY);
    let mut sealed = good.clone();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % sealed.len();
        sealed[at] ^= change[2];
    }
    if let Some(cut) = changes.chunks_exact(3).remainder().first() {
        sealed.truncate(sealed.len().saturating_sub(usize::from(*cut)));
    }
    let opened = Entry::open(&KEY, &sealed);
    assert_eq!(opened.is_some(), sealed == good, "a damaged entry opened");
}

fn entry() -> Entry {
    Entry {
        created_unix_s: 1_800_000_000,
        expires_unix_s: 1_800_003_600,
        prompt_tokens: 20,
        completion_tokens: 10,
        cost_nanousd: 800,
        answer: Bytes(b"{\"object\":\"chat.completion\"}".to_vec()),
    }
}
