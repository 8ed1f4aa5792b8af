//! Where a request would go, and under which key its answer is kept: asked once, and again for each
//! shadow price that its budget puts on dear models.

use super::admission::Need;
use super::{Asked, Caller, Env, Vm};
use crate::budget::Pressure;
use crate::cache;
use crate::cache_key::CacheKey;
use crate::config::{Config, ModelIndex};
use crate::error::ApiError;
use crate::route::{self, Reason, Route};
use crate::tokens::{Calibration, Count};
use crate::wire::Request;

/// What is known of a request before it is decided.
pub(super) struct Planner<'a> {
    caller: &'a Caller,
    request: &'a Request,
    pub count: Count,
    calibrations: Vec<Calibration>,
}

/// One decision.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub route: Route,
    /// `None` if this request may not be answered from the cache at all.
    pub key: Option<CacheKey>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        caller: &'a Caller,
        vm: &mut Vm,
        env: &Env<'_>,
        request: &'a Request,
    ) -> Planner<'a> {
        Planner {
            caller,
            request,
            count: Count::of_request(request),
            calibrations: (0..vm.config.models.len())
                .map(|index| vm.calibration(env, ModelIndex(index)))
                .collect(),
        }
    }

    pub(super) fn plan(&self, config: &Config, pressure: Pressure) -> Result<Plan, ApiError> {
        let estimate = |index: ModelIndex| self.calibration(index).tokens(&self.count);
        let tokens_min = self.count.tokens_min();
        let route = route::route(config, self.request, pressure, tokens_min, estimate)?;
        let key = self.cache_key(config, &route);
        Ok(Plan { route, key })
    }

    /// The plan under a pressure; `free` is the one without.
    pub(super) fn moved(&self, config: &Config, free: &Plan, pressure: Pressure) -> Plan {
        if pressure.is_none() {
            return *free;
        }
        match self.plan(config, pressure) {
            Ok(plan) if plan.route.model != free.route.model => Plan {
                route: Route {
                    reason: Reason::Budget,
                    ..plan.route
                },
                ..plan
            },
            _ => *free,
        }
    }

    pub(super) fn need(&self, config: &Config, route: &Route, asked: &Asked) -> Need {
        let prompt_tokens_max = self.calibration(route.model).tokens_max(&self.count);
        Need::of(config, route, asked, prompt_tokens_max)
    }

    fn calibration(&self, index: ModelIndex) -> Calibration {
        self.calibrations.get(index.0).copied().unwrap_or_default()
    }

    fn cache_key(&self, config: &Config, route: &Route) -> Option<CacheKey> {
        let cache = config.cache.as_ref()?;
        if !cache::is_cacheable(cache, &self.caller.tenant, self.request) {
            return None;
        }
        let model = config.model(route.model)?;
        Some(CacheKey::new(
            &config.secret,
            self.caller.tenant.id(),
            model,
            route.max_tokens,
            &self.caller.head,
            self.request,
        ))
    }
}
