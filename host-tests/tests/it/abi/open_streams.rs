//! Streams that are open at once, each with a body of the largest size: linear memory never
//! shrinks, so what a worker holds of them must fit into a bounded part of it.

use super::fixtures;
use super::proxy::START_UNIX_NS;
use crate::wasm_host::{Action, End, HeaderMap, SharedData, Vm};
use farthing_core::limits::{JSON_VALUES_MAX, MAX_TOKENS_MAX, REQUEST_BODY_BYTES_MAX};
use serde_json::json;

const STREAMS: usize = 256;
/// Of bodies that take long to read: many more than may wait.
const FEWER_STREAMS: usize = 40;
const MEMORY_BYTES_MAX: usize = 128 << 20;

#[test]
fn texts_of_their_own() {
    check(STREAMS, "chat/completions", |number| {
        let body = chat(&format!("{number:04}"));
        let words = "word ".repeat((REQUEST_BODY_BYTES_MAX - body.len()) / 5);
        chat(&format!("{number:04}{words}"))
    });
}

/// All but the first may wait for its answer, holding what they were read into.
#[test]
fn one_text() {
    check(STREAMS, "chat/completions", |_| {
        let room = REQUEST_BODY_BYTES_MAX - chat("").len();
        chat(&"word ".repeat(room / 5))
    });
}

/// A value of two bytes takes a dozen times as much when it is read.
#[test]
fn one_list_of_tokens() {
    let room = JSON_VALUES_MAX - 16;
    let tokens = vec!["1"; room].join(",");
    let body = format!(r#"{{"model":"small","temperature":0,"prompt":[{tokens}]}}"#);
    check(STREAMS, "completions", |_| body.clone());
}

#[test]
fn one_object_of_many_fields() {
    let fields: Vec<String> = (0..100_000)
        .map(|field| format!(r#""{field:x}":0"#))
        .collect();
    let fields = fields.join(",");
    let messages = r#"[{"role":"user","content":"a"}]"#;
    let body =
        format!(r#"{{"model":"small","temperature":0,"messages":{messages},"x":{{{fields}}}}}"#);
    check(FEWER_STREAMS, "chat/completions", |_| body.clone());
}

fn chat(prompt: &str) -> String {
    let messages = json!([{"role": "user", "content": prompt}]);
    json!({"model": "small", "messages": messages, "temperature": 0}).to_string()
}

/// Opens all, sends half of each body, then the rest, then answers those that went upstream.
#[track_caller]
fn check(streams: usize, endpoint: &str, body: impl Fn(usize) -> String) {
    let mut config = fixtures()["config"].clone();
    for model in [0, 1] {
        config["models"][model]["context_tokens"] = MAX_TOKENS_MAX.into();
    }
    let mut vm = Vm::start(&SharedData::default(), START_UNIX_NS);
    assert!(vm.configure(config.to_string().as_bytes()));
    let open: Vec<u32> = (0..streams)
        .map(|number| {
            let id = vm.create_stream();
            vm.stream(id).request_headers = Some(headers(endpoint));
            assert_eq!(vm.on_request_headers(id, End::No), Action::Pause);
            let body = body(number).into_bytes();
            assert!(body.len() <= REQUEST_BODY_BYTES_MAX, "{}", body.len());
            vm.stream(id).request_body = Some(body[..body.len() / 2].to_vec());
            assert_eq!(vm.on_request_body(id, End::No), Action::Pause);
            id
        })
        .collect();
    let held = vm.memory_bytes();
    let mut upstream = Vec::new();
    for (number, id) in open.iter().copied().enumerate() {
        vm.stream(id).request_body = Some(body(number).into_bytes());
        if vm.on_request_body(id, End::Yes) == Action::Continue {
            upstream.push(id);
        }
        let events = vm.take_events();
        assert!(!vm.stream(id).replied, "{:?}", events.last());
    }
    let judged = vm.memory_bytes();
    for id in &upstream {
        let head = [(":status", "200"), ("content-type", "text/event-stream")];
        vm.stream(*id).response_headers = Some(pairs(&head));
        vm.on_response_headers(*id, End::No);
        vm.stream(*id).response_body =
            Some(fixtures()["stream"].as_str().map_or(vec![], Vec::from));
        vm.on_response_body(*id, End::No);
    }
    for id in open {
        vm.on_done(id);
        vm.delete(id);
        vm.take_events();
    }
    let waited = streams - upstream.len();
    let bytes = [held, judged, vm.memory_bytes()];
    println!("{waited} of {streams} waited, {bytes:?} bytes of linear memory");
    assert!(
        bytes.iter().all(|bytes| *bytes <= MEMORY_BYTES_MAX),
        "{bytes:?}"
    );
}

fn headers(endpoint: &str) -> HeaderMap {
    let path = format!("/v1/{endpoint}");
    pairs(&[
        (":method", "POST"),
        (":path", path.as_str()),
        ("content-type", "application/json"),
        ("authorization", "Bearer one"),
    ])
}

fn pairs(pairs: &[(&str, &str)]) -> HeaderMap {
    let owned = |(name, value): &(&str, &str)| (name.to_string(), value.as_bytes().to_vec());
    pairs.iter().map(owned).collect()
}
