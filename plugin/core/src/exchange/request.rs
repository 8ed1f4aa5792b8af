//! A whole request is here: parse, count, route, look in the cache. The outcome is a reply of our
//! own, a request that waits for another's answer, or one to send.

use super::cached::{CacheUse, Serving, find, look_up};
use super::forward::{InFlight, Origin};
use super::plan::{Plan, Planner};
use super::repeats::RawRequest;
use super::reply::Hit;
use super::terms::Terms;
use super::waiting::{self, Waiting};
use super::{Asked, Caller, Compacted, Effect, Env, Vm};
use super::{reply, send};
use crate::budget::Pressure;
use crate::compaction;
use crate::config::{CompactionConfig, Config, Policy};
use crate::error::ApiError;
use crate::ledger::Shadow;
use crate::metrics::Metric;
use crate::route::Route;
use crate::tokens::{Basis, PromptTokens};
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
    pub tokens: PromptTokens,
    pub terms: Terms,
    pub cache: Option<CacheUse>,
    /// What policies that only record would have done.
    pub shadow: Shadow,
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
    let plan = compaction::Plan::of(&request, whitespace);
    let tokens = plan.saved_tokens();
    if route.is_some_and(|route| !route.acts(Policy::Compaction)) {
        return (request, Compacted::Shadow { tokens });
    }
    let request = plan.apply(request);
    let tokens = if request.is_compacted { tokens } else { 0 };
    (request, Compacted::Done { tokens })
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
    let tokens = PromptTokens::of(&vm.config, &mut vm.vocabularies, &request);
    let terms = Terms::of(caller, &vm.config, env, &request);
    let planner = Planner::new(caller, vm, env, &request, &tokens, &terms);
    let plan = match planner.plan(&vm.config, Pressure::NONE) {
        Ok(plan) => plan,
        Err(error) => return Err((Box::new(request), error)),
    };
    let shadow = plan.shadow(&vm.config, &terms, &request);
    let Plan { route, cache, .. } = plan;
    let basis = tokens.basis(route.model);
    effects.push(Effect::count(match basis {
        Basis::Exact(_) => Metric::PromptsCounted,
        Basis::Estimated(_) => Metric::PromptsEstimated,
    }));
    let asked = Asked {
        sharing_group: cache.as_ref().and_then(|cache| cache.group.clone()),
        arm: (terms.arm.as_ref())
            .filter(|_| terms.acts(Policy::Split))
            .map(|arm| arm.name.clone()),
        ..Asked::of(&request, &basis, compacted)
    };
    let mut judged = Judged {
        request,
        asked,
        route,
        tokens,
        terms,
        cache,
        shadow,
    };
    if let Some(cache) = &mut judged.cache
        && let Some(config) = &vm.config.cache
        && let Some(hit) = look_up(caller, config, &mut vm.per_vm, env, cache, &judged.asked)
    {
        if cache.serving == Serving::Acts {
            let key = cache.key;
            let Judged { asked, route, .. } = judged;
            reply::hit(caller, &vm.config, &route, &asked, hit, effects);
            let raw = raw_request(caller, asked.endpoint, body);
            (vm.repeats).insert(&vm.config.secret, raw, key, route, asked);
            return Ok(Decision::Replied);
        }
        let saved = hit.generated_cost(&vm.config, &judged.route, &judged.asked);
        judged.shadow.cache_nanousd = Some(saved.0);
    }
    match waiting::follow(caller, vm, env, &judged, body.len()) {
        Some(ticket) => {
            effects.push(Effect::count(Metric::SingleFlightWaits));
            Ok(Decision::Wait(Box::new(Waiting { judged, ticket })))
        }
        None => {
            let body = Some(body);
            send::send(Origin { caller, body }, vm, env, judged, None, effects)
        }
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
        per_vm,
        repeats,
        ..
    } = vm;
    let (Some(cache), Some(repeat)) = (&config.cache, repeats.find(&config.secret, raw)) else {
        return Answered::No;
    };
    let Some(entry) = find(caller, cache, per_vm, env, &repeat.key).hit() else {
        return Answered::No;
    };
    let Some(hit) = Hit::new(&entry, env.now_unix_s(), &repeat.asked) else {
        return Answered::No;
    };
    reply::hit(caller, config, &repeat.route, &repeat.asked, hit, effects);
    Answered::Yes
}

fn raw_request<'a>(caller: &'a Caller, endpoint: Endpoint, body: &'a [u8]) -> RawRequest<'a> {
    RawRequest {
        tenant: caller.tenant.id(),
        head: &caller.head,
        endpoint,
        body,
    }
}
