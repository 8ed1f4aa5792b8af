//! What `envoy/production.yaml` promises.

use super::certificates::{Authority, folder};
use super::kubernetes::pre_stop;
use super::monitoring::metrics_asked_for;
use super::production_edge::{ProductionEdge, VOCABULARIES, configuration};
use crate::envoy::bodies::{chat, completion};
use crate::envoy::edge::{SMALL, wait_until};
use farthing_host_tests::client;
use farthing_host_tests::envoy::{Envoy, EnvoyConfig};
use farthing_host_tests::paths;
use farthing_host_tests::stub::{Answer, StubUpstream};
use std::collections::BTreeSet;
use std::process::Command;

/// What the backend says of a request that it has not begun.
const NOT_STARTED: &str = "x-farthing-not-started";

#[test]
fn it_is_valid() {
    let replicas = [0, 1].map(|_| StubUpstream::start(|_| Answer::reset()).expect("a free port"));
    let mount = folder("tls");
    Authority::new().certify(&["llm.example.com"]).mount(&mount);
    let valid = Envoy::validate(&configuration(&replicas, &mount));
    valid.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn it_serves_over_tls_with_restricted_capabilities() {
    let edge = ProductionEdge::start(|_, _| completion("over TLS"));
    let sources = [0, 1].map(|_| {
        let answered = edge.ask(&chat(SMALL, "twice"));
        assert_eq!(answered.response.status, 200);
        let content = &answered.response.json()["choices"][0]["message"]["content"];
        assert_eq!(content, "over TLS");
        answered
            .response
            .header("x-farthing-source")
            .map(str::to_string)
    });
    let expected = ["model", "edge-cache"].map(|source| Some(source.to_string()));
    assert_eq!(sources, expected, "a repeat needs shared data");
    let plain = client::get(edge.envoy.address(), "/healthz");
    assert!(plain.is_err(), "plain HTTP was answered: {plain:?}");

    // The first worker that is asked fetches the vocabularies, by calls of its own.
    wait_until("a vocabulary is asked for", || {
        let requests = edge.replicas.iter().flat_map(|replica| replica.requests());
        requests
            .into_iter()
            .any(|request| request.path == format!("{VOCABULARIES}{SMALL}"))
    });
    check_metrics_listener(&edge);
    check_drain(&edge);
    check_dashboard(&edge);
    check_renewal(&edge);
    check_pre_stop(&edge);
}

/// Prometheus gets the metrics, and nobody gets more of the admin interface.
fn check_metrics_listener(edge: &ProductionEdge) {
    let metrics = edge.listener("metrics");
    let page = client::get(metrics, "/stats/prometheus")
        .expect("an answer")
        .text();
    assert!(page.contains("\nfarthing_requests_total{} 2\n"), "{page}");
    assert_eq!(
        client::get(metrics, "/ready").expect("an answer").status,
        200
    );
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/config_dump"),
        ("GET", "/stats"),
        ("GET", "/stats/prometheus/../../config_dump"),
        ("GET", "//config_dump"),
        ("POST", "/quitquitquit"),
        ("POST", "/stats/prometheus"),
    ] {
        let answer = client::request(metrics, method, path, &[], b"").expect("an answer");
        assert_eq!(answer.status, 404, "{method} {path}");
    }
}

/// What the dashboard and the alerts ask for is on the page.
fn check_dashboard(edge: &ProductionEdge) {
    let page = client::get(edge.listener("metrics"), "/stats/prometheus");
    let page = page.expect("an answer").text();
    for name in metrics_asked_for() {
        // Recorded by Prometheus itself, or about listeners that are not in a file.
        if name.contains(':') || name.contains("_lds_") {
            continue;
        }
        let metric = name.trim_end_matches("_bucket");
        assert!(
            page.contains(&format!("# TYPE {metric} ")),
            "Envoy has no {name}"
        );
    }
}

