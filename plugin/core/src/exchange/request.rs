//! A whole request is here: parse, count, route, look in the cache, reserve. The outcome is a reply
//! of our own or a request to forward.

use super::cached::{CacheUse, Serving, look_up};
use super::forward::{self, InFlight};
use super::prompt_tokens::PromptTokens;
use super::repeats::RawRequest;
use super::reply;
use super::waiting::{self, Waiting};
use super::{Asked, Caller, Compacted, Effect, Env, Vm};
use crate::budget::{self, Account, Refusal, Reservation, Window};
use crate::cache::flight::{Landing, Leader};
use crate::compaction::Plan;
use crate::config::{BudgetConfig, CompactionConfig, Config, ModelIndex, Policy};
use crate::error::{ApiError, ErrorKind};
use crate::metrics::Metric;
use crate::money::Nanousd;
use crate::route::{self, Route};
use crate::tenant::Tenant;
use crate::tokens::{Basis, Calibration, PromptCount};
use crate::wire::{self, Endpoint, PromptExtent, Request};

/// Did a reply go out?
#[derive(PartialEq, Eq)]
enum Answered {
    Yes,
    No,
}

pub(super) enum Decision {
    /// The effects hold a local reply.
    Replied,
    /// Until there is an answer to an identical request.
    Wait(Box<Waiting>),
    Forward(Box<InFlight>),
}

/// A request on its way through the decisions: counted and routed, not yet answered or sent.
#[derive(Debug)]
pub(super) struct Judged {
    pub request: Request,
    pub asked: Asked,
    pub route: Route,
    pub count: PromptCount,
    pub cache: Option<CacheUse>,
    /// What a cache that only records would have saved.
    pub shadow_saved: Option<Nanousd>,
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
            reply::refuse(caller, Some(endpoint), None, &error, effects);
            return Decision::Replied;
        }
    };
    let (request, saved) = compact(caller, &vm.config, request);
    match judge(caller, vm, env, request, saved, body, effects) {
        Ok(decision) => decision,
        Err((request, error)) => {
            reply::refuse(caller, Some(endpoint), Some(&request), &error, effects);
            Decision::Replied
        }
    }
}

/// The request without what its model need not read, unless that is only recorded.
fn compact(caller: &Caller, config: &Config, request: Request) -> (Request, Compacted) {
    if config.compaction == CompactionConfig::Disabled {
        return (request, Compacted::default());
    }
    let route = config.find_route(request.endpoint, &request.model, caller.tenant.name());
    let whitespace = route.map(|route| route.whitespace).unwrap_or_default();
    let plan = Plan::of(&request, whitespace);
    let tokens = plan.saved_tokens();
    if route.is_some_and(|route| !route.acts(Policy::Compaction)) {
        return (request, Compacted::Shadow { tokens });
    }
    match plan.apply(&request) {
        Some(compacted) => (compacted, Compacted::Done { tokens }),
        None => (request, Compacted::default()),
    }
}

