//! A whole request is here: parse, count, route, look in the cache, reserve. The outcome is a reply
//! of our own or a request to forward.

use super::forward::{self, InFlight};
use super::reply::{self, Hit};
use super::{Caller, Effect, Env, Vm};
use crate::budget::{self, Account, Refusal, Reservation, Window};
use crate::cache;
use crate::cache_key::CacheKey;
use crate::config::{BudgetConfig, Config, ModelIndex};
use crate::error::{ApiError, ErrorKind};
use crate::metrics::Metric;
use crate::money::Nanousd;
use crate::route::{self, Route};
use crate::tenant::Tenant;
use crate::tokens::{Calibration, Count};
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
    let calibrations: Vec<Calibration> = (0..vm.config.models.len())
        .map(|index| vm.calibration(env, ModelIndex(index)))
        .collect();
    let calibration = |index: ModelIndex| calibrations.get(index.0).copied().unwrap_or_default();
    let estimate = |index: ModelIndex| calibration(index).tokens(&count);
    let route = match route::route(&vm.config, &request, count.tokens_min(), estimate) {
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
    let prompt_tokens_max = calibration(route.model).tokens_max(&count);
    let cost_max = cost_max(&vm.config, &route, &request, prompt_tokens_max);
    let reservation = match reserve(caller, &vm.config, env, cost_max) {
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
        &caller.head,
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
fn cost_max(config: &Config, route: &Route, request: &Request, prompt_tokens_max: u64) -> Nanousd {
    let completion = u64::from(route.max_tokens).saturating_mul(answers(request));
    config.model(route.model).map_or(Nanousd::ZERO, |model| {
        let service = request.service_tier;
        model.price.cost_max(service, prompt_tokens_max, completion)
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
