//! The Envoys that are compared. All come from the shipped `envoy/demo.yaml`, filter and all as a
//! user runs it: routing among two models, the cache, budgets, the cap on `max_tokens`, the ledger
//! and the access log are on.

use crate::error::XtaskError;
use farthing_host_tests::envoy::EnvoyConfig;
use farthing_host_tests::paths;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Tokens of context of both models: a body of 1 MiB must not be refused for its length.
const CONTEXT_TOKENS: u32 = 1 << 20;

/// The configuration with the filter. Its budget is more than a benchmark spends.
pub fn with_filter(upstream: SocketAddr) -> Result<EnvoyConfig, XtaskError> {
    let mut config = EnvoyConfig::shipped("demo.yaml")?;
    config.set_upstream("backend", upstream)?;
    config.set_plugin_field(
        "budget",
        yaml(json!({"window_s": 3_600, "usd": 1_000_000}))?,
    )?;
    let models = config.plugin_configuration()?.get_mut("models");
    for model in models
        .and_then(|models| models.as_sequence_mut())
        .into_iter()
        .flatten()
    {
        model["context_tokens"] = CONTEXT_TOKENS.into();
    }
    Ok(config)
}

/// The same with the filter that decides nothing in the place of ours.
pub fn with_bare_filter(upstream: SocketAddr) -> Result<EnvoyConfig, XtaskError> {
    let mut config = with_filter(upstream)?;
    config.set_wasm(&paths::bare_wasm())?;
    Ok(config)
}

/// The same without the filter, and so without the header that names the cluster.
pub fn without_filter(upstream: SocketAddr) -> Result<EnvoyConfig, XtaskError> {
    let mut config = with_filter(upstream)?;
    config.remove_filter()?;
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "0s"}});
    set_route(&mut config, route)?;
    Ok(config)
}

/// The same without the filter and without an upstream: Envoy answers with `body` by itself. It
/// does so at the headers and closes the connection, for the request's body is still to come.
pub fn direct_response(body: &str) -> Result<EnvoyConfig, XtaskError> {
    let mut config = EnvoyConfig::shipped("demo.yaml")?;
    config.remove_filter()?;
    let answer = json!({"status": 200, "body": {"inline_string": body}});
    set_route(
        &mut config,
        json!({"match": {"prefix": "/"}, "direct_response": answer}),
    )?;
    Ok(config)
}

/// The same behind Envoy's buffer filter, which waits for the body: the connection stays open.
pub fn buffered_direct_response(body: &str) -> Result<EnvoyConfig, XtaskError> {
    let mut config = direct_response(body)?;
    let buffer = json!({
        "name": "envoy.filters.http.buffer",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
            "max_request_bytes": 1_048_576,
        },
    });
    let filters = config.http_connection_manager()?.get_mut("http_filters");
    let filters = filters.and_then(|filters| filters.as_sequence_mut());
    let filters =
        filters.ok_or_else(|| XtaskError::Unexpected("demo.yaml has no filters".to_string()))?;
    filters.insert(0, yaml(buffer)?);
    Ok(config)
}

fn set_route(config: &mut EnvoyConfig, route: Value) -> Result<(), XtaskError> {
    let manager = config.http_connection_manager()?;
    let routes = manager
        .get_mut("route_config")
        .and_then(|routes| routes.get_mut("virtual_hosts"))
        .and_then(|hosts| hosts.get_mut(0))
        .and_then(|host| host.get_mut("routes"))
        .and_then(|routes| routes.get_mut(0))
        .ok_or_else(|| XtaskError::Unexpected("demo.yaml has no route".to_string()))?;
    *routes = yaml(route)?;
    Ok(())
}

fn yaml(json: Value) -> Result<serde_yaml_ng::Value, XtaskError> {
    serde_yaml_ng::to_value(json)
        .map_err(|error| XtaskError::Unexpected(format!("benchmark configuration: {error}")))
}
