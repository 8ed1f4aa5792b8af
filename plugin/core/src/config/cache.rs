//! The exact cache: its size, and for whom and how long it keeps what, which a route may change.

use serde::Deserialize;

use super::ConfigError;
use super::checks::{header_value, within};
use super::raw::WholeNumber;
use crate::limits::{
    CACHE_ENTRY_BYTES_MAX, CACHE_ENTRY_BYTES_MIN, CACHE_PER_VM_ENTRIES_MAX, CACHE_SLOTS_MAX,
    CACHE_TTL_S_MAX,
};

/// The exact cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// What applies where a route does not say otherwise.
    pub policy: CachePolicy,
    /// Slots of the ring in shared data.
    pub slots: u32,
    /// Larger entries are not stored.
    pub entry_bytes_max: usize,
    /// Entries of the small cache of each worker in front of the ring; 0 switches it off.
    pub per_vm_entries: usize,
}

/// Which answers are kept, how long and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    pub ttl_s: u32,
    pub sampled: SampledCaching,
    /// Tenants of routes that name the same group share answers; without one each has its own.
    pub shared: Option<String>,
}

/// May answers drawn at a temperature above 0 be repeated? A `seed` does not change this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SampledCaching {
    Never,
    Always,
}

/// What a route says of the cache.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RouteCache {
    /// Nothing: [`CacheConfig::policy`] applies.
    #[default]
    Default,
    /// Its requests are neither answered from it nor stored.
    Off,
    Policy(CachePolicy),
}

/// The top-level section as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub(super) struct RawCache {
    /// Is there a cache?
    enabled: bool,
    /// How long an answer may be repeated.
    ttl_s: WholeNumber,
    /// Answers that all workers of an Envoy share.
    slots: WholeNumber,
    /// Larger answers are not stored.
    entry_bytes_max: WholeNumber,
    /// May answers at a temperature above 0 be repeated?
    sampled: SampledCaching,
    /// Answers that each worker has for itself, in front of those; 0 for none.
    per_vm_entries: WholeNumber,
}

impl Default for RawCache {
    fn default() -> Self {
        RawCache {
            enabled: true,
            ttl_s: WholeNumber(3_600),
            slots: WholeNumber(1_024),
            entry_bytes_max: WholeNumber(64 << 10),
            sampled: SampledCaching::Never,
            per_vm_entries: WholeNumber(256),
        }
    }
}

/// A route's part as it is written; what is absent is as in the top-level section.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub(super) struct RawRouteCache {
    /// `false` switches the cache off for this route. Default: as in `cache`.
    enabled: Option<bool>,
    /// How long an answer may be repeated. Default: as in `cache`.
    ttl_s: Option<WholeNumber>,
    /// May answers at a temperature above 0 be repeated? Default: as in `cache`.
    sampled: Option<SampledCaching>,
    /// A group: tenants of routes that name the same one see each other's answers. Default: each
    /// tenant sees its own.
    shared: Option<String>,
}

/// Checks the top-level section.
pub(super) fn cache(raw: &RawCache) -> Result<Option<CacheConfig>, ConfigError> {
    let bytes = (CACHE_ENTRY_BYTES_MIN as u32, CACHE_ENTRY_BYTES_MAX as u32);
    let entry_bytes_max = within(
        "cache.entry_bytes_max",
        raw.entry_bytes_max,
        bytes.0,
        bytes.1,
    )?;
    let entries_max = CACHE_PER_VM_ENTRIES_MAX as u32;
    let per_vm_entries = within("cache.per_vm_entries", raw.per_vm_entries, 0, entries_max)?;
    let config = CacheConfig {
        policy: CachePolicy {
            ttl_s: within("cache.ttl_s", raw.ttl_s, 1, CACHE_TTL_S_MAX)?,
            sampled: raw.sampled,
            shared: None,
        },
        slots: within("cache.slots", raw.slots, 1, CACHE_SLOTS_MAX)?,
        entry_bytes_max: entry_bytes_max as usize,
        per_vm_entries: per_vm_entries as usize,
    };
    Ok(raw.enabled.then_some(config))
}

/// Checks what the route at `path` says; `cache` is the checked top-level section.
pub(super) fn route_cache(
    path: &str,
    raw: Option<RawRouteCache>,
    cache: Option<&CacheConfig>,
) -> Result<RouteCache, ConfigError> {
    let Some(raw) = raw else {
        return Ok(RouteCache::Default);
    };
    let path = format!("{path}.cache");
    let changes = raw.ttl_s.is_some() || raw.sampled.is_some() || raw.shared.is_some();
    if raw.enabled == Some(false) {
        if changes {
            let problem = "is false, so nothing else can be said of this route's cache";
            return Err(ConfigError::new(format!("{path}.enabled"), problem));
        }
        return Ok(RouteCache::Off);
    }
    let Some(CacheConfig { policy, .. }) = cache else {
        let problem = "needs the cache, and `cache.enabled` is false";
        return Err(ConfigError::new(path, problem));
    };
    let ttl_s = match raw.ttl_s {
        Some(ttl_s) => within(format!("{path}.ttl_s"), ttl_s, 1, CACHE_TTL_S_MAX)?,
        None => policy.ttl_s,
    };
    let shared = raw
        .shared
        .map(|name| header_value(format!("{path}.shared"), name))
        .transpose()?;
    Ok(RouteCache::Policy(CachePolicy {
        ttl_s,
        sampled: raw.sampled.unwrap_or(policy.sampled),
        shared,
    }))
}
