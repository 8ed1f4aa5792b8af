//! `envoy/istio.yaml` without Istio: its patches, applied to the configuration that Istio would
//! give a gateway, by the rules of an EnvoyFilter, and the result run by real Envoy.

use super::production_edge::stat;
use crate::envoy::bodies::{chat, completion};
use crate::envoy::edge::SMALL;
use farthing_host_tests::client;
use farthing_host_tests::envoy::{Envoy, EnvoyConfig, EnvoyOptions};
use farthing_host_tests::paths;
use farthing_host_tests::stub::StubUpstream;
use serde::Deserialize;
use serde_yaml_ng::{Deserializer, Mapping, Value};
use std::fs;

const MANAGER: &str = "envoy.filters.network.http_connection_manager";
const ROUTER: &str = "envoy.filters.http.router";

/// The documents of the file.
fn documents() -> Vec<Value> {
    let text = fs::read_to_string(paths::envoy_config("istio.yaml")).expect("the file");
    let documents = Deserializer::from_str(&text).map(Value::deserialize);
    documents.collect::<Result<_, _>>().expect("YAML")
}

fn document(kind: &str) -> Value {
    let found = documents()
        .into_iter()
        .find(|document| document["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind}"))
}

/// The cluster that Istio makes of the Service.
fn cluster_name() -> String {
    let host = document("DestinationRule")["spec"]["host"].clone();
    format!("outbound|8080||{}", host.as_str().expect("a host"))
}

/// What Istio makes of the VirtualService and the DestinationRule, as far as patches meet it.
fn gateway(upstream: &StubUpstream) -> EnvoyConfig {
    let mut config = EnvoyConfig::shipped("minimal.yaml").expect("a configuration");
    config.remove_filter().expect("a filter");
    config
        .set_upstream("backend", upstream.address())
        .expect("cluster backend");
    let cluster = config
        .at("/static_resources/clusters/0")
        .expect("a cluster");
    cluster["name"] = cluster_name().into();
    cluster["load_assignment"]["cluster_name"] = cluster_name().into();
    let manager = config.http_connection_manager().expect("a manager");
    let host = &mut manager["route_config"]["virtual_hosts"][0];
    let route = &mut host["routes"][0];
    let service = document("VirtualService")["spec"]["http"][0].clone();
    route["name"] = service["name"].clone();
    route["match"] = service["match"][0]["uri"].clone();
    let to = [("cluster".into(), cluster_name().into())];
    route["route"] = Value::Mapping(Mapping::from_iter(to));
    config
}

/// Applies one patch; how often it found what it is for.
fn apply(config: &mut EnvoyConfig, patch: &Value) -> usize {
    let (operation, value) = (&patch["patch"]["operation"], &patch["patch"]["value"]);
    let wanted = &patch["match"];
    assert_eq!(wanted["context"], "GATEWAY");
    let filter = &wanted["listener"]["filterChain"]["filter"];
    match (patch["applyTo"].as_str(), operation.as_str()) {
        (Some("HTTP_FILTER"), Some("INSERT_BEFORE")) => {
            assert_eq!(filter["name"], MANAGER);
            assert_eq!(filter["subFilter"]["name"], ROUTER);
            let manager = config.http_connection_manager().expect("a manager");
            let filters = manager["http_filters"].as_sequence_mut().expect("filters");
            let router = filters.iter().position(|filter| filter["name"] == ROUTER);
            filters.insert(router.expect("a router"), value.clone());
            1
        }
        (Some("NETWORK_FILTER"), Some("MERGE")) => {
            assert_eq!(filter["name"], MANAGER);
            let manager = config.http_connection_manager().expect("a manager");
            merge(manager, &value["typed_config"]);
            1
        }
        (Some("LISTENER"), Some("MERGE")) => {
            merge(
                config
                    .at("/static_resources/listeners/0")
                    .expect("a listener"),
                value,
            );
            1
        }
        (Some("HTTP_ROUTE"), Some("MERGE")) => {
            let name = &wanted["routeConfiguration"]["vhost"]["route"]["name"];
            let manager = config.http_connection_manager().expect("a manager");
            let host = &mut manager["route_config"]["virtual_hosts"][0];
            let routes = host["routes"].as_sequence_mut().expect("routes");
            let ours = routes.iter_mut().filter(|route| route["name"] == *name);
            ours.map(|route| merge(route, value)).count()
        }
        (Some("CLUSTER"), Some("MERGE")) => {
            let service = wanted["cluster"]["service"].as_str().expect("a service");
            let clusters = config.at("/static_resources/clusters").expect("clusters");
            let clusters = clusters.as_sequence_mut().expect("a list");
            let ours = clusters.iter_mut().filter(|cluster| {
                cluster["name"]
                    .as_str()
                    .is_some_and(|name| name.ends_with(&format!("||{service}")))
            });
            ours.map(|cluster| merge(cluster, value)).count()
        }
        other => panic!("a patch that this test does not know: {other:?}"),
    }
}

