//! A whole request is here: parse, count, route, look in the cache, reserve. The outcome is a reply
//! of our own or a request to forward.

use super::forward::{self, InFlight};
use super::repeats::RawRequest;
use super::reply::{self, Hit};
use super::{Asked, Caller, Effect, Env, Vm};
use crate::budget::{self, Account, Refusal, Reservation, Window};
use crate::cache::{self, Lru};
use crate::cache_key::CacheKey;
use crate::config::{BudgetConfig, CacheConfig, Config, ModelIndex};
use crate::error::{ApiError, ErrorKind};
use crate::metrics::Metric;
use crate::money::Nanousd;
use crate::route::{self, Route};
use crate::tenant::Tenant;
use crate::tokens::{Calibration, Count};
use crate::wire::{self, Endpoint, Request};

/// Did a reply go out?
#[derive(PartialEq, Eq)]
enum Answered {
    Yes,
    No,
}

pub(super) enum Decision {
    /// The effects hold a local reply.
    Replied,
    Forward(Box<InFlight>),
}

/// Decides one request; `effects` gets what the decision needs done.
pub(super) fn decide(
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    endpoint: Endpoint,
    body: &[u8],
    effects: &mut Vec<Effect>,
) -> Decision {
    if repeat(caller, vm, env, endpoint, body, effects) == Answered::Yes {
        return Decision::Replied;
    }
    let request = match wire::parse(endpoint, body) {
        Ok(request) => request,
        Err(error) => {
            reply::refuse(caller, endpoint, None, &error, effects);
            return Decision::Replied;
        }
    };
    match judge(caller, vm, env, request, body, effects) {
        Ok(decision) => decision,
        Err((request, error)) => {
            reply::refuse(caller, endpoint, Some(&request), &error, effects);
            Decision::Replied
        }
    }
}

fn judge(
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    request: Request,
    body: &[u8],
    effects: &mut Vec<Effect>,
) -> Result<Decision, (Box<Request>, ApiError)> {
    let count = Count::of_request(&request);
    let calibrations: Vec<Calibration> = (0..vm.config.models.len())
        .map(|index| vm.calibration(env, ModelIndex(index)))
        .collect();
    let calibration = |index: ModelIndex| calibrations.get(index.0).copied().unwrap_or_default();
    let estimate = |index: ModelIndex| calibration(index).tokens(&count);
    let route = match route::route(&vm.config, &request, count.tokens_min(), estimate) {
        Ok(route) => route,
        Err(error) => return Err((Box::new(request), error)),
    };
    let asked = Asked::of(&request);
    let key = cache_key(caller, &vm.config, &route, &request);
    if let (Some(key), Some(cache)) = (&key, &vm.config.cache)
        && let Some(hit) = look_up(caller, cache, &mut vm.lru, env, key, &asked)
    {
        reply::hit(caller, &vm.config, &route, &asked, hit, effects);
        let raw = raw_request(caller, asked.endpoint, body);
        vm.repeats
            .insert(&vm.config.secret, raw, *key, route, asked);
        return Ok(Decision::Replied);
    }
    let looked_up = key.is_some() && !caller.control.no_cache;
    effects.push(Effect::count(if looked_up {
        Metric::Misses
    } else {
        Metric::Bypasses
    }));
    let prompt_tokens_max = calibration(route.model).tokens_max(&count);
    let cost_max = cost_max(&vm.config, &route, &asked, prompt_tokens_max);
    let reservation = match reserve(caller, &vm.config, env, cost_max) {
        Ok(reservation) => reservation,
        Err(error) => return Err((Box::new(request), error)),
    };
    let store_under = key.filter(|_| !caller.control.no_store);
    let in_flight = InFlight::new(asked, route, count, reservation, store_under);
    forward::forward(caller, &vm.config, &request, &in_flight, effects);
    Ok(Decision::Forward(Box::new(in_flight)))
}

