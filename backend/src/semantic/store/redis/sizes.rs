//! How many entries each scope has in Redis, as far as that is known: it decides how Redis is to
//! look for what is near. Left to itself it compares all entries of a scope one by one even where
//! these are a hundred thousand, which takes longer than a look-up may.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use farthing_core::limits::{
    REDIS_SCOPE_COUNT_MS, REDIS_SCOPE_LARGE, REDIS_SCOPE_SHARE, SEMANTIC_ROUTES_MAX,
};

use crate::semantic::scope::Scope;

/// How to look for what is near in a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// As Redis sees fit.
    Any,
    /// At each entry of the scope.
    Each,
    /// Along the links between neighbours, of which enough are in the scope.
    Links,
}

/// What is known of scopes.
#[derive(Debug, Default)]
pub(super) struct Sizes(Mutex<HashMap<Scope, Size>>);

#[derive(Debug, Clone, Copy)]
struct Size {
    /// None while it is being counted for the first time.
    entries: Option<u64>,
    asked_at: Instant,
}

/// Is a scope to be counted?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Yes,
    No,
}

// === impl Plan ===

impl Plan {
    /// For a scope of so many entries in an index of so many.
    fn of(entries: u64, all: u64) -> Plan {
        let is_share = entries.saturating_mul(REDIS_SCOPE_SHARE) >= all;
        if entries >= REDIS_SCOPE_LARGE && is_share {
            Plan::Links
        } else {
            Plan::Each
        }
    }
}

// === impl Sizes ===

impl Sizes {
    /// How to look in a scope of an index with so many entries, and whether that is to be found out
    /// anew.
    pub(super) fn plan(&self, scope: &Scope, all: u64, now: Instant) -> (Plan, Due) {
        let mut sizes = self.lock();
        let known = sizes.get(scope).copied();
        let plan = known.and_then(|size| size.entries);
        let plan = plan.map_or(Plan::Any, |entries| Plan::of(entries, all));
        let lasts = Duration::from_millis(REDIS_SCOPE_COUNT_MS);
        let is_old = |size: Size| now.saturating_duration_since(size.asked_at) >= lasts;
        if !known.is_none_or(is_old) {
            return (plan, Due::No);
        }
        if sizes.len() >= SEMANTIC_ROUTES_MAX {
            sizes.clear();
        }
        let entries = known.and_then(|size| size.entries);
        let asked_at = now;
        sizes.insert(*scope, Size { entries, asked_at });
        (plan, Due::Yes)
    }

    pub(super) fn set(&self, scope: &Scope, entries: u64) {
        if let Some(size) = self.lock().get_mut(scope) {
            size.entries = Some(entries);
        }
    }

    /// What is in there is changed in one step, so whoever panicked left it whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<Scope, Size>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_scopes_are_looked_at_along_links_once_they_are_counted() {
        let (sizes, scope, now) = (Sizes::default(), Scope([1; 32]), Instant::now());
        let large = REDIS_SCOPE_LARGE;
        assert_eq!(sizes.plan(&scope, large, now), (Plan::Any, Due::Yes));
        assert_eq!(sizes.plan(&scope, large, now), (Plan::Any, Due::No));
        sizes.set(&scope, large);
        assert_eq!(sizes.plan(&scope, large, now), (Plan::Links, Due::No));
        let others = large * REDIS_SCOPE_SHARE + 1;
        assert_eq!(sizes.plan(&scope, others, now), (Plan::Each, Due::No));
        let later = now + Duration::from_millis(REDIS_SCOPE_COUNT_MS);
        assert_eq!(sizes.plan(&scope, large, later), (Plan::Links, Due::Yes));
        sizes.set(&scope, large - 1);
        assert_eq!(sizes.plan(&scope, large, later), (Plan::Each, Due::No));
    }
}