/// Protobuf's merge: messages field by field, lists one after the other, and of the ways to say
/// where a route leads the last one.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Mapping(into), Value::Mapping(from)) => {
            for (key, value) in from {
                if key == "cluster_header" {
                    into.remove("cluster");
                }
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Sequence(into), Value::Sequence(from)) => into.extend(from.iter().cloned()),
        (into, from) => *into = from.clone(),
    }
}

#[test]
fn the_patches_make_a_gateway_that_serves() {
    let upstream = StubUpstream::start(|_| completion("through Istio")).expect("a free port");
    let mut config = gateway(&upstream);
    let patches = document("EnvoyFilter")["spec"]["configPatches"].clone();
    let patches = patches.as_sequence().expect("patches");
    for patch in patches {
        assert_eq!(apply(&mut config, patch), 1, "{patch:?}");
    }
    let wasm = paths::require("the filter", paths::wasm()).expect("the filter");
    config.set_wasm(&wasm).expect("a plugin");
    Envoy::validate(&config).unwrap_or_else(|error| panic!("{error}"));
    let envoy = Envoy::start(&config, &EnvoyOptions::new(1));
    let envoy = envoy.unwrap_or_else(|error| panic!("{error}"));
    let sources = [0, 1].map(|_| {
        let key = [("authorization", "Bearer istio")];
        let body = chat(SMALL, "hello").to_string();
        let path = "/v1/chat/completions";
        let answer = client::post_json(envoy.address(), path, &key, &body).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.header("x-farthing-source").map(str::to_string)
    });
    assert_eq!(
        sources.map(Option::unwrap_or_default),
        ["model", "edge-cache"]
    );
    let requests = upstream.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(
        requests[0].header("x-farthing-cluster"),
        Some(cluster_name().as_str())
    );
    assert!(requests[0].header("x-farthing-prefix").is_some());
    assert_eq!(stat(&envoy, "http.clients.downstream_rq_2xx"), 2);
}

/// The resources around the patches speak of the same things.
#[test]
fn the_resources_belong_together() {
    for document in documents() {
        for field in ["apiVersion", "kind", "metadata", "spec"] {
            assert!(!document[field].is_null(), "{field} of {document:?}");
        }
        assert!(document["metadata"]["name"].is_string());
    }
    let patches = document("EnvoyFilter")["spec"]["configPatches"].clone();
    let plugin = &patches[0]["patch"]["value"]["typed_config"]["config"];
    for model in plugin["configuration"]["value"]["models"]
        .as_sequence()
        .expect("models")
    {
        assert_eq!(model["cluster"], cluster_name().as_str());
    }
    let mut production = EnvoyConfig::shipped("production.yaml").expect("a configuration");
    let ours = production.plugin().expect("a plugin");
    for field in [
        "failure_policy",
        "reload_config",
        "allow_on_headers_stop_iteration",
    ] {
        assert_eq!(plugin[field], ours[field], "{field}");
    }
    let capabilities = "capability_restriction_config";
    assert_eq!(
        plugin["vm_config"][capabilities],
        ours["vm_config"][capabilities]
    );
    let service = document("VirtualService")["spec"]["http"][0].clone();
    let host = service["route"][0]["destination"]["host"].clone();
    let host = host.as_str().expect("a host");
    assert!(cluster_name().contains(&format!("||{host}.")), "{host}");
    assert_eq!(service["route"][0]["destination"]["port"]["number"], 8080);
}
