//! What operators see: metrics where Prometheus looks, and a log that tells no secrets.

use super::bodies::{chat, completion, streamed};
use super::edge::{Edge, SMALL, wait_until};
use farthing_host_tests::{client, prometheus};
use serde_json::Value;

#[test]
fn metrics_are_where_prometheus_looks() {
    let edge = Edge::shared();
    edge.script("metrics", completion("counted"));
    // One miss of 20 and 10 tokens at the small model's price, and one hit that saves as much.
    // Other tests count too, so these are least increases.
    let increases = [
        ("farthing_requests_total", 2),
        ("farthing_hits_total", 1),
        ("farthing_misses_total", 1),
        ("farthing_prompt_tokens_total", 20),
        ("farthing_completion_tokens_total", 10),
        ("farthing_cost_nanousd_total", 800),
        ("farthing_saved_nanousd_total", 800),
    ];
    let before = increases.map(|(name, _)| edge.metric(name));
    for _ in 0..2 {
        assert_eq!(edge.ask("counted", &chat(SMALL, "metrics")).status, 200);
    }
    for ((name, increase), before) in increases.into_iter().zip(before) {
        edge.wait_for_metric(name, before + increase);
    }
    let stats = edge.envoy.stats().expect("the admin interface answers");
    let label = "model=\"smollm2_135m_instruct\"";
    let requests = prometheus::sum(&stats, "farthing_model_requests_total", label);
    assert!(requests.is_some_and(|requests| requests >= 1.0), "{stats}");
}

/// Prompts and credentials that went through in every way must be in no log.
#[test]
fn the_log_tells_no_secrets() {
    const PROMPT: &str = "canary-prompt-8d1f";
    const CREDENTIAL: &str = "canary-credential-77ac";
    const ANSWER: &str = "canary-answer-52bb";
    let edge = Edge::shared();
    edge.script(PROMPT, completion(ANSWER));
    edge.ask(CREDENTIAL, &chat(SMALL, PROMPT));
    edge.ask(CREDENTIAL, &chat(SMALL, PROMPT));
    edge.ask(CREDENTIAL, &streamed(chat(SMALL, PROMPT)));
    edge.ask(CREDENTIAL, &chat("no-such-model", PROMPT));
    edge.ask(CREDENTIAL, &Value::String(PROMPT.to_string()));
    let mut wrong = chat(SMALL, "x");
    wrong["messages"][0]["role"] = PROMPT.into();
    edge.ask(CREDENTIAL, &wrong);
    let path = format!("/v1/{PROMPT}?key={CREDENTIAL}");
    let key = [("x-api-key", CREDENTIAL)];
    client::request(edge.address(), "GET", &path, &key, b"").expect("an answer");
    let last = edge.ask(CREDENTIAL, &chat(SMALL, PROMPT));
    let id = last
        .header("x-farthing-request-id")
        .expect("a request id")
        .to_string();
    let logged = |log: &str| log.lines().filter(|line| line.contains(&id)).count();
    wait_until("the access log names the last request", || {
        logged(&edge.envoy.log()) >= 1
    });
    let log = edge.envoy.log();
    for secret in [PROMPT, CREDENTIAL, ANSWER] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the log tells {secret}");
    }
}
