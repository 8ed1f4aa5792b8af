//! Requests that come again byte for byte: their cache key is remembered with the bytes, or with a
//! hash of them where they are many, so that a repeat is answered without being parsed, counted and
//! routed once more. It was judged when it first came, and what it is judged by lives as long as
//! this memory does.
//!
//! A table of fixed size. Only requests that were answered from the cache get in, so that those
//! which never repeat do not fill it.

use super::asked::Asked;
use crate::cache_key::{CacheKey, RequestHead};
use crate::config::Secret;
use crate::keyed_hash::{KeyedHash, Purpose};
use crate::limits::{REPEAT_BODY_BYTES_MAX, REPEAT_BYTES_MAX, REPEAT_SLOTS};
use crate::route::Route;
use crate::tenant::TenantId;
use crate::wire::{Endpoint, is_same};

/// Where the bytes came from and what they are.
#[derive(Clone, Copy)]
pub(super) struct RawRequest<'a> {
    pub tenant: TenantId,
    pub head: &'a RequestHead,
    pub endpoint: Endpoint,
    pub body: &'a [u8],
}

/// What was decided about a request when it first came.
#[derive(Debug)]
pub(super) struct Repeat {
    sample: u64,
    tenant: TenantId,
    head: RequestHead,
    body: Body,
    pub key: CacheKey,
    pub route: Route,
    pub asked: Asked,
}

/// What a body is known by.
#[derive(Debug)]
enum Body {
    Bytes(Box<[u8]>),
    Hash([u8; 32]),
}

impl Body {
    fn is(&self, secret: &Secret, body: &[u8]) -> bool {
        match self {
            Body::Bytes(bytes) => is_same(bytes, body),
            Body::Hash(known) => *known == hash(secret, body),
        }
    }

    /// Bytes that are kept.
    fn bytes(&self) -> usize {
        match self {
            Body::Bytes(bytes) => bytes.len(),
            Body::Hash(_) => 0,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Repeats {
    slots: Vec<Option<Box<Repeat>>>,
    /// Bytes that are kept in all.
    bytes: usize,
}

impl Repeats {
    pub(super) fn find(&self, secret: &Secret, request: RawRequest<'_>) -> Option<&Repeat> {
        let sample = sample(request.body);
        let repeat = self.slots.get(slot(sample))?.as_deref()?;
        // The sample only spares the comparison.
        let is_same = repeat.sample == sample
            && repeat.asked.endpoint == request.endpoint
            && repeat.tenant == request.tenant
            && repeat.head == *request.head
            && repeat.body.is(secret, request.body);
        is_same.then_some(repeat)
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
        let Some(place) = self.slots.get_mut(slot(sample)) else {
            return;
        };
        let before = place.take().map_or(0, |repeat| repeat.body.bytes());
        self.bytes = self.bytes.saturating_sub(before);
        let bytes = request.body.len();
        let fits = bytes <= REPEAT_BODY_BYTES_MAX && self.bytes + bytes <= REPEAT_BYTES_MAX;
        let body = match fits {
            true => Body::Bytes(request.body.into()),
            false => Body::Hash(hash(secret, request.body)),
        };
        self.bytes += body.bytes();
        *place = Some(Box::new(Repeat {
            sample,
            tenant: request.tenant,
            head: request.head.clone(),
            body,
            key,
            route,
            asked,
        }));
    }
}

fn hash(secret: &Secret, body: &[u8]) -> [u8; 32] {
    KeyedHash::once(secret.hash_keys(), Purpose::RawRequest, body)
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
