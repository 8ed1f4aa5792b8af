//! Where a request would go, and what the cache then is to it: asked once, and again for each
//! shadow price that its budget puts on dear models.

use super::admission::Need;
use super::cached::CacheUse;
use super::terms::Terms;
use super::{Asked, Caller, Env, Vm};
use crate::budget::Pressure;
use crate::config::{Config, ModelIndex, Policy};
use crate::error::ApiError;
use crate::ledger::Shadow;
use crate::route::{self, Reason, Route, Wish};
use crate::tokens::{Calibration, PromptTokens};
use crate::wire::{PromptExtent, Request};

/// What is known of a request before it is decided.
pub(super) struct Planner<'a> {
    caller: &'a Caller,
    request: &'a Request,
    tokens: &'a PromptTokens,
    terms: &'a Terms,
    calibrations: Vec<Calibration>,
}

/// One decision.
#[derive(Clone)]
pub(super) struct Plan {
    pub route: Route,
    /// `None` if this request has nothing to do with the cache.
    pub cache: Option<CacheUse>,
    /// Where the router would have sent it, if it did not only record here.
    pub shadow_model: Option<ModelIndex>,
}

impl Plan {
    /// What policies that only record would have done about the way of this request.
    pub(super) fn shadow(&self, config: &Config, terms: &Terms, request: &Request) -> Shadow {
        let model = self.shadow_model.and_then(|index| config.model(index));
        let arm = terms.arm.as_ref().filter(|_| !terms.acts(Policy::Split));
        Shadow {
            route_model: model.map(|model| model.id.clone()),
            split_arm: arm.map(|arm| arm.name.clone()),
            cap: terms.shadow_cap(config, request),
            ..Shadow::default()
        }
    }
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        caller: &'a Caller,
        vm: &mut Vm,
        env: &Env<'_>,
        request: &'a Request,
        tokens: &'a PromptTokens,
        terms: &'a Terms,
    ) -> Planner<'a> {
        Planner {
            caller,
            request,
            tokens,
            terms,
            calibrations: (0..vm.config.models.len())
                .map(|index| vm.calibration(env, ModelIndex(index)))
                .collect(),
        }
    }

    pub(super) fn plan(&self, config: &Config, pressure: Pressure) -> Result<Plan, ApiError> {
        let wish = self.terms.wish(config, self.request);
        let as_asked = Wish {
            model: &self.request.model,
            ..wish
        };
        // An arm that cannot take a request does not end it.
        let (wish, wanted) = match self.route(config, &wish, pressure) {
            Err(_) if wish.model != as_asked.model => {
                (as_asked, self.route(config, &as_asked, pressure)?)
            }
            routed => (wish, routed?),
        };
        let dearest = match self.terms.acts(Policy::Routing) {
            true => None,
            false => self.dearest(config, &wish, &wanted),
        };
        let shadow_model = dearest.map(|_| wanted.model);
        let route = match dearest {
            Some(dearest) => dearest,
            None if pressure.is_none() => self.kept(config, &wish, &wanted).unwrap_or(wanted),
            None => wanted,
        };
        let cache = CacheUse::plan(self.caller, config, &route, self.request);
        Ok(Plan {
            route,
            cache,
            shadow_model,
        })
    }

    /// The way to the dearest member of a list instead, if the request can go there.
    fn dearest(&self, config: &Config, wish: &Wish<'_>, wanted: &Route) -> Option<Route> {
        let index = *config.find_virtual(wish.model)?.members.last()?;
        if index == wanted.model {
            return None;
        }
        self.pinned(config, wish, wanted, index, Reason::Shadow)
    }

    /// The way to the model that its conversation went to before, if that is cheaper.
    fn kept(&self, config: &Config, wish: &Wish<'_>, wanted: &Route) -> Option<Route> {
        let conversation = self.terms.conversation.as_ref()?;
        if wanted.reason != Reason::Complexity || wish.model != self.request.model {
            return None;
        }
        let index = conversation.keeps(config, self.request, wanted)?;
        self.pinned(config, wish, wanted, index, Reason::Sticky)
    }

    /// The way to this model instead of the wanted one, if the request can go there.
    fn pinned(
        &self,
        config: &Config,
        wish: &Wish<'_>,
        wanted: &Route,
        index: ModelIndex,
        reason: Reason,
    ) -> Option<Route> {
        let model = &config.model(index)?.id;
        let pinned = Wish { model, ..*wish };
        let route = self.route(config, &pinned, Pressure::NONE).ok()?;
        Some(Route {
            reason,
            complexity: wanted.complexity,
            ..route
        })
    }

    fn route(
        &self,
        config: &Config,
        wish: &Wish<'_>,
        pressure: Pressure,
    ) -> Result<Route, ApiError> {
        let estimate = |index: ModelIndex| self.tokens.tokens(index, &self.calibration(index));
        route::route(config, wish, pressure, self.tokens.tokens_min(), estimate)
    }

    /// The plan under a pressure; `free` is the one without.
    pub(super) fn moved(&self, config: &Config, free: &Plan, pressure: Pressure) -> Plan {
        if pressure.is_none() {
            return free.clone();
        }
        match self.plan(config, pressure) {
            Ok(plan) if plan.route.model != free.route.model => Plan {
                route: Route {
                    reason: Reason::Budget,
                    ..plan.route
                },
                ..plan
            },
            _ => free.clone(),
        }
    }

    pub(super) fn need(&self, config: &Config, route: &Route, asked: &Asked) -> Need {
        let prompt_tokens_max = match (self.request.extent, config.model(route.model)) {
            // What the provider adds is limited by nothing but the context.
            (PromptExtent::Stored, Some(model)) => u64::from(model.context_tokens),
            _ => {
                let calibration = self.calibration(route.model);
                self.tokens.tokens_max(route.model, &calibration)
            }
        };
        Need::of(config, route, asked, prompt_tokens_max)
    }

    fn calibration(&self, index: ModelIndex) -> Calibration {
        self.calibrations.get(index.0).copied().unwrap_or_default()
    }
}
