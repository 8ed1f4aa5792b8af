//! A whole request is here: parse, count, route, look in the cache, reserve. The outcome is a reply
//! of our own or a request to forward.

use super::admission::Admission;
use super::forward::{self, InFlight};
use super::plan::{Plan, Planner};
use super::repeats::RawRequest;
use super::reply::{self, Hit};
use super::{Asked, Caller, Effect, Env, Vm};
use crate::budget::{Pressure, Refusal};
use crate::cache::{self, Lru};
use crate::cache_key::CacheKey;
use crate::config::CacheConfig;
use crate::error::{ApiError, ErrorKind};
use crate::ledger::Shadow;
use crate::metrics::Metric;
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
    let planner = Planner::new(caller, vm, env, &request);
    let free = match planner.plan(&vm.config, Pressure::NONE) {
        Ok(plan) => plan,
        Err(error) => return Err((Box::new(request), error)),
    };
    let asked = Asked::of(&request);
    if answer_from_cache(caller, vm, env, &free, &asked, effects) == Answered::Yes {
        if let Some(key) = free.key {
            let raw = raw_request(caller, asked.endpoint, body);
            vm.repeats
                .insert(&vm.config.secret, raw, key, free.route, asked);
        }
        return Ok(Decision::Replied);
    }
    let mut admission = Admission::read(caller, &vm.config, env, &asked);
    let mut shadow = Shadow::default();
    let mut pressures = admission.pressures();
    if admission.is_watched() {
        shadow = watched(&planner, vm, &admission, &free, &asked);
        pressures = vec![Pressure::NONE];
    }
    let looked_up = free.key.is_some() && !caller.control.no_cache;
    let not_answered = Effect::count(if looked_up {
        Metric::Misses
    } else {
        Metric::Bypasses
    });
    let mut refusal = Refusal::Exhausted;
    for pressure in pressures {
        let plan = planner.moved(&vm.config, &free, pressure);
        let is_moved = plan.route.model != free.route.model;
        if is_moved && answer_from_cache(caller, vm, env, &plan, &asked, effects) == Answered::Yes {
            return Ok(Decision::Replied);
        }
        let need = planner.need(&vm.config, &plan.route, &asked);
        match admission.reserve(env, &need, effects) {
            Ok(reservation) => {
                effects.push(not_answered);
                if is_moved {
                    effects.push(Effect::count(Metric::BudgetMoved));
                }
                let Planner { count, .. } = planner;
                let store_under = plan.key.filter(|_| !caller.control.no_store);
                let in_flight =
                    InFlight::new(asked, plan.route, count, reservation, store_under, shadow);
                forward::forward(caller, &vm.config, &request, &in_flight, effects);
                return Ok(Decision::Forward(Box::new(in_flight)));
            }
            Err(refused) => refusal = refused,
        }
    }
    effects.push(not_answered);
    let error = admission.refusal(refusal);
    Err((Box::new(request), error))
}

/// What a budget in shadow would have done.
fn watched(
    planner: &Planner<'_>,
    vm: &Vm,
    admission: &Admission,
    free: &Plan,
    asked: &Asked,
) -> Shadow {
    for pressure in admission.pressures() {
        let route = planner.moved(&vm.config, free, pressure).route;
        if admission.covers(&planner.need(&vm.config, &route, asked)) {
            let moved_to = vm
                .config
                .model(route.model)
                .filter(|_| route.model != free.route.model)
                .map(|model| model.id.clone());
            return Shadow {
                budget_model: moved_to,
                ..Shadow::default()
            };
        }
    }
    Shadow {
        budget_refuses: Some(ErrorKind::BudgetExhausted.code()),
        ..Shadow::default()
    }
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

/// Replies if the cache has an answer of the model that is planned.
fn answer_from_cache(
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    plan: &Plan,
    asked: &Asked,
    effects: &mut Vec<Effect>,
) -> Answered {
    if let (Some(key), Some(cache)) = (&plan.key, &vm.config.cache)
        && let Some(hit) = look_up(caller, cache, &mut vm.lru, env, key, asked)
    {
        reply::hit(caller, &vm.config, &plan.route, asked, hit, effects);
        return Answered::Yes;
    }
    Answered::No
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
