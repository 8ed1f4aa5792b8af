//! What the exact cache is to one request: the key it has there, for how long and for whom its
//! answer is kept, and whether it may be answered from it.

use super::reply::Hit;
use super::{Asked, Caller, Env};
use crate::cache::{self, Levels, LookUp, PerVm, Place};
use crate::cache_key::CacheKey;
use crate::config::{CacheConfig, Config, Policy};
use crate::route::Route;
use crate::tenant::sharing_group_id;
use crate::wire::Request;

#[derive(Clone, Debug)]
pub(super) struct CacheUse {
    pub key: CacheKey,
    /// Where in the ring the answer goes, once that was looked for.
    pub place: Option<Place>,
    pub ttl_s: u32,
    /// The group whose tenants share this answer.
    pub group: Option<String>,
    pub serving: Serving,
}

/// May the cache answer?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serving {
    Acts,
    /// It is only recorded what it would have saved.
    Shadow,
}

impl CacheUse {
    /// `None` if this request has nothing to do with the cache.
    pub(super) fn plan(
        caller: &Caller,
        config: &Config,
        route: &Route,
        request: &Request,
    ) -> Option<CacheUse> {
        let configured = config.find_route(request.endpoint, &request.model, caller.tenant.name());
        let policy = config.cache_policy(configured)?;
        if !cache::is_cacheable(policy, &caller.tenant, request) {
            return None;
        }
        let owner = match &policy.shared {
            Some(group) => sharing_group_id(&config.secret, group),
            None => caller.tenant.id(),
        };
        let key = CacheKey::new(
            &config.secret,
            owner,
            config.model(route.model)?,
            route.max_tokens,
            &caller.head,
            request,
        );
        let acts = configured.is_none_or(|route| route.acts(Policy::Cache));
        Some(CacheUse {
            key,
            place: None,
            ttl_s: policy.ttl_s,
            group: policy.shared.clone(),
            serving: if acts { Serving::Acts } else { Serving::Shadow },
        })
    }
}

/// The stored answer to a request, in the form that it wants.
pub(super) fn look_up(
    caller: &Caller,
    config: &CacheConfig,
    per_vm: &mut PerVm,
    env: &Env<'_>,
    cache: &mut CacheUse,
    asked: &Asked,
) -> Option<Hit> {
    match find(caller, config, per_vm, env, &cache.key) {
        LookUp::Hit(entry) => Hit::new(&entry, env.now_unix_s(), asked),
        LookUp::Miss(place) => {
            cache.place = place;
            None
        }
    }
}

/// What there is under a key for this caller.
pub(super) fn find(
    caller: &Caller,
    config: &CacheConfig,
    per_vm: &mut PerVm,
    env: &Env<'_>,
    key: &CacheKey,
) -> LookUp {
    let mut levels = Levels {
        store: env.store,
        per_vm,
        config,
    };
    levels.look_up(key, &caller.control, env.now_unix_s())
}