/// A load balancer is told before anything is closed.
fn check_drain(edge: &ProductionEdge) {
    let health = || edge.send("GET /healthz HTTP/1.1", b"").response.status;
    assert_eq!(health(), 200);
    let admin = edge.envoy.admin_address();
    client::request(admin, "POST", "/healthcheck/fail", &[], b"").expect("an answer");
    assert_eq!(health(), 503);
    let served = edge.ask(&chat(SMALL, "while draining")).response.status;
    assert_eq!(served, 200, "who comes nevertheless is served");
    client::request(admin, "POST", "/healthcheck/ok", &[], b"").expect("an answer");
    assert_eq!(health(), 200);
}

fn check_renewal(edge: &ProductionEdge) {
    let renewed = edge.renew_certificate();
    wait_until("the new certificate is shown", || {
        edge.send("GET /healthz HTTP/1.1", b"").certificate == renewed.der
    });
}

/// What Kubernetes runs before it ends Envoy, without the waiting.
fn check_pre_stop(edge: &ProductionEdge) {
    let admin = edge.envoy.admin_address().port().to_string();
    let script = pre_stop().replace("/9901", &format!("/{admin}"));
    let script: String = script
        .lines()
        .filter(|line| !line.contains("sleep"))
        .collect::<Vec<_>>()
        .join("\n");
    let before = edge.send("GET /healthz HTTP/1.1", b"").response.status;
    assert_eq!(before, 200);
    let status = Command::new("bash")
        .args(["-c", &script])
        .status()
        .expect("bash");
    assert!(status.success(), "{status}");
    wait_until("Envoy says that it leaves", || {
        edge.stat("server.live") == 0
    });
    assert_eq!(edge.send("GET /healthz HTTP/1.1", b"").response.status, 503);
}

#[test]
fn a_prefix_meets_its_replica_and_other_prefixes_the_others() {
    let edge = ProductionEdge::start(|replica, _| completion(&replica.to_string()));
    let replica_of = |prompt: &str| {
        let mut body = chat(SMALL, prompt);
        body["temperature"] = 1.into();
        let answer = edge.ask(&body).response.json();
        answer["choices"][0]["message"]["content"].clone()
    };
    let mut replicas = BTreeSet::new();
    for topic in 0..12 {
        let prompt = format!("topic {topic}");
        let first = replica_of(&prompt);
        assert_eq!(replica_of(&prompt), first, "{prompt}");
        replicas.insert(first.to_string());
    }
    assert_eq!(replicas.len(), 2, "all prefixes met one replica");
}

/// A prompt says what the first replica that is asked does; the next one would answer.
#[test]
fn only_what_was_not_begun_is_sent_again() {
    let edge = ProductionEdge::start(|_, request| {
        let body = request.json();
        match body["messages"][0]["content"].as_str().unwrap_or_default() {
            "busy" => Answer::json(429, "{}").header(NOT_STARTED, "true"),
            "overloaded" => Answer::json(429, "{}"),
            "failed" => Answer::json(500, "{}"),
            "gone" => Answer::reset(),
            _ => completion("served"),
        }
    });
    for (prompt, attempts, status) in [
        ("fine", 1, 200),
        ("busy", 2, 429),
        ("overloaded", 1, 429),
        ("failed", 1, 500),
        ("gone", 1, 503),
    ] {
        let before: usize = edge.asked().iter().sum();
        let answered = edge.ask(&chat(SMALL, prompt));
        assert_eq!(answered.response.status, status, "{prompt}");
        let asked = edge.asked().iter().sum::<usize>() - before;
        assert_eq!(asked, attempts, "{prompt}");
    }
    assert!(
        edge.asked().iter().all(|asked| *asked > 0),
        "a busy replica is not asked again"
    );
}

