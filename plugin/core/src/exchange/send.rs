//! A judged request that nothing of ours answers goes upstream, as far as its budget goes: under
//! the shadow price of a budget that runs low to a cheaper model, and not at all where it is spent.

use super::admission::Admission;
use super::cached::{Serving, look_up};
use super::forward::{self, InFlight, Origin};
use super::plan::{Plan, Planner};
use super::request::{Decision, Judged};
use super::{Asked, Caller, Effect, Env, Vm, reply};
use crate::budget::{Pressure, Refusal, Reservation};
use crate::cache::flight::{Landing, Leader};
use crate::error::{ApiError, ErrorKind};
use crate::ledger::Shadow;
use crate::metrics::Metric;
use crate::wire::Request;

/// Sends a judged request upstream, or refuses it where its budget does not cover it.
pub(super) fn send_or_refuse(
    origin: Origin<'_>,
    vm: &mut Vm,
    env: &Env<'_>,
    judged: Judged,
    leads: Option<Leader>,
    effects: &mut Vec<Effect>,
) -> Decision {
    send(origin, vm, env, judged, leads, effects).unwrap_or_else(|(request, error)| {
        reply::refuse(
            origin.caller,
            Some(request.endpoint),
            Some(&request),
            &error,
            effects,
        );
        Decision::Replied
    })
}

/// `leads` is given to a request that takes over from another; any other leads if nobody does.
pub(super) fn send(
    origin: Origin<'_>,
    vm: &mut Vm,
    env: &Env<'_>,
    mut judged: Judged,
    mut leads: Option<Leader>,
    effects: &mut Vec<Effect>,
) -> Result<Decision, (Box<Request>, ApiError)> {
    let caller = origin.caller;
    let looked_up = judged.cache.is_some() && !caller.control.no_cache;
    let missed = match looked_up {
        true => Effect::count(Metric::Misses),
        false => Effect::count(Metric::Bypasses),
    };
    let mut admission = Admission::read(caller, &vm.config, env, &judged.asked);
    let planner = Planner::new(
        caller,
        vm,
        env,
        &judged.request,
        &judged.tokens,
        &judged.terms,
    );
    let free = Plan {
        route: judged.route,
        cache: judged.cache.take(),
        shadow_model: None,
    };
    let mut pressures = admission.pressures();
    if admission.is_watched() {
        judged.shadow = watched(&planner, vm, &admission, &free, &judged);
        pressures = vec![Pressure::NONE];
    }
    let mut refusal = Refusal::Exhausted;
    for pressure in pressures {
        let mut plan = planner.moved(&vm.config, &free, pressure);
        let is_moved = plan.route.model != free.route.model;
        if is_moved && answer_from_cache(caller, vm, env, &mut plan, &judged, effects) {
            land(vm, leads.take());
            return Ok(Decision::Replied);
        }
        let need = planner.need(&vm.config, &plan.route, &judged.asked);
        match admission.reserve(env, &need, effects) {
            Err(refused) => refusal = refused,
            Ok(reservation) => {
                effects.push(missed);
                if is_moved {
                    effects.push(Effect::count(Metric::BudgetMoved));
                    // Those who wait want another model's answer.
                    land(vm, leads.take());
                }
                if let Some(conversation) = &judged.terms.conversation {
                    conversation.remember(&vm.config, env, &plan.route);
                }
                return Ok(go(origin, vm, judged, plan, reservation, leads, effects));
            }
        }
    }
    effects.push(missed);
    land(vm, leads);
    Err((Box::new(judged.request), admission.refusal(refusal)))
}

fn go(
    origin: Origin<'_>,
    vm: &mut Vm,
    judged: Judged,
    plan: Plan,
    reservation: Option<Reservation>,
    leads: Option<Leader>,
    effects: &mut Vec<Effect>,
) -> Decision {
    let cache = plan.cache.filter(|_| !origin.caller.control.no_store);
    let acting = cache
        .as_ref()
        .filter(|cache| cache.serving == Serving::Acts);
    let leads = leads.or_else(|| vm.flights.lead(&acting?.key));
    let basis = judged.tokens.basis(plan.route.model);
    let asked = Asked {
        tokens_basis: basis.as_str(),
        ..judged.asked
    };
    let in_flight = InFlight {
        reservation,
        store_under: cache.as_ref().map(|cache| cache.key),
        place: cache.as_ref().and_then(|cache| cache.place),
        ttl_s: cache.map_or(0, |cache| cache.ttl_s),
        leads,
        shadow: judged.shadow,
        ..InFlight::new(asked, plan.route, basis)
    };
    forward::forward(origin, &vm.config, judged.request, &in_flight, effects);
    Decision::Forward(Box::new(in_flight))
}

/// Those who wait for this request's answer get none.
fn land(vm: &mut Vm, leads: Option<Leader>) {
    if let Some(leader) = leads {
        vm.flights.land(leader, Landing::Failed);
    }
}

/// Replies if the cache may answer with the model that is planned; says whether it did.
fn answer_from_cache(
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    plan: &mut Plan,
    judged: &Judged,
    effects: &mut Vec<Effect>,
) -> bool {
    if let Some(cache) = &mut plan.cache
        && cache.serving == Serving::Acts
        && let Some(config) = &vm.config.cache
        && let Some(hit) = look_up(caller, config, &mut vm.per_vm, env, cache, &judged.asked)
    {
        reply::hit(caller, &vm.config, &plan.route, &judged.asked, hit, effects);
        return true;
    }
    false
}

/// What a budget that only records would have done.
fn watched(
    planner: &Planner<'_>,
    vm: &Vm,
    admission: &Admission,
    free: &Plan,
    judged: &Judged,
) -> Shadow {
    let shadow = judged.shadow.clone();
    for pressure in admission.pressures() {
        let route = planner.moved(&vm.config, free, pressure).route;
        if admission.covers(&planner.need(&vm.config, &route, &judged.asked)) {
            let is_moved = route.model != free.route.model;
            let model = vm.config.model(route.model).filter(|_| is_moved);
            return Shadow {
                budget_model: model.map(|model| model.id.clone()),
                ..shadow
            };
        }
    }
    Shadow {
        budget_refuses: Some(ErrorKind::BudgetExhausted.code()),
        ..shadow
    }
}
