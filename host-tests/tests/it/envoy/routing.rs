//! Where a request goes is decided by its body, and never by what its client claims.

use super::bodies::{chat, completion};
use super::edge::{Edge, LARGE, SMALL};
use farthing_host_tests::client;
use farthing_host_tests::envoy::{Envoy, EnvoyConfig, EnvoyOptions};
use farthing_host_tests::stub::StubUpstream;
use std::collections::BTreeSet;

/// What the upstreams saw, and which of them.
#[track_caller]
fn check_route(model: &str, prompt: &str, tier: &str, served: &str) {
    let edge = Edge::shared();
    edge.script(prompt, completion("routed"));
    let response = edge.ask("router", &chat(model, prompt));
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("x-farthing-tier"), Some(tier));
    assert_eq!(response.header("x-farthing-model"), Some(served));
    let seen = edge.seen(prompt);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].json()["model"], served);
    assert_eq!(seen[0].header("x-farthing-tier"), Some(tier));
    let upstream = if tier == "small" {
        &edge.small
    } else {
        &edge.large
    };
    assert!(
        upstream
            .requests()
            .iter()
            .any(|request| request.body == seen[0].body)
    );
}

const HARD: &str = "Prove step by step that the algorithm below terminates, derive its \
    complexity and refactor it with error handling:\n```rust\nfn f(m: u64, n: u64) -> u64 {\n    \
    if m == 0 { n + 1 } else if n == 0 { f(m - 1, 1) } else { f(m - 1, f(m, n - 1)) }\n}\n```\n\
    Compare it with two alternatives.";

#[test]
fn a_concrete_model_is_pinned() {
    check_route(LARGE, "pinned", "large", LARGE);
}

#[test]
fn an_easy_question_goes_to_the_small_model() {
    check_route("auto", "What is the capital of France?", "small", SMALL);
}

#[test]
fn a_hard_question_goes_to_the_large_model() {
    check_route("auto", HARD, "large", LARGE);
}

#[test]
fn what_a_client_claims_is_replaced() {
    let edge = Edge::shared();
    edge.script("spoofed", completion("ours"));
    let spoofed = [
        ("x-farthing-tenant", "root"),
        ("x-farthing-cluster", "large"),
        ("x-farthing-tier", "large"),
        ("x-farthing-request-id", "theirs"),
        ("x-farthing-anything", "1"),
        ("x-request-id", "theirs"),
    ];
    let response = edge.ask_with("spoofer", &chat(SMALL, "spoofed"), &spoofed);
    assert_eq!(response.status, 200);
    let seen = edge.seen("spoofed");
    let seen = seen.first().expect("it reached an upstream");
    assert_eq!(seen.header("x-farthing-tier"), Some("small"));
    assert_eq!(seen.header("x-farthing-cluster"), Some("backend"));
    assert_eq!(seen.header("x-farthing-anything"), None);
    assert_ne!(seen.header("x-farthing-tenant"), Some("root"));
    assert_ne!(seen.header("x-farthing-request-id"), Some("theirs"));
    assert_eq!(
        seen.header("x-request-id"),
        seen.header("x-farthing-request-id")
    );
    let count = seen
        .headers
        .iter()
        .filter(|(name, _)| name == "x-farthing-tenant")
        .count();
    assert_eq!(count, 1);
}

#[test]
fn what_is_listed_passes() {
    let listed = client::get(Edge::shared().address(), "/v1/models").expect("an answer");
    assert_eq!(listed.status, 200);
}

#[test]
fn a_body_that_ends_with_trailers_is_judged() {
    let edge = Edge::shared();
    edge.script("trailers", completion("judged"));
    let body = chat(SMALL, "trailers").to_string();
    let raw = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\nx-after: 1\r\n\r\n",
        body.len()
    );
    let mut connection = client::Connection::open(edge.address()).expect("Envoy listens");
    connection.send_raw(raw.as_bytes()).expect("Envoy reads");
    let response = connection.receive().expect("an answer");
    assert_eq!(response.header("x-farthing-source"), Some("model"));
}

/// A conversation keeps the replica that holds its prefix; different ones spread.
#[test]
fn a_prefix_keeps_its_replica() {
    let replicas: Vec<StubUpstream> = (0..3)
        .map(|_| StubUpstream::start(|_| completion("a replica")).expect("a free port"))
        .collect();
    let mut config = EnvoyConfig::shipped("demo.yaml").expect("a configuration");
    let endpoints = "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints";
    let list = config
        .at(endpoints)
        .expect("endpoints")
        .as_sequence_mut()
        .expect("a list");
    list.resize(replicas.len(), list[0].clone());
    for (index, replica) in replicas.iter().enumerate() {
        let port = format!("{endpoints}/{index}/endpoint/address/socket_address");
        let socket = config.at(&port).expect("an address");
        socket["port_value"] = replica.address().port().into();
    }
    let envoy = Envoy::start(&config, &EnvoyOptions::new(2)).expect("Envoy starts");
    let headers = [
        ("authorization", "Bearer a"),
        ("cache-control", "no-store, no-cache"),
    ];
    for conversation in 0..12 {
        for turn in 0..3 {
            let mut body = chat(SMALL, &format!("conversation {conversation}"));
            let messages = body["messages"].as_array_mut().expect("messages");
            for _ in 0..turn {
                messages.push(serde_json::json!({"role": "assistant", "content": "And then?"}));
                messages.push(serde_json::json!({"role": "user", "content": "Go on."}));
            }
            let answer = client::post_json(
                envoy.address(),
                "/v1/chat/completions",
                &headers,
                &body.to_string(),
            );
            assert_eq!(answer.expect("an answer").status, 200);
        }
    }
    let prefixes = |replica: &StubUpstream| -> BTreeSet<String> {
        let requests = replica.requests();
        requests
            .iter()
            .filter_map(|r| r.header("x-farthing-prefix").map(String::from))
            .collect()
    };
    let held: Vec<_> = replicas.iter().map(prefixes).collect();
    assert_eq!(
        held.iter().map(BTreeSet::len).sum::<usize>(),
        12,
        "a prefix changed its replica"
    );
    let used = held.iter().filter(|prefixes| !prefixes.is_empty()).count();
    assert!(used >= 2, "every prefix went to one replica");
}