#[test]
fn a_failing_replica_is_taken_out() {
    let edge = ProductionEdge::start(|replica, _| match replica {
        0 => Answer::json(
            503,
            r#"{"error":{"message":"broken","type":"server_error"}}"#,
        ),
        _ => completion("the other"),
    });
    let mut topics = 0..;
    wait_until("the failing replica is ejected", || {
        let topic = topics.next().unwrap_or_default();
        edge.ask(&chat(SMALL, &format!("topic {topic}")));
        edge.stat("cluster.backend.membership_healthy") == 1
    });
    assert_eq!(
        edge.stat("cluster.backend.outlier_detection.ejections_active"),
        1
    );
    // Envoy tells its workers of changes within one second together.
    wait_until("no request meets it any more", || {
        let serves = |topic| {
            let answered = edge.ask(&chat(SMALL, &format!("after {topic}")));
            answered.response.status == 200
        };
        (0..12).all(serves)
    });
}

/// What each call of the SDK is in the ABI, where the filter uses it.
const CALLS: [(&str, &str); 19] = [
    ("define_metric", "proxy_define_metric"),
    ("dispatch_http_call", "proxy_http_call"),
    ("get_buffer", "proxy_get_buffer_bytes"),
    ("get_current_time", "proxy_get_current_time_nanoseconds"),
    ("get_map_bytes", "proxy_get_header_map_pairs"),
    ("get_map_value_bytes", "proxy_get_header_map_value"),
    ("get_shared_data", "proxy_get_shared_data"),
    ("increment_metric", "proxy_increment_metric"),
    ("log", "proxy_log"),
    ("record_metric", "proxy_record_metric"),
    ("remove_map_value", "proxy_remove_header_map_value"),
    ("resume_http_request", "proxy_continue_stream"),
    ("send_http_response", "proxy_send_local_response"),
    ("set_buffer", "proxy_set_buffer_bytes"),
    ("set_effective_context", "proxy_set_effective_context"),
    ("set_map_value", "proxy_replace_header_map_value"),
    ("set_property", "proxy_set_property"),
    ("set_shared_data", "proxy_set_shared_data"),
    ("set_tick_period", "proxy_set_tick_period_milliseconds"),
];
/// The SDK calls these of every module.
const CALLBACKS_OF_THE_SDK: [&str; 3] = [
    "proxy_on_vm_start",
    "proxy_on_context_create",
    "proxy_on_delete",
];
/// What a panic's message needs.
const WASI: [&str; 4] = ["fd_write", "proc_exit", "environ_get", "environ_sizes_get"];

/// The list in the file is what the filter calls and is called for, read from its source: no more,
/// and no less.
#[test]
fn capabilities_are_those_that_the_filter_uses() {
    let source = |file: &str| {
        let path = paths::workspace_root().join("plugin/src").join(file);
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
    };
    let host = source("host.rs");
    let used = host.split("hostcalls::").skip(1);
    let used = used.filter_map(|rest| {
        rest.split(|c: char| c != '_' && !c.is_alphanumeric())
            .next()
    });
    let calls = used.filter(|name| !name.is_empty()).map(|name| {
        let known = CALLS.iter().find(|(call, _)| *call == name);
        known
            .unwrap_or_else(|| panic!("{name} is new: name its call of the ABI here"))
            .1
    });
    // A callback that our traits implement has their name for it.
    let shell = [source("root.rs"), source("filter.rs")].concat();
    let methods = shell
        .split("fn on_")
        .skip(1)
        .filter_map(|rest| rest.split('(').next());
    let callbacks = methods.map(|name| {
        let name = name.replace("http_request_", "request_");
        format!("proxy_on_{}", name.replace("http_response_", "response_"))
    });
    let mut expected: BTreeSet<String> = calls.map(str::to_string).chain(callbacks).collect();
    expected.extend(
        CALLBACKS_OF_THE_SDK
            .iter()
            .chain(&WASI)
            .map(ToString::to_string),
    );

    let mut config = EnvoyConfig::shipped("production.yaml").unwrap_or_else(|e| panic!("{e}"));
    let plugin = config.plugin().expect("a plugin");
    let allowed = &plugin["vm_config"]["capability_restriction_config"]["allowed_capabilities"];
    let allowed = allowed.as_mapping().expect("capabilities").keys();
    let allowed: BTreeSet<String> = allowed
        .filter_map(|name| Some(name.as_str()?.to_string()))
        .collect();
    assert_eq!(allowed, expected);
}