fn judge(
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    request: Request,
    compacted: Compacted,
    body: &[u8],
    effects: &mut Vec<Effect>,
) -> Result<Decision, (Box<Request>, ApiError)> {
    let calibrations: Vec<Calibration> = (0..vm.config.models.len())
        .map(|index| vm.calibration(env, ModelIndex(index)))
        .collect();
    let vocabularies = &mut vm.vocabularies;
    let mut tokens = PromptTokens::new(&vm.config, vocabularies, &calibrations, &request);
    let least = tokens.least();
    let route = match route::route(&vm.config, &request, least, |index| tokens.of(index)) {
        Ok(route) => route,
        Err(error) => return Err((Box::new(request), error)),
    };
    let count = tokens.chosen(route.model);
    effects.push(Effect::count(match count.basis {
        Basis::Exact(_) => Metric::PromptsCounted,
        Basis::Estimated(_) => Metric::PromptsEstimated,
    }));
    let cache = CacheUse::plan(caller, &vm.config, &route, &request);
    let asked = Asked {
        sharing_group: cache.as_ref().and_then(|cache| cache.group.clone()),
        ..Asked::of(&request, &count, compacted)
    };
    let mut judged = Judged {
        request,
        asked,
        route,
        count,
        cache,
        shadow_saved: None,
    };
    if let Some(CacheUse { key, serving, .. }) = &judged.cache
        && let Some(config) = &vm.config.cache
        && let Some(hit) = look_up(caller, config, &mut vm.per_vm, env, key, &judged.asked)
    {
        if *serving == Serving::Acts {
            let Judged { asked, route, .. } = judged;
            reply::hit(caller, &vm.config, &route, &asked, hit, effects);
            let raw = raw_request(caller, asked.endpoint, body);
            (vm.repeats).insert(&vm.config.secret, raw, *key, route, asked);
            return Ok(Decision::Replied);
        }
        judged.shadow_saved = Some(hit.generated_cost(&vm.config, &judged.route, &judged.asked));
    }
    match waiting::follow(caller, vm, env, &judged, body.len()) {
        Some(ticket) => {
            effects.push(Effect::count(Metric::SingleFlightWaits));
            Ok(Decision::Wait(Box::new(Waiting { judged, ticket })))
        }
        None => send(caller, vm, env, judged, None, effects),
    }
}

/// Sends a judged request upstream, or refuses it where its budget does not cover it.
pub(super) fn send_or_refuse(
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    judged: Judged,
    leads: Option<Leader>,
    effects: &mut Vec<Effect>,
) -> Decision {
    send(caller, vm, env, judged, leads, effects).unwrap_or_else(|(request, error)| {
        reply::refuse(
            caller,
            Some(request.endpoint),
            Some(&request),
            &error,
            effects,
        );
        Decision::Replied
    })
}

/// `leads` is given to a request that takes over from another; any other leads if nobody does.
fn send(
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    judged: Judged,
    leads: Option<Leader>,
    effects: &mut Vec<Effect>,
) -> Result<Decision, (Box<Request>, ApiError)> {
    let Judged {
        request,
        asked,
        route,
        count,
        cache,
        shadow_saved,
    } = judged;
    let looked_up = cache.is_some() && !caller.control.no_cache;
    effects.push(Effect::count(if looked_up {
        Metric::Misses
    } else {
        Metric::Bypasses
    }));
    let prompt_tokens_max = match (request.extent, vm.config.model(route.model)) {
        // What the provider adds is limited by nothing but the context.
        (PromptExtent::Stored, Some(model)) => u64::from(model.context_tokens),
        _ => count.most,
    };
    let cost_max = cost_max(&vm.config, &route, &asked, prompt_tokens_max);
    let reservation = match reserve(caller, &vm.config, env, cost_max) {
        Ok(reservation) => reservation,
        Err(error) => {
            if let Some(leader) = leads {
                vm.flights.land(leader, Landing::Failed);
            }
            return Err((Box::new(request), error));
        }
    };
    let cache = cache.filter(|_| !caller.control.no_store);
    let acting = cache
        .as_ref()
        .filter(|cache| cache.serving == Serving::Acts);
    let leads = leads.or_else(|| vm.flights.lead(&acting?.key));
    let in_flight = InFlight {
        reservation,
        store_under: cache.as_ref().map(|cache| cache.key),
        ttl_s: cache.map_or(0, |cache| cache.ttl_s),
        leads,
        shadow_saved,
        ..InFlight::new(asked, route, count)
    };
    forward::forward(caller, &vm.config, request, &in_flight, effects);
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
        per_vm,
        repeats,
        ..
    } = vm;
    let (Some(cache), Some(repeat)) = (&config.cache, repeats.find(&config.secret, raw)) else {
        return Answered::No;
    };
    let Some(hit) = look_up(caller, cache, per_vm, env, &repeat.key, &repeat.asked) else {
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
