//! A whole request is here: parse, count, route, look in the cache, reserve. The outcome is a reply
//! of our own or a request to forward.

use super::forward::{self, InFlight};
use super::reply::{self, Hit};
use super::{Caller, Effect, Env, Vm};
use crate::budget::{self, Refusal, Reservation, Window};
use crate::cache;
use crate::cache_key::CacheKey;
use crate::config::{Config, ModelIndex};
use crate::error::{ApiError, ErrorKind};
use crate::metrics::Metric;
use crate::money::Nanousd;
use crate::route::{self, Route};
use crate::tokens::Count;
use crate::wire::{self, Endpoint, Prompt, Request};

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
    let request = match wire::parse(endpoint, body) {
        Ok(request) => request,
        Err(error) => {
            reply::refuse(caller, endpoint, None, &error, effects);
            return Decision::Replied;
        }
    };
    match judge(caller, vm, env, request, effects) {
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
    effects: &mut Vec<Effect>,
) -> Result<Decision, (Box<Request>, ApiError)> {
    let count = Count::of_request(&request);
    let estimates: Vec<u64> = (0..vm.config.models.len())
        .map(|index| vm.estimate(env, ModelIndex(index), &count))
        .collect();
    let estimate = |index: ModelIndex| estimates.get(index.0).copied().unwrap_or(0);
    let route = match route::route(&vm.config, &request, estimate) {
        Ok(route) => route,
        Err(error) => return Err((Box::new(request), error)),
    };
    let key = cache_key(caller, &vm.config, &route, &request);
    if let Some(key) = &key
        && let Some(hit) = look_up(caller, vm, env, key, &request)
    {
        reply::hit(caller, &vm.config, &route, &request, &hit, effects);
        return Ok(Decision::Replied);
    }
    let looked_up = key.is_some() && !caller.control.no_cache;
    effects.push(Effect::count(if looked_up {
        Metric::Misses
    } else {
        Metric::Bypasses
    }));
    let reservation = match reserve(caller, &vm.config, env, &route, &request) {
        Ok(reservation) => reservation,
        Err(error) => return Err((Box::new(request), error)),
    };
    let store_under = key.filter(|_| !caller.control.no_store);
    let in_flight = InFlight::new(request, route, count, reservation, store_under);
    forward::forward(caller, &vm.config, &in_flight, effects);
    Ok(Decision::Forward(Box::new(in_flight)))
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
        caller.tenant.id(),
        model,
        route.max_tokens,
        request,
    ))
}

fn look_up(
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    key: &CacheKey,
    request: &Request,
) -> Option<Hit> {
    let config = vm.config.cache.as_ref()?;
    let now_unix_s = env.now_unix_s();
    let entry = cache::lookup(
        env.store,
        &mut vm.lru,
        config,
        key,
        &caller.control,
        now_unix_s,
    )?;
    Hit::new(&entry, now_unix_s, request)
}

/// Sets aside what the request may cost at most: the estimated prompt and every completion token
/// that it may generate, at the chosen model's price. `None` where no budgets are configured.
fn reserve(
    caller: &Caller,
    config: &Config,
    env: &Env<'_>,
    route: &Route,
    request: &Request,
) -> Result<Option<Reservation>, ApiError> {
    let Some(budget) = &config.budget else {
        return Ok(None);
    };
    let now_unix_s = env.now_unix_s();
    let window = Window::at(now_unix_s, budget.window_s);
    let limit = budget.limit(caller.tenant.name());
    let amount = cost_max(config, route, request);
    budget::reserve(env.store, window, caller.tenant.id(), limit, amount)
        .map(Some)
        .map_err(|refusal| {
            let retry_after_s = window.remaining_s(now_unix_s);
            match refusal {
                Refusal::Exhausted => {
                    let message = "the budget of this window does not cover this request";
                    ApiError::new(ErrorKind::BudgetExhausted, message).retry_after_s(retry_after_s)
                }
                Refusal::TableFull => ApiError::new(ErrorKind::Unavailable, refusal.to_string())
                    .retry_after_s(retry_after_s),
                Refusal::Contended => {
                    ApiError::new(ErrorKind::Unavailable, refusal.to_string()).retry_after_s(1)
                }
            }
        })
}

fn cost_max(config: &Config, route: &Route, request: &Request) -> Nanousd {
    let completion = u64::from(route.max_tokens).saturating_mul(answers(request));
    config.model(route.model).map_or(Nanousd::ZERO, |model| {
        model.price.cost(route.prompt_tokens, completion)
    })
}

/// Choices that the upstream will generate: `n` for each prompt.
pub(super) fn answers(request: &Request) -> u64 {
    let prompts = match &request.prompt {
        Prompt::Messages(_) => 1,
        Prompt::Text(texts) => texts.len(),
        Prompt::Tokens(lists) => lists.len(),
    };
    u64::from(request.sampling.n).saturating_mul(prompts as u64)
}
