//! The golden table: requests and what becomes of them. The same table is run against the compiled
//! filter in a wasm host, so it holds only what any host can drive and see.
//!
//! A case is a list of requests to one worker, in order, which has fetched the vocabularies that
//! its configuration names. Each has `headers`, a `body` (JSON, or text), an `answer` of the
//! upstream if it gets there (`status`, `headers`, `body`), and `expect`:
//! * `reply`: `status`, `headers` and `body` of a local reply, or
//! * `forward`: `headers` set on the way upstream (null: not set), `removed` ones, and `body`
//!   fields that were changed (null: the body travels as it came);
//! * `client`: headers of the answer as the client sees them.
//!
//! Whatever is not mentioned is not looked at.

use crate::edge::{CONFIG, Edge, Pairs, Sent, reply_header};
use farthing_core::exchange::{Effect, Flow};
use serde_json::Value;

#[test]
fn every_row_of_the_table() {
    let table: Value =
        serde_json::from_str(include_str!("../golden/decisions/decisions.json")).unwrap();
    let cases = table["cases"].as_array().unwrap();
    assert!(cases.len() >= 25);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let config = match case.get("config") {
            None => CONFIG.to_owned(),
            Some(config) => table["configs"][config.as_str().unwrap()].to_string(),
        };
        let mut edge = Edge::new(&config);
        edge.fetch_vocabularies();
        for (index, request) in case["requests"].as_array().unwrap().iter().enumerate() {
            edge.later(request["after_s"].as_u64().unwrap_or(0));
            check(&format!("{name} [{index}]"), &mut edge, request);
        }
    }
}

fn check(name: &str, edge: &mut Edge, request: &Value) {
    let mut sent = edge.send(&headers(&request["headers"]), &bytes(&request["body"]));
    let expect = &request["expect"];
    if let Some(expected) = expect.get("reply") {
        let reply = sent
            .reply()
            .unwrap_or_else(|| panic!("{name}: a reply is expected"));
        assert_eq!(sent.flow, Flow::Pause, "{name}");
        assert_eq!(u64::from(reply.status), expected["status"], "{name}");
        for (header, value) in object(&expected["headers"]) {
            assert_eq!(
                reply_header(reply, header),
                value.as_str(),
                "{name}: {header}"
            );
        }
        check_body(name, &reply.body, &expected["body"]);
    }
    if let Some(expected) = expect.get("forward") {
        assert!(sent.reply().is_none(), "{name}: {:?}", sent.reply());
        assert_eq!(sent.flow, Flow::Continue, "{name}");
        check_forward(name, &sent, expected);
    }
    if let Some(answer) = request.get("answer") {
        let mut head = headers(&answer["headers"]);
        head.push((
            ":status".to_owned(),
            answer["status"].to_string().into_bytes(),
        ));
        let head: Vec<(&str, &str)> = head
            .iter()
            .map(|(n, v)| (n.as_str(), std::str::from_utf8(v).unwrap()))
            .collect();
        let body = bytes(&answer["body"]);
        let seen = edge.answer(&mut sent, &head, &[&body]);
        for (header, value) in object(&expect["client"]) {
            assert_eq!(seen.header(header), value.as_str(), "{name}: {header}");
        }
    } else {
        edge.done(&mut sent);
    }
}

fn check_forward(name: &str, sent: &Sent, expected: &Value) {
    for (header, value) in object(&expected["headers"]) {
        assert_eq!(sent.header(header), value.as_str(), "{name}: {header}");
    }
    for removed in expected["removed"].as_array().into_iter().flatten() {
        let effect = Effect::RemoveRequestHeader {
            name: removed.as_str().unwrap().to_owned(),
        };
        assert!(
            sent.effects.contains(&effect),
            "{name}: {removed} is removed"
        );
    }
    match expected.get("body") {
        None => {}
        Some(Value::Null) => assert_eq!(sent.replaced_body(), None, "{name}"),
        Some(fields) => {
            let body = sent
                .replaced_body()
                .unwrap_or_else(|| panic!("{name}: a new body"));
            check_body(name, body, fields);
        }
    }
}

/// A text must be in the body; of an object every field must be there with that value, where null
/// stands for a field that must be absent or null.
fn check_body(name: &str, body: &[u8], expected: &Value) {
    match expected {
        Value::Null => {}
        Value::String(part) => {
            let body = String::from_utf8_lossy(body);
            assert!(body.contains(part.as_str()), "{name}: {part} in {body}");
        }
        fields => {
            let body: Value = serde_json::from_slice(body).unwrap();
            for (pointer, value) in object(fields) {
                let found = body.pointer(pointer).unwrap_or(&Value::Null);
                assert_eq!(found, value, "{name}: {pointer}");
            }
        }
    }
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// `{"name": "value"}`; the method is POST unless it is given.
fn headers(value: &Value) -> Pairs {
    let mut pairs: Pairs = object(value)
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().as_bytes().to_vec()))
        .collect();
    if value.get(":path").is_some() && value.get(":method").is_none() {
        pairs.push((":method".to_owned(), b"POST".to_vec()));
    }
    pairs
}

fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) => text.clone().into_bytes(),
        json => json.to_string().into_bytes(),
    }
}
