//! The shipped configurations run as they are, and wrong ones are refused or noticed.

use super::bodies::{chat, completion};
use super::edge::{Edge, SMALL, yaml};
use farthing_core::limits::SELF_CHECK_PROOFS;
use farthing_host_tests::envoy::{Envoy, EnvoyConfig};
use serde_json::json;

#[test]
fn minimal_is_valid() {
    check_valid("minimal.yaml");
}

#[test]
fn demo_is_valid() {
    check_valid("demo.yaml");
}

#[track_caller]
fn check_valid(file_name: &str) {
    let config = EnvoyConfig::shipped(file_name).expect("a configuration");
    Envoy::validate(&config).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn minimal_serves() {
    let edge = Edge::start(1, |config| {
        let upstream = config
            .at("/static_resources/clusters")
            .expect("clusters")
            .clone();
        let mut minimal = EnvoyConfig::shipped("minimal.yaml").expect("a configuration");
        *minimal.at("/static_resources/clusters").expect("clusters") = upstream;
        *config = minimal;
    });
    edge.script("minimal", completion("It serves."));
    let response = edge.ask("a", &chat(SMALL, "minimal"));
    assert_eq!(response.status, 200);
    assert_eq!(
        response.json()["choices"][0]["message"]["content"],
        "It serves."
    );
}

#[test]
fn minimal_needs_fifteen_lines() {
    let mut config = EnvoyConfig::shipped("minimal.yaml").expect("a configuration");
    let plugin = config
        .plugin_configuration()
        .expect("a plugin configuration");
    let text = serde_yaml_ng::to_string(&plugin["models"]).expect("YAML");
    assert!(text.contains("id:"), "it must configure models");
    let file = std::fs::read_to_string(farthing_host_tests::paths::envoy_config("minimal.yaml"));
    let file = file.expect("the file");
    let (_, after) = file
        .split_once("google.protobuf.Struct\n")
        .expect("a Struct");
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = after.lines().skip(1);
    let depth = lines.clone().next().map_or(0, indent);
    let count = lines
        .by_ref()
        .take_while(|line| indent(line) >= depth)
        .count();
    assert!((1..=15).contains(&count), "{count} lines");
}

/// Envoy must refuse to start, and its log must name the field.
#[track_caller]
fn check_refused(field: &str, value: serde_json::Value, named: &str) {
    let mut config = EnvoyConfig::shipped("minimal.yaml").expect("a configuration");
    config
        .set_plugin_field(field, yaml(value))
        .expect("a plugin configuration");
    let log = Envoy::refusal(&config).unwrap_or_else(|error| panic!("{error}"));
    let said = log
        .lines()
        .any(|line| line.contains("[wasm]") && line.contains(named));
    assert!(said, "no line of the filter names {named}:\n{log}");
}

#[test]
fn an_unknown_field_keeps_envoy_from_starting() {
    check_refused("cache", json!({"ttl_seconds": 60}), "cache.ttl_seconds");
}

#[test]
fn a_negative_price_keeps_envoy_from_starting() {
    let price = json!({"input_usd_per_mtok": -1, "output_usd_per_mtok": 1});
    let model = json!({"id": "m", "tier": "t", "cluster": "backend", "context_tokens": 2048,
        "price": price});
    check_refused(
        "models",
        json!([model]),
        "models[0].price.input_usd_per_mtok",
    );
}

#[test]
fn without_headers_stop_iteration_traffic_passes_and_says_so() {
    let edge = Edge::start(1, |config| {
        let plugin = config.plugin().expect("a plugin");
        plugin
            .as_mapping_mut()
            .expect("a mapping")
            .remove("allow_on_headers_stop_iteration");
    });
    let body = chat("anything-goes", "untouched");
    edge.script("untouched", completion("passed"));
    // Each of the first ones is held until it is let go and proves what the host does not do.
    for _ in 0..=SELF_CHECK_PROOFS {
        let response = edge.ask("a", &body);
        assert_eq!(
            response.json()["choices"][0]["message"]["content"],
            "passed"
        );
    }
    for request in edge.seen("untouched") {
        assert_eq!(request.body, body.to_string().into_bytes());
    }
    edge.wait_for_metric("farthing_self_check_failed", 1);
    let log = edge.envoy.log();
    assert!(log.contains("allow_on_headers_stop_iteration"), "{log}");
}
