//! The key-value store that all workers of one Envoy share, as proxy-wasm gives it: get, set and
//! compare-and-swap; no delete, no expiry, no listing, and one namespace for every plugin with the
//! same `vm_id`. So our keys carry a prefix, the number of keys is bounded by construction, and a
//! value is believed only if it was [`seal`]ed by us.

use crate::digits::Digits;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Every key starts with this: the namespace is shared with other plugins, and on Istio always.
pub const KEY_PREFIX: &str = "farthing/1/";

/// The key of one of many values of a kind.
pub(crate) fn numbered_key(kind: &str, number: u32) -> String {
    [
        KEY_PREFIX,
        kind,
        "/",
        Digits::of(u64::from(number)).as_str(),
    ]
    .concat()
}

/// A compare-and-swap number that no stored value carries. The host ignores the number when the key
/// is absent and compares it when the key is there, so a `set` with this one creates and never
/// overwrites: two workers that create the same key cannot lose either write.
pub const CAS_IF_ABSENT: u32 = u32::MAX;

/// Somebody else wrote the value between our read and our write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared value changed since it was read")]
pub struct CasMismatch;

/// What the host offers. The filter implements it over Envoy's shared data.
pub trait SharedStore {
    /// The value and its compare-and-swap number.
    fn get(&self, key: &str) -> Option<(Vec<u8>, u32)>;
    /// Writes always with `None`, else only if the number is still the stored one. A host failure
    /// other than a mismatch also reports [`CasMismatch`]: nothing was written.
    fn set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch>;
}

/// What [`update`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updated {
    Written,
    /// The change was declined by the closure; nothing was written.
    Declined,
    /// Every attempt met another writer.
    Contended,
}

/// Reads, changes and writes one key, again from the start when another worker wrote meanwhile, at
/// most `attempts_max` times. `change` gets the stored bytes (none when absent) and returns the new
/// ones, or `None` to leave the key as it is.
pub fn update(
    store: &dyn SharedStore,
    key: &str,
    attempts_max: usize,
    mut change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
) -> Updated {
    for _ in 0..attempts_max {
        let stored = store.get(key);
        let (bytes, cas) = match &stored {
            Some((bytes, cas)) => (Some(bytes.as_slice()), *cas),
            None => (None, CAS_IF_ABSENT),
        };
        let Some(new) = change(bytes) else {
            return Updated::Declined;
        };
        if store.set(key, &new, Some(cas)).is_ok() {
            return Updated::Written;
        }
    }
    Updated::Contended
}

const CHECKSUM_BYTES: usize = 8;

/// Wraps a payload for the store: magic, payload, checksum over both.
pub fn seal(magic: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(magic.len() + payload.len() + CHECKSUM_BYTES);
    sealed.extend_from_slice(&magic);
    sealed.extend_from_slice(payload);
    let sum = checksum(&sealed);
    sealed.extend_from_slice(&sum.to_le_bytes());
    sealed
}

/// The payload of a sealed value, or `None` for anything that is not one of ours or is damaged.
pub fn open(magic: [u8; 4], sealed: &[u8]) -> Option<&[u8]> {
    let body_len = sealed.len().checked_sub(CHECKSUM_BYTES)?;
    let (body, sum) = sealed.split_at_checked(body_len)?;
    if checksum(body).to_le_bytes() != sum {
        return None;
    }
    body.strip_prefix(&magic)
}

/// A multiplicative checksum over words of eight bytes, the last one filled up with zeros, and the
/// length. Each step is a bijection of the state (an exclusive or, an odd factor, a rotation), so
/// any one damaged word is always found. It is no defence against somebody who means harm: such a
/// plugin could write to Envoy's memory budget as it likes anyway.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, word: u64| {
        (sum ^ word)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    for (byte, rest) in last.iter_mut().zip(rest) {
        *byte = *rest;
    }
    let sum = words.iter().fold(bytes.len() as u64, |sum, word| {
        step(sum, u64::from_le_bytes(*word))
    });
    step(sum, u64::from_le_bytes(last))
}

/// The store in one process's memory, with the host's exact compare-and-swap rules: for native use
/// and tests.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    values: BTreeMap<String, (Vec<u8>, u32)>,
    last_cas: u32,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    /// Every key, sorted: tests read it to see what was written.
    pub fn keys(&self) -> Vec<String> {
        self.inner.borrow().values.keys().cloned().collect()
    }
}

impl SharedStore for MemoryStore {
    fn get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.inner.borrow().values.get(key).cloned()
    }

    fn set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch> {
        let mut inner = self.inner.borrow_mut();
        let stored_cas = inner.values.get(key).map(|(_, stored)| *stored);
        match (stored_cas, cas) {
            (Some(stored), Some(expected)) if expected != 0 && expected != stored => {
                return Err(CasMismatch);
            }
            _ => {}
        }
        inner.last_cas = inner.last_cas.wrapping_add(1).max(1);
        let new_cas = inner.last_cas;
        inner
            .values
            .insert(key.to_owned(), (value.to_vec(), new_cas));
        Ok(())
    }
}
