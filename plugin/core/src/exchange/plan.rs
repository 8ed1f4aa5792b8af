//! Where a request would go, and what the cache then is to it: asked once, and again for each
//! shadow price that its budget puts on dear models.

use super::admission::Need;
use super::cached::CacheUse;
use super::{Asked, Caller, Env, Vm};
use crate::budget::Pressure;
use crate::config::{Config, ModelIndex};
use crate::error::ApiError;
use crate::route::{self, Reason, Route};
use crate::tokens::{Calibration, PromptTokens};
use crate::wire::{PromptExtent, Request};

/// What is known of a request before it is decided.
pub(super) struct Planner<'a> {
    caller: &'a Caller,
    request: &'a Request,
    tokens: &'a PromptTokens,
    calibrations: Vec<Calibration>,
}

/// One decision.
#[derive(Clone)]
pub(super) struct Plan {
    pub route: Route,
    /// `None` if this request has nothing to do with the cache.
    pub cache: Option<CacheUse>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        caller: &'a Caller,
        vm: &mut Vm,
        env: &Env<'_>,
        request: &'a Request,
        tokens: &'a PromptTokens,
    ) -> Planner<'a> {
        Planner {
            caller,
            request,
            tokens,
            calibrations: (0..vm.config.models.len())
                .map(|index| vm.calibration(env, ModelIndex(index)))
                .collect(),
        }
    }

    pub(super) fn plan(&self, config: &Config, pressure: Pressure) -> Result<Plan, ApiError> {
        let estimate = |index: ModelIndex| self.tokens.tokens(index, &self.calibration(index));
        let tokens_min = self.tokens.tokens_min();
        let route = route::route(config, self.request, pressure, tokens_min, estimate)?;
        let cache = CacheUse::plan(self.caller, config, &route, self.request);
        Ok(Plan { route, cache })
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
