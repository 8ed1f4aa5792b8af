//! Conversations stay with a dear model while its prompt cache makes it the cheaper one.

use crate::edge::{CHAT, CONFIG, Edge};
use serde_json::{Value, json};

const HARD: &str = "Prove that there are infinitely many primes of the form 4k + 3, and explain \
    each step of the proof.";
const LONG: &str = "Here is what I know so far, word for word as it was told to me. ";

/// The large model costs twice as much, and a tenth for what its provider has read before.
fn edge(routing: Value) -> Edge {
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    config["models"][0]["context_tokens"] = json!(100_000);
    config["models"][1]["context_tokens"] = json!(100_000);
    config["models"][0]["price"] = json!({"input_usd_per_mtok": 1, "output_usd_per_mtok": 2});
    config["models"][1]["price"] = json!({"input_usd_per_mtok": 2, "output_usd_per_mtok": 4,
        "cache_read_usd_per_mtok": "0.2"});
    config["cache"] = json!({"enabled": false});
    config["routing"] = routing;
    Edge::new(&config.to_string())
}

/// A conversation whose first message says so much, and whose last one is this.
fn ask(edge: &mut Edge, key: &str, sentences: usize, turns: &[&str]) -> (String, String) {
    let mut messages = vec![json!({"role": "system", "content": LONG.repeat(sentences)})];
    for (number, turn) in turns.iter().enumerate() {
        if number > 0 {
            messages.push(json!({"role": "assistant", "content": "Well."}));
        }
        messages.push(json!({"role": "user", "content": turn}));
    }
    let body = json!({"model": "auto", "max_tokens": 50, "messages": messages}).to_string();
    let bearer = format!("Bearer {key}");
    let mut sent = edge.post_with(CHAT, &[("authorization", &bearer)], &body);
    let tier = sent.header("x-farthing-tier").unwrap().to_owned();
    let head = [(":status", "200"), ("content-type", "application/json")];
    let usage = json!({"usage": {"prompt_tokens": 10, "completion_tokens": 5}});
    edge.answer(&mut sent, &head, &[usage.to_string().as_bytes()]);
    (tier, edge.last_line()["route"].as_str().unwrap().to_owned())
}

#[track_caller]
fn check(got: (String, String), tier: &str, reason: &str) {
    assert_eq!((got.0.as_str(), got.1.as_str()), (tier, reason));
}

#[test]
fn a_cheaper_model_must_save_more_than_the_prompt_cache() {
    let mut edge = edge(json!({}));
    check(ask(&mut edge, "key-a", 200, &[HARD]), "large", "complexity");
    check(
        ask(&mut edge, "key-a", 200, &[HARD, "Thanks."]),
        "large",
        "sticky",
    );
    // Another tenant's conversation is another one, and so is a first turn.
    check(
        ask(&mut edge, "key-b", 200, &[HARD, "Thanks."]),
        "small",
        "complexity",
    );
    check(
        ask(&mut edge, "key-a", 200, &["Thanks."]),
        "small",
        "complexity",
    );
    // It is remembered from its last turn on, and then the provider has forgotten it.
    edge.later(299);
    check(
        ask(&mut edge, "key-a", 200, &[HARD, "Thanks.", "Bye."]),
        "large",
        "sticky",
    );
    edge.later(301);
    check(
        ask(&mut edge, "key-a", 200, &[HARD, "Thanks.", "Bye.", "Hi."]),
        "small",
        "complexity",
    );
}

#[test]
fn a_short_conversation_has_little_to_lose() {
    let mut edge = edge(json!({}));
    check(ask(&mut edge, "key-a", 0, &[HARD]), "large", "complexity");
    check(
        ask(&mut edge, "key-a", 0, &[HARD, "Thanks."]),
        "small",
        "complexity",
    );
}

#[test]
fn a_dearer_model_is_taken_where_it_gains() {
    let mut edge = edge(json!({}));
    check(
        ask(&mut edge, "key-a", 200, &["Say hello."]),
        "small",
        "complexity",
    );
    check(
        ask(&mut edge, "key-a", 200, &["Say hello.", HARD]),
        "large",
        "complexity",
    );
}

#[test]
fn it_can_be_switched_off_and_shortened() {
    let mut edge = edge(json!({"sticky": {"enabled": false}}));
    check(ask(&mut edge, "key-a", 200, &[HARD]), "large", "complexity");
    check(
        ask(&mut edge, "key-a", 200, &[HARD, "Thanks."]),
        "small",
        "complexity",
    );
    assert!(edge.store.keys().iter().all(|key| !key.contains("sticky")));
    let mut edge = self::edge(json!({"sticky": {"ttl_s": 5}}));
    check(ask(&mut edge, "key-a", 200, &[HARD]), "large", "complexity");
    edge.later(6);
    check(
        ask(&mut edge, "key-a", 200, &[HARD, "Thanks."]),
        "small",
        "complexity",
    );
}

/// Models without a cheaper prompt cache have nothing to keep a conversation for.
#[test]
fn nothing_is_remembered_where_nothing_could_be_lost() {
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    config["cache"] = json!({"enabled": false});
    let mut edge = Edge::new(&config.to_string());
    ask(&mut edge, "key-a", 1, &[HARD]);
    assert!(edge.store.keys().iter().all(|key| !key.contains("sticky")));
}