/// Answers a request whose very bytes were answered from the cache before, if the answer is still
/// there. Says whether it did.
fn repeat(
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    endpoint: Endpoint,
    body: &[u8],
    effects: &mut Vec<Effect>,
) -> Answered {
    let raw = raw_request(caller, endpoint, body);
    let Vm {
        config,
        lru,
        repeats,
        ..
    } = vm;
    let (Some(cache), Some(repeat)) = (&config.cache, repeats.find(&config.secret, raw)) else {
        return Answered::No;
    };
    let Some(hit) = look_up(caller, cache, lru, env, &repeat.key, &repeat.asked) else {
        return Answered::No;
    };
    reply::hit(caller, config, &repeat.route, &repeat.asked, hit, effects);
    Answered::Yes
}

fn raw_request<'a>(caller: &'a Caller, endpoint: Endpoint, body: &'a [u8]) -> RawRequest<'a> {
    RawRequest {
        tenant: caller.tenant.id(),
        head: &caller.head,
        path: endpoint.path(),
        body,
    }
}

/// The key, if this request may be answered from the cache at all.
fn cache_key(
    caller: &Caller,
    config: &Config,
    route: &Route,
    request: &Request,
) -> Option<CacheKey> {
    let cache = config.cache.as_ref()?;
    if !cache::is_cacheable(cache, &caller.tenant, request) {
        return None;
    }
    let model = config.model(route.model)?;
    Some(CacheKey::new(
        &config.secret,
        caller.tenant.id(),
        model,
        route.max_tokens,
        &caller.head,
        request,
    ))
}

fn look_up(
    caller: &Caller,
    config: &CacheConfig,
    lru: &mut Lru,
    env: &Env<'_>,
    key: &CacheKey,
    asked: &Asked,
) -> Option<Hit> {
    let now_unix_s = env.now_unix_s();
    let entry = cache::lookup(env.store, lru, config, key, &caller.control, now_unix_s)?;
    Hit::new(&entry, now_unix_s, asked)
}

/// Sets aside what the request may cost. `None` where no budgets are configured.
fn reserve(
    caller: &Caller,
    config: &Config,
    env: &Env<'_>,
    cost_max: Nanousd,
) -> Result<Option<Reservation>, ApiError> {
    let Some(budget) = &config.budget else {
        return Ok(None);
    };
    let now_unix_s = env.now_unix_s();
    let window = Window::at(now_unix_s, budget.window_s);
    let limit = budget.limit(caller.tenant.name());
    let account = account(config, budget, &caller.tenant);
    budget::reserve(env.store, window, account, limit, cost_max)
        .map(Some)
        .map_err(|refusal| match refusal {
            Refusal::Exhausted => {
                let message = "the budget of this window does not cover this request";
                ApiError::new(ErrorKind::BudgetExhausted, message)
                    .retry_after_s(window.remaining_s(now_unix_s))
            }
            Refusal::Contended => {
                ApiError::new(ErrorKind::Unavailable, refusal.to_string()).retry_after_s(1)
            }
        })
}

/// A tenant has a record of its own if the configuration names it: a name alone, from a header, may
/// be one of any number.
fn account(config: &Config, budget: &BudgetConfig, tenant: &Tenant) -> Account {
    let configured = |name: &str| {
        budget.tenants.iter().any(|(tenant, _)| tenant == name)
            || config.tenant.names.iter().any(|named| named.name == name)
    };
    match tenant {
        Tenant::Known { id, name } if !name.as_deref().is_some_and(configured) => {
            Account::Table(*id)
        }
        _ => Account::Fixed(tenant.id()),
    }
}

/// What the request may cost at most: the prompt's upper bound and every completion token that it
/// may generate, at the chosen model's price.
fn cost_max(config: &Config, route: &Route, asked: &Asked, prompt_tokens_max: u64) -> Nanousd {
    let completion = u64::from(route.max_tokens).saturating_mul(asked.answers);
    config.model(route.model).map_or(Nanousd::ZERO, |model| {
        let service = asked.service_tier;
        model.price.cost_max(service, prompt_tokens_max, completion)
    })
}
