//! The exact cache: a small cache of each worker in front of a ring of fixed slots in the shared
//! store, which has no delete and no expiry of its own. [`lookup`] and [`insert`] are the way in;
//! [`control`] reads what the client wishes, [`storable_s`] what the upstream allows.

pub mod control;
mod entry;
mod lru;
mod ring;
mod upstream;

pub use control::CacheControl;
pub use entry::{Bytes, Entry};
pub use lru::Lru;
pub use upstream::storable_s;

use std::rc::Rc;

use crate::cache_key::CacheKey;
use crate::config::{CacheConfig, SampledCaching};
use crate::store::SharedStore;
use crate::tenant::Tenant;
use crate::wire::Request;

/// May a request of this tenant be answered from the cache and its answer be stored, as far as the
/// request itself says? Not without an identity, not when the answer is drawn at random, unless the
/// configuration wants that, and not when it depends on more than the request. (`temperature` is 1
/// when a request does not say.)
pub fn is_cacheable(config: &CacheConfig, tenant: &Tenant, request: &Request) -> bool {
    let identified = matches!(tenant, Tenant::Known { .. });
    let repeatable = config.sampled == SampledCaching::Always || request.is_deterministic();
    identified && repeatable && request.is_reusable()
}

/// A stored answer that is not expired and not older than the client accepts.
pub fn lookup(
    store: &dyn SharedStore,
    lru: &mut Lru,
    config: &CacheConfig,
    key: &CacheKey,
    control: &CacheControl,
    now_unix_s: u64,
) -> Option<Rc<Entry>> {
    if control.no_cache {
        return None;
    }
    let local = lru.fetch(key, now_unix_s);
    let found = match local {
        Some(entry) => entry,
        None => {
            let entry = Rc::new(ring::read(store, config.slots, key, now_unix_s)?);
            lru.insert(*key, Rc::clone(&entry));
            entry
        }
    };
    control
        .accepts_age(found.age_s(now_unix_s))
        .then_some(found)
}

/// Stores an answer in both caches, unless it is too large for an entry.
pub fn insert(
    store: &dyn SharedStore,
    lru: &mut Lru,
    config: &CacheConfig,
    key: &CacheKey,
    entry: Entry,
) {
    let now_unix_s = entry.created_unix_s;
    if ring::write(store, config, key, &entry, now_unix_s) == ring::Written::Yes {
        lru.insert(*key, Rc::new(entry));
    }
}
