//! Requests that come again byte for byte: their cache key is remembered by a hash of the raw
//! bytes, so that a repeat is answered without being parsed, counted and routed once more. It was
//! judged when it first came, and what it is judged by lives as long as this memory does.
//!
//! A table of fixed size. Only requests that were answered from the cache get in, so that those
//! which never repeat neither fill it nor are hashed for it.

use super::asked::Asked;
use crate::cache_key::{CacheKey, RequestHead};
use crate::config::Secret;
use crate::keyed_hash::{KeyedHash, Purpose};
use crate::limits::REPEAT_SLOTS;
use crate::route::Route;
use crate::tenant::TenantId;

/// What all but the body usually takes.
const RAW_REST_BYTES: usize = 160;

/// Where the bytes came from and what they are.
#[derive(Clone, Copy)]
pub(super) struct RawRequest<'a> {
    pub tenant: TenantId,
    pub head: &'a RequestHead,
    pub path: &'a str,
    pub body: &'a [u8],
}

/// What was decided about a request when it first came.
#[derive(Debug)]
pub(super) struct Repeat {
    sample: u64,
    raw: [u8; 32],
    pub key: CacheKey,
    pub route: Route,
    pub asked: Asked,
}

#[derive(Debug, Default)]
pub(super) struct Repeats {
    slots: Vec<Option<Box<Repeat>>>,
}

impl Repeats {
    pub(super) fn find(&self, secret: &Secret, request: RawRequest<'_>) -> Option<&Repeat> {
        let sample = sample(request.body);
        let repeat = self.slots.get(slot(sample))?.as_deref()?;
        // The sample only spares the hash; the hash decides.
        (repeat.sample == sample && repeat.raw == request.hash(secret)).then_some(repeat)
    }

    /// Remembers a request; one that was in its slot is forgotten.
    pub(super) fn insert(
        &mut self,
        secret: &Secret,
        request: RawRequest<'_>,
        key: CacheKey,
        route: Route,
        asked: Asked,
    ) {
        let sample = sample(request.body);
        self.slots.resize_with(REPEAT_SLOTS, || None);
        if let Some(place) = self.slots.get_mut(slot(sample)) {
            *place = Some(Box::new(Repeat {
                sample,
                raw: request.hash(secret),
                key,
                route,
                asked,
            }));
        }
    }
}

impl RawRequest<'_> {
    fn hash(&self, secret: &Secret) -> [u8; 32] {
        let mut hash = KeyedHash::new(secret.hash_keys(), Purpose::RawRequest);
        // The lengths of the parts stand at the end, where their place is known.
        hash.raw(self.body);
        let mut rest = Vec::with_capacity(RAW_REST_BYTES);
        self.head.encode(&mut rest);
        let head_bytes = rest.len() as u64;
        rest.extend_from_slice(self.path.as_bytes());
        rest.extend_from_slice(&self.tenant.0);
        for bytes in [self.body.len() as u64, head_bytes, self.path.len() as u64] {
            rest.extend_from_slice(&bytes.to_le_bytes());
        }
        hash.raw(&rest);
        hash.finish()
    }
}

fn slot(sample: u64) -> usize {
    // The multiplication has mixed upwards.
    (sample >> 32) as usize % REPEAT_SLOTS
}

/// A cheap number that differs for most different bodies: their length and words from all over.
fn sample(body: &[u8]) -> u64 {
    const WORDS: usize = 16;
    let (words, rest) = body.as_chunks::<8>();
    let step = (words.len() / WORDS).max(1);
    let start = rest.iter().fold(body.len() as u64, |sum, byte| {
        (sum.rotate_left(8)) ^ u64::from(*byte)
    });
    words.iter().step_by(step).fold(start, |sample, word| {
        (sample ^ u64::from_le_bytes(*word))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    })
}
