//! Exceptions for a part of the traffic. A proxy-wasm filter has no configuration per Envoy route,
//! so the plugin's own lists routes: the first that matches a request applies to it, and a request
//! that none matches gets [`RouteConfig::default`].

use serde::Deserialize;

use super::cache::{RawRouteCache, route_cache};
use super::checks::{count, header_value};
use super::compaction::{RawRouteCompaction, whitespace};
use super::raw::RawTenantSource;
use super::split::{RawSplit, Split, split};
use super::{CacheConfig, ConfigError, RawConfig, RouteCache};
use crate::compaction::Whitespace;
use crate::limits::{ROUTE_MATCHES_MAX, ROUTES_MAX};
use crate::wire::Endpoint;

/// What applies to the requests of one route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteConfig {
    /// Stands in the ledger; empty for the default route.
    pub name: String,
    pub matches: RouteMatch,
    /// Policies that decide and record but do not act.
    pub shadow: Vec<Policy>,
    /// White space in what users write.
    pub whitespace: Whitespace,
    pub cache: RouteCache,
    /// Sends its requests to other models than they ask for.
    pub split: Option<Split>,
}

/// Which requests a route is for: those that every list admits, and an empty list admits all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteMatch {
    /// Names that clients ask for.
    pub models: Vec<String>,
    /// Names of tenants.
    pub tenants: Vec<String>,
    pub endpoints: Vec<Endpoint>,
}

/// A decision that saves money, as `shadow` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Answers from the exact cache.
    Cache,
    /// Choosing another model than the dearest of a virtual one.
    Routing,
    /// Asking the model of a split's arm.
    Split,
    /// Lowering what a client wishes for above `max_tokens.cap`.
    Cap,
    /// Sending fewer bytes of the same meaning.
    Compaction,
    /// Refusing what a budget does not cover, and its shadow price.
    Budget,
}

impl RouteConfig {
    /// Does this policy act here, or only record what it would have done?
    pub fn acts(&self, policy: Policy) -> bool {
        !self.shadow.contains(&policy)
    }
}

impl RouteMatch {
    /// Is a request for `model` by the tenant of that name at `endpoint` one of these?
    pub fn admits(&self, endpoint: Endpoint, model: &str, tenant: Option<&str>) -> bool {
        let admits = |list: &[String], word: Option<&str>| {
            list.is_empty() || list.iter().any(|item| Some(item.as_str()) == word)
        };
        admits(&self.models, Some(model))
            && admits(&self.tenants, tenant)
            && (self.endpoints.is_empty() || self.endpoints.contains(&endpoint))
    }
}

/// A route as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct RawRoute {
    /// Stands in the ledger.
    pub name: String,
    /// Which requests it is for: those that every list admits. A list that is left out admits all.
    #[serde(default, rename = "match")]
    pub matches: RawRouteMatch,
    /// Policies that decide and record what they would have done, but do not act.
    #[serde(default)]
    pub shadow: Vec<Policy>,
    /// What more is taken out of a request here.
    #[serde(default)]
    pub compaction: RawRouteCompaction,
    /// What is different about the cache here. Default: nothing.
    pub cache: Option<RawRouteCache>,
    /// Sends parts of its requests to other models than they ask for. Default: none.
    pub split: Option<RawSplit>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub(super) struct RawRouteMatch {
    /// Models that clients ask for, virtual ones too.
    pub models: Vec<String>,
    /// Names of tenants.
    pub tenants: Vec<String>,
    /// Paths of endpoints, such as `/v1/chat/completions`.
    pub paths: Vec<String>,
}

/// Checks the routes of a configuration whose top-level `cache` is this.
pub(super) fn routes(
    raw: &mut RawConfig,
    cache: Option<&CacheConfig>,
) -> Result<Vec<RouteConfig>, ConfigError> {
    count("routes", raw.routes.len(), ROUTES_MAX)?;
    let written = std::mem::take(&mut raw.routes);
    let mut routes: Vec<RouteConfig> = Vec::with_capacity(written.len());
    for (position, route) in written.into_iter().enumerate() {
        let path = format!("routes[{position}]");
        let name = header_value(format!("{path}.name"), route.name)?;
        if routes.iter().any(|route| route.name == name) {
            let problem = format!("is the name of an earlier route, \"{name}\"");
            return Err(ConfigError::new(format!("{path}.name"), problem));
        }
        routes.push(RouteConfig {
            name,
            matches: route_match(&path, route.matches, raw)?,
            shadow: route.shadow,
            whitespace: whitespace(route.compaction),
            cache: route_cache(&path, route.cache, cache)?,
            split: (route.split)
                .map(|written| split(&path, written, raw))
                .transpose()?,
        });
    }
    Ok(routes)
}

/// A name that nothing in the rest of the configuration has would match no request, ever: it is a
/// mistake that would otherwise be silent.
fn route_match(
    path: &str,
    raw: RawRouteMatch,
    config: &RawConfig,
) -> Result<RouteMatch, ConfigError> {
    let path = format!("{path}.match");
    count(
        &format!("{path}.models"),
        raw.models.len(),
        ROUTE_MATCHES_MAX,
    )?;
    count(
        &format!("{path}.tenants"),
        raw.tenants.len(),
        ROUTE_MATCHES_MAX,
    )?;
    for (position, name) in raw.models.iter().enumerate() {
        if !config.names_model(name) {
            let problem = format!("`{name}` is not one of `models` or `virtual_models`");
            return Err(ConfigError::new(
                format!("{path}.models[{position}]"),
                problem,
            ));
        }
    }
    for (position, name) in raw.tenants.iter().enumerate() {
        let named = config.tenant.names.iter().any(|named| named.name == *name);
        if !named && config.tenant.source == RawTenantSource::Credential {
            let problem = format!("`{name}` is not one of `tenant.names`");
            return Err(ConfigError::new(
                format!("{path}.tenants[{position}]"),
                problem,
            ));
        }
    }
    let mut endpoints = Vec::with_capacity(raw.paths.len());
    for (position, spelled) in raw.paths.iter().enumerate() {
        let Some(endpoint) = Endpoint::from_path(spelled) else {
            let problem = "is not the path of an endpoint, such as /v1/chat/completions";
            return Err(ConfigError::new(
                format!("{path}.paths[{position}]"),
                problem,
            ));
        };
        endpoints.push(endpoint);
    }
    Ok(RouteMatch {
        models: raw.models,
        tenants: raw.tenants,
        endpoints,
    })
}
