//! The exact cache: a small cache of each worker in front of a ring of fixed slots in the shared
//! store, which has no delete and no expiry of its own. [`Levels`] is the way in; [`control`] reads
//! what the client wishes, [`storable_s`] what the upstream allows, and [`flight`] lets requests
//! wait for an answer that is already under way.
//!
//! Together the levels are a W-TinyLFU cache (Einziger, Friedman, Manes 2017): the worker's
//! own is the window that takes whatever is new, the ring admits by worth.

pub mod control;
mod entry;
pub mod flight;
mod per_vm;
mod ring;
mod sketch;
mod upstream;

pub use control::CacheControl;
pub use entry::{Bytes, Entry};
pub use per_vm::PerVm;
pub use ring::Place;
pub use upstream::{age_s, storable_s};

use ring::Found;
use std::rc::Rc;

use crate::cache_key::CacheKey;
use crate::config::{CacheConfig, CachePolicy, SampledCaching};
use crate::store::SharedStore;
use crate::tenant::Tenant;
use crate::wire::Request;

/// May a request of this tenant be answered from the cache and its answer be stored, as far as the
/// request itself says? Not without an identity, not when the answer is drawn at random, unless the
/// configuration wants that, and not when it depends on more than the request. (`temperature` is 1
/// when a request does not say.)
pub fn is_cacheable(policy: &CachePolicy, tenant: &Tenant, request: &Request) -> bool {
    let identified = matches!(tenant, Tenant::Known { .. });
    let repeatable = policy.sampled == SampledCaching::Always || request.is_deterministic();
    identified && repeatable && request.is_reusable()
}

/// What a look into the cache came to.
pub enum LookUp {
    Hit(Rc<Entry>),
    /// With the place in the ring for the answer, if it was looked for.
    Miss(Option<Place>),
}

impl LookUp {
    /// The answer, if there is one.
    pub fn hit(self) -> Option<Rc<Entry>> {
        match self {
            LookUp::Hit(entry) => Some(entry),
            LookUp::Miss(_) => None,
        }
    }
}

/// Both levels of the cache, as one worker reaches them.
pub struct Levels<'a> {
    pub store: &'a dyn SharedStore,
    pub per_vm: &'a mut PerVm,
    pub config: &'a CacheConfig,
}

impl Levels<'_> {
    /// Looks for a stored answer that is not expired and not older than the client accepts.
    pub fn look_up(&mut self, key: &CacheKey, control: &CacheControl, now_unix_s: u64) -> LookUp {
        if control.no_cache {
            return LookUp::Miss(None);
        }
        self.per_vm.count(key);
        let found = match self.per_vm.fetch(key, now_unix_s) {
            Some(entry) => entry,
            None => match ring::read(self, key, now_unix_s) {
                Found::Place(place) => return LookUp::Miss(place),
                Found::Answer(entry) => {
                    let entry = Rc::new(entry);
                    self.per_vm.insert(*key, Rc::clone(&entry));
                    entry
                }
            },
        };
        match control.accepts_age(found.age_s(now_unix_s)) {
            true => LookUp::Hit(found),
            false => LookUp::Miss(None),
        }
    }

    /// Stores an answer, unless it is too large for an entry. What is worth less than all that it
    /// could replace in the ring stays with this worker. `place` is what the look-up found.
    pub fn insert(
        &mut self,
        key: &CacheKey,
        entry: Rc<Entry>,
        place: Option<Place>,
        now_unix_s: u64,
    ) {
        if ring::write(self, key, &entry, place, now_unix_s) != ring::Written::TooLarge {
            self.per_vm.insert(*key, entry);
        }
    }
}
