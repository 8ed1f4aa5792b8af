//! What operators see: metrics where Prometheus looks, and a log that tells no secrets.

use super::edge::{Edge, SMALL, chat, completion, streamed, wait_until};
use farthing_host_tests::client;
use serde_json::Value;

#[test]
fn metrics_are_where_prometheus_looks() {
    let edge = Edge::shared();
    edge.script("metrics", completion("counted"));
    let names = ["requests", "hits", "misses", "prompt_tokens", "completion_tokens", "cost_nanousd"];
    let before = names.map(|name| edge.metric(&format!("farthing_{name}_total")));
    for _ in 0..2 {
        assert_eq!(edge.ask("counted", &chat(SMALL, "metrics")).status, 200);
    }
    // Other tests count too, so these are least increases.
    for (name, (before, least)) in names.iter().zip(before.into_iter().zip([2, 1, 1, 20, 10, 800])) {
        edge.wait_for_metric(&format!("farthing_{name}_total"), before + least);
    }
    assert!(edge.metric("farthing_saved_nanousd_total") >= 800);
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
    edge.ask(CREDENTIAL, &chat(PROMPT, PROMPT));
    edge.ask(CREDENTIAL, &Value::String(PROMPT.to_string()));
    let mut wrong = chat(SMALL, "x");
    wrong["messages"][0]["role"] = PROMPT.into();
    edge.ask(CREDENTIAL, &wrong);
    let path = format!("/v1/{PROMPT}?key={CREDENTIAL}");
    let key = [("x-api-key", CREDENTIAL)];
    client::request(edge.address(), "GET", &path, &key, b"").expect("an answer");
    let last = edge.ask(CREDENTIAL, &chat(SMALL, PROMPT));
    let id = last.header("x-farthing-request-id").expect("a request id").to_string();
    let logged = |log: &str| log.lines().filter(|line| line.contains(&id)).count();
    wait_until("both logs name the last request", || logged(&edge.envoy.log()) >= 2);
    let log = edge.envoy.log();
    for secret in [PROMPT, CREDENTIAL, ANSWER] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the log tells {secret}");
    }
}
