//! Answers from the response store: to whom, in which form, and which are kept at all.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Reply, post};
use super::server::{CHAT, Server};

/// A server with a store of its own.
fn server(name: &str) -> Server {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("http-{name}.redb"));
    let _ = std::fs::remove_file(&path);
    Server::start(&format!("response_store: {{path: {}}}\n", path.display()))
}

/// A question whose answer ends by itself.
fn question(more: Value) -> Value {
    let mut body = json!({
        "model": CHAT,
        "messages": [{"role": "user", "content": "Count: one, two, three"}],
        "max_tokens": 64,
        "temperature": 0,
        "stop": ["."],
    });
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("fields").clone());
    body
}

fn ask(server: &Server, headers: &[(&str, &str)], body: &Value) -> Reply {
    let reply = server.ask(&post("/v1/chat/completions", headers, body.to_string()));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply
}

const ALICE: (&str, &str) = ("x-farthing-tenant", "alice");

fn source(reply: &Reply) -> &str {
    reply
        .header("x-farthing-source")
        .expect("every answer has a source")
}

/// Waits until so many answers are on the disk.
#[track_caller]
fn wait_for_written(server: &Server, count: u64) {
    for _ in 0..1_000 {
        if server.metric("farthing_response_store_written_total") >= count {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{count} answers are not on the disk");
}

#[test]
fn a_repeat_is_answered_without_a_model_in_either_form() {
    let server = server("forms");
    let plain = question(json!({}));
    let streamed = question(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let first = ask(&server, &[ALICE], &plain);
    assert_eq!(source(&first), "model");
    assert_eq!(first.json()["choices"][0]["finish_reason"], "stop");
    wait_for_written(&server, 1);
    let again = ask(&server, &[ALICE], &plain);
    assert_eq!(source(&again), "response-store");
    assert_eq!(again.header("x-farthing-model"), Some(CHAT));
    assert!(again.header("age").is_some());
    assert_eq!(again.json(), first.json());
    let replayed = ask(&server, &[ALICE], &streamed);
    assert_eq!(source(&replayed), "response-store");
    check_stream(&replayed, &first.json());
    // A streamed answer is kept as well, and given whole.
    let other = json!({"messages": [{"role": "user", "content": "Name a colour."}]});
    let mut other_streamed = streamed.clone();
    other_streamed["messages"] = other["messages"].clone();
    assert_eq!(source(&ask(&server, &[ALICE], &other_streamed)), "model");
    wait_for_written(&server, 2);
    let whole = ask(&server, &[ALICE], &question(other));
    assert_eq!(source(&whole), "response-store");
    check_stream(&ask(&server, &[ALICE], &other_streamed), &whole.json());
    assert_eq!(server.metric("farthing_response_store_hits_total"), 4);
    server.end();
}

#[track_caller]
fn check_stream(reply: &Reply, whole: &Value) {
    assert_eq!(
        reply.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    let text = reply.text();
    let events = text
        .strip_suffix("data: [DONE]\n\n")
        .expect("it is complete");
    let mut content = String::new();
    let mut last = Value::Null;
    for event in events.split_terminator("\n\n") {
        let data = event
            .strip_prefix("data: ")
            .expect("an event is one data line");
        last = serde_json::from_str(data).expect("data is JSON");
        content.push_str(
            last["choices"][0]["delta"]["content"]
                .as_str()
                .unwrap_or_default(),
        );
    }
    assert_eq!(whole["choices"][0]["message"]["content"], content.as_str());
    assert_eq!(
        last["usage"]["total_tokens"],
        whole["usage"]["total_tokens"]
    );
}

#[test]
fn nobody_gets_what_is_not_theirs_to_get() {
    let server = server("tenants");
    let body = question(json!({}));
    ask(&server, &[ALICE], &body);
    wait_for_written(&server, 1);
    let refused: [&[(&str, &str)]; 6] = [
        &[("x-farthing-tenant", "bob")],
        &[],
        &[("x-farthing-tenant", "")],
        &[ALICE, ("x-farthing-tenant", "bob")],
        &[ALICE, ("cache-control", "no-cache")],
        &[ALICE, ("cache-control", "max-age=0")],
    ];
    for headers in refused {
        assert_eq!(
            source(&ask(&server, headers, &body)),
            "model",
            "{headers:?}"
        );
    }
    let mut changed = vec![
        question(json!({"seed": 1})),
        question(json!({"stop": ["!"]})),
        question(json!({"max_tokens": 65})),
        question(json!({"temperature": 0.1})),
    ];
    changed[0]["user"] = json!("carol");
    for body in changed {
        assert_eq!(source(&ask(&server, &[ALICE], &body)), "model", "{body}");
    }
    assert_eq!(source(&ask(&server, &[ALICE], &body)), "response-store");
    server.end();
}

#[test]
fn only_complete_answers_are_kept() {
    let server = server("complete");
    let not_kept: [(&[(&str, &str)], Value); 4] = [
        (&[ALICE], question(json!({"max_tokens": 1}))),
        (&[ALICE], question(json!({"temperature": 1, "seed": 1}))),
        (&[ALICE, ("cache-control", "no-store")], question(json!({}))),
        (&[], question(json!({}))),
    ];
    for (headers, body) in &not_kept {
        ask(&server, headers, body);
    }
    // What is kept is written in order: when the last is there, no other can follow.
    ask(&server, &[ALICE], &question(json!({"user": "last"})));
    wait_for_written(&server, 1);
    for (headers, body) in &not_kept {
        assert_eq!(
            source(&ask(&server, headers, body)),
            "model",
            "{headers:?} {body}"
        );
    }
    assert_eq!(server.metric("farthing_response_store_written_total"), 1);
    server.end();
}
