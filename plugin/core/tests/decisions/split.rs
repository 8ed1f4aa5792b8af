//! Splits of the traffic, and policies that decide and record but do not act.

use crate::edge::{CHAT, CONFIG, Edge, Sent};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn edge(route: Value) -> Edge {
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    config["routes"] = json!([route]);
    Edge::new(&config.to_string())
}

fn split(by: &str) -> Value {
    json!({"name": "trial", "match": {"models": ["auto"]}, "split": {"by": by, "arms": [
        {"name": "old", "model": "small", "percent": 30},
        {"name": "new", "model": "large", "percent": 70}]}})
}

fn ask(question: &str, later: &[&str]) -> String {
    let mut messages = vec![json!({"role": "user", "content": question})];
    for turn in later {
        messages.push(json!({"role": "assistant", "content": "Yes."}));
        messages.push(json!({"role": "user", "content": turn}));
    }
    json!({"model": "auto", "messages": messages}).to_string()
}

/// Lets the upstream answer with this usage; returns the ledger's line.
fn answered(edge: &mut Edge, sent: &mut Sent, usage: Value) -> Value {
    let head = [(":status", "200"), ("content-type", "application/json")];
    edge.answer(
        sent,
        &head,
        &[json!({"usage": usage}).to_string().as_bytes()],
    );
    edge.last_line()
}

fn usage() -> Value {
    json!({"prompt_tokens": 1_000, "completion_tokens": 500})
}

/// The arm of the ledger and the tier of the upstream, which must agree.
#[track_caller]
fn arm_of(edge: &mut Edge, key: &str, body: &str) -> String {
    let bearer = format!("Bearer {key}");
    let mut sent = edge.post_with(CHAT, &[("authorization", &bearer)], body);
    let tier = sent.header("x-farthing-tier").unwrap().to_owned();
    let line = answered(edge, &mut sent, usage());
    let arm = line["arm"].as_str().unwrap().to_owned();
    assert_eq!(tier, if arm == "old" { "small" } else { "large" });
    assert_eq!(line["route"], "split");
    arm
}

#[test]
fn a_conversation_stays_in_its_arm() {
    let mut edge = edge(split("conversation"));
    let mut shares: BTreeMap<String, u32> = BTreeMap::new();
    for number in 0..150 {
        let question = format!("Question {number}");
        let arm = arm_of(&mut edge, "key-a", &ask(&question, &[]));
        let later = ask(&question, &["Why?", "And then?"]);
        assert_eq!(arm_of(&mut edge, "key-a", &later), arm);
        *shares.entry(arm).or_default() += 1;
    }
    assert!((25..=65).contains(&shares["old"]), "{shares:?}");
}

#[test]
fn a_tenant_stays_in_its_arm() {
    let mut edge = edge(split("tenant"));
    let mut shares: BTreeMap<String, u32> = BTreeMap::new();
    for number in 0..100 {
        let key = format!("key-{number}");
        let arm = arm_of(&mut edge, &key, &ask("Say hello", &[]));
        assert_eq!(arm_of(&mut edge, &key, &ask("Say goodbye", &[])), arm);
        *shares.entry(arm).or_default() += 1;
    }
    assert!((15..=47).contains(&shares["old"]), "{shares:?}");
}

/// The small model takes no tools.
#[test]
fn an_arm_that_cannot_take_a_request_does_not_end_it() {
    let mut route = split("tenant");
    route["split"]["arms"] = json!([{"name": "all", "model": "small", "percent": 100}]);
    let mut body: Value = serde_json::from_str(&ask("Say hello", &[])).unwrap();
    body["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
    let mut edge = edge(route);
    let mut sent = edge.post(CHAT, &body.to_string());
    assert_eq!(sent.header("x-farthing-tier"), Some("large"));
    assert_eq!(answered(&mut edge, &mut sent, usage())["arm"], "all");
}

/// What is saved counts against what was asked for, and a dearer arm costs.
#[test]
fn savings_count_against_what_was_asked() {
    let mut route = split("tenant");
    route["match"] = json!({});
    route["split"]["arms"] = json!([{"name": "all", "model": "large", "percent": 100}]);
    let mut edge = edge(route);
    let body = ask("Say hello", &[]).replace("auto", "small");
    let mut sent = edge.post(CHAT, &body);
    let line = answered(&mut edge, &mut sent, usage());
    assert_eq!(
        (&line["model_asked"], &line["model"]),
        (&json!("small"), &json!("large"))
    );
    assert_eq!(line["saved_nanousd"], 40_000 - 450_000);
}

/// `(shadow, fields of the request, what the ledger's line has)`. Nothing else of the request
/// changes on its way.
#[test]
fn what_is_in_shadow_is_recorded_and_not_done() {
    let all = json!({"name": "all", "model": "small", "percent": 100});
    for (shadow, fields, expected) in [
        (
            "routing",
            json!({"model": "auto"}),
            json!({"/route": "shadow", "/model": "large", "/saved_nanousd": 0,
                   "/shadow": {"route_model": "small", "route_nanousd": 410_000}}),
        ),
        // The router would have chosen the dearest itself.
        (
            "routing",
            json!({"model": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}),
            json!({"/route": "only_fit", "/model": "large"}),
        ),
        (
            "cap",
            json!({"model": "large", "max_tokens": 3_000}),
            json!({"/model": "large", "/capped": false}),
        ),
        (
            "split",
            json!({"model": "large"}),
            json!({"/route": "pinned", "/model": "large", "/shadow": {"split_arm": "all"}}),
        ),
    ] {
        let mut route = json!({"name": "r", "shadow": [shadow]});
        if shadow == "split" {
            route["split"] = json!({"by": "tenant", "arms": [all]});
        }
        let mut edge = edge(route);
        let mut body = json!({"messages": [{"role": "user", "content": "Say hello"}]});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let mut sent = edge.post(CHAT, &body.to_string());
        let line = answered(&mut edge, &mut sent, usage());
        for (pointer, value) in expected.as_object().unwrap() {
            assert_eq!(line.pointer(pointer), Some(value), "{pointer} of {line}");
        }
        if expected.get("/shadow").is_none() {
            assert_eq!(line.get("shadow"), None, "{line}");
        }
    }
}

/// The cap of the tests is 1,000 tokens, and one costs 600 nano-dollars.
#[test]
fn a_cap_in_shadow_knows_what_it_would_have_cut_off() {
    let mut edge = edge(json!({"name": "r", "shadow": ["cap"]}));
    let body = json!({"model": "large", "max_tokens": 3_000,
                      "messages": [{"role": "user", "content": "Say hello"}]});
    let mut sent = edge.post(CHAT, &body.to_string());
    let sent_body: Value = serde_json::from_slice(sent.replaced_body().unwrap()).unwrap();
    assert_eq!(sent_body["max_tokens"], 3_000);
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 1_500});
    let line = answered(&mut edge, &mut sent, usage);
    assert_eq!(
        line["shadow"],
        json!({"cap_tokens": 500, "cap_nanousd": 300_000})
    );
}
