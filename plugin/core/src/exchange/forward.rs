//! A request goes upstream: what must be remembered until it is settled, and what must change on
//! its way.

use super::answer::Answer;
use super::arrival::{PATH_OVERRIDES, RESERVED_PREFIX};
use super::prefix::prefix_id;
use super::{Asked, Caller, Effect, Headers};
use crate::budget::{Reservation, Unit};
use crate::cache::Place;
use crate::cache::flight::{Flights, Landing, Leader};
use crate::cache_key::CacheKey;
use crate::config::{Config, Model};
use crate::digits;
use crate::ledger::Shadow;
use crate::metrics::Metric;
use crate::route::Route;
use crate::tenant::Tenant;
use crate::tokens::Basis;
use crate::wire::rewrite::{MaxTokensRewrite, Rewrite};
use crate::wire::{Endpoint, Request};

/// A request that is upstream.
#[derive(Debug)]
pub(super) struct InFlight {
    pub asked: Asked,
    pub route: Route,
    pub basis: Basis,
    /// Taken when it is settled. None where there are no budgets.
    pub reservation: Option<Reservation>,
    /// Where a complete answer is to be stored.
    pub store_under: Option<CacheKey>,
    /// Its place in the ring, as the look-up found it.
    pub place: Option<Place>,
    /// For how long the configuration lets it be stored.
    pub ttl_s: u32,
    /// For how long the upstream's headers let it be stored.
    pub storable_s: Option<u32>,
    /// How old the answer was when it came.
    pub age_s: u64,
    /// Taken when it lands: identical requests wait for it.
    pub leads: Option<Leader>,
    /// What policies that only record would have done.
    pub shadow: Shadow,
    pub answer: Answer,
}

impl InFlight {
    /// One that reserves nothing, stores nothing and leads nobody.
    pub(super) fn new(asked: Asked, route: Route, basis: Basis) -> InFlight {
        InFlight {
            asked,
            route,
            basis,
            reservation: None,
            store_under: None,
            place: None,
            ttl_s: 0,
            storable_s: None,
            age_s: 0,
            leads: None,
            shadow: Shadow::default(),
            answer: Answer::Awaited,
        }
    }

    /// Tells those who wait for the answer what came of it; once, and only the first time counts.
    pub(super) fn land(&mut self, flights: &mut Flights, landing: Landing) {
        if let Some(leader) = self.leads.take() {
            flights.land(leader, landing);
        }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.asked.endpoint
    }

    /// What is set aside, with its unit.
    pub(super) fn reserved(&self) -> Option<(Unit, u64)> {
        let reservation = self.reservation.as_ref()?;
        Some((reservation.unit(), reservation.amount()))
    }

    /// Must the usage event be taken out, because only we asked for it?
    pub(super) fn strips_usage(&self) -> bool {
        let asked = &self.asked;
        asked.endpoint.has_usage_option() && asked.stream && !asked.include_usage
    }

    /// What an answer that reached our cap would have had more without it, at least.
    pub(super) fn capped_tokens(&self) -> u64 {
        let beyond = self.asked.min_tokens.saturating_sub(self.route.max_tokens);
        u64::from(beyond).saturating_mul(self.asked.answers)
    }

    /// The most that the upstream may have generated.
    pub(super) fn completion_tokens_max(&self) -> u64 {
        u64::from(self.route.max_tokens).saturating_mul(self.asked.answers)
    }
}

/// Removes what a client sent under our name, and the path that it wants another server to take.
pub(super) fn strip_untrusted(headers: &Headers<'_>) -> Vec<Effect> {
    headers
        .names()
        .filter(|name| name.starts_with(RESERVED_PREFIX) || PATH_OVERRIDES.contains(name))
        .map(|name| Effect::RemoveRequestHeader {
            name: name.to_owned(),
        })
        .collect()
}

/// Sets what the route of a request that is not ours needs.
pub(super) fn pass_through(config: &Config, caller: &Caller, effects: &mut Vec<Effect>) {
    effects.push(Effect::count(Metric::Passthrough));
    identify(caller, effects);
    set(
        effects,
        "x-farthing-cluster",
        config.passthrough_cluster.clone(),
    );
}

/// Who sends a request, and its body, if that is still at hand.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub caller: &'a Caller,
    pub body: Option<&'a [u8]>,
}

/// Sends a judged request on its way.
pub(super) fn forward(
    Origin { caller, body }: Origin<'_>,
    config: &Config,
    request: Request,
    in_flight: &InFlight,
    effects: &mut Vec<Effect>,
) {
    let route = &in_flight.route;
    let Some(model) = config.model(route.model) else {
        return;
    };
    // A compressed answer could not be read.
    effects.push(Effect::RemoveRequestHeader {
        name: "accept-encoding".to_owned(),
    });
    identify(caller, effects);
    set(effects, "x-farthing-cluster", model.cluster.clone());
    set(effects, "x-farthing-tier", model.tier.clone());
    set(
        effects,
        "x-farthing-prompt-tokens",
        digits::text(route.prompt_tokens),
    );
    if let Tenant::Known { id, .. } = &caller.tenant {
        set(
            effects,
            "x-farthing-prefix",
            prefix_id(&config.secret, *id, model, &request),
        );
    }
    let rewrite = rewrite(model, &request, in_flight);
    if request.is_compacted || !rewrite.is_empty() {
        let spliced = body.and_then(|body| rewrite.splice(&request, body));
        let body = spliced.unwrap_or_else(|| rewrite.apply(request.json));
        effects.push(Effect::ReplaceRequestBody(body));
    }
}

fn rewrite(model: &Model, request: &Request, in_flight: &InFlight) -> Rewrite {
    let route = &in_flight.route;
    let renamed = request.model != model.upstream_model;
    Rewrite {
        model: renamed.then(|| model.upstream_model.clone()),
        max_tokens: MaxTokensRewrite::new(request, model.max_tokens_field, route.max_tokens),
        include_usage: in_flight.strips_usage(),
    }
}

fn identify(caller: &Caller, effects: &mut Vec<Effect>) {
    set(effects, "x-farthing-request-id", caller.request_id.clone());
    if let Tenant::Known { id, .. } = &caller.tenant {
        set(effects, "x-farthing-tenant", id.to_hex());
    }
}

fn set(effects: &mut Vec<Effect>, name: &'static str, value: String) {
    effects.push(Effect::SetRequestHeader { name, value });
}
