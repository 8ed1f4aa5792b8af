//! The golden tables of `farthing-core`, run in wasm: the same input must lead to the same decision
//! as natively, where the crate's own tests run the same tables. Their form is described there, in
//! `plugin/core/tests/decisions/golden.rs`.

use super::proxy::{Passed, Proxy};
use crate::wasm_host::{End, Event, HeaderMap};
use farthing_host_tests::paths;
use serde_json::{Map, Value};

/// The name that each request's stream has while it lasts.
const STREAM: &str = "stream";
const MS_PER_S: u64 = 1_000;

/// A table of the decisions.
pub fn table(name: &str) -> Value {
    let folder = paths::workspace_root().join("plugin/core/tests/golden/decisions");
    let text = std::fs::read_to_string(folder.join(name)).expect("a golden table");
    serde_json::from_str(&text).expect("a golden table is JSON")
}

#[test]
fn decisions_are_the_same_in_wasm() {
    let table = table("decisions.json");
    let cases = table["cases"].as_array().expect("cases");
    assert!(cases.len() >= 25);
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let config = case["config"].as_str().unwrap_or("two");
        let (mut proxy, accepted) = Proxy::start(table["configs"][config].to_string().as_bytes());
        assert!(accepted, "{name}: {:?}", proxy.events);
        super::counting::fetch_vocabularies(&mut proxy);
        for (index, request) in case["requests"]
            .as_array()
            .expect("requests")
            .iter()
            .enumerate()
        {
            proxy.pass_time(request["after_s"].as_u64().unwrap_or(0) * MS_PER_S);
            check(&format!("{name} [{index}]"), &mut proxy, request);
        }
    }
}

#[test]
fn wrong_configurations_are_refused_the_same_in_wasm() {
    let cases: Vec<(Value, String)> =
        serde_json::from_value(table("config_wrong.json")).expect("pairs of patch and message");
    for (patch, expected) in &cases {
        let mut config = table("config.json");
        merge(&mut config, patch);
        let (proxy, accepted) = Proxy::start(config.to_string().as_bytes());
        assert!(!accepted, "{patch} was accepted");
        let said = proxy.events.iter().any(|event| match event {
            // A double in the text is an integer in the message, as in the native test.
            Event::Log { level: 5, message } => message
                .replace("floating point", "integer")
                .contains(expected.as_str()),
            _ => false,
        });
        assert!(
            said,
            "{patch}\n  expected {expected}\n  found {:?}",
            proxy.events
        );
    }
}

fn check(name: &str, proxy: &mut Proxy, request: &Value) {
    let expect = &request["expect"];
    proxy.open(STREAM, headers(&request["headers"]), End::No);
    proxy.request_body(STREAM, &bytes(&request["body"]), End::Yes);
    if let Some(expected) = expect.get("reply") {
        let stream = &proxy.streams[STREAM];
        assert!(
            stream.replied && stream.to_upstream.is_none(),
            "{name}: a reply is expected"
        );
        let reply = stream.to_client.as_ref().expect("a reply");
        assert_eq!(
            header(&reply.headers, ":status"),
            Some(text(&expected["status"])),
            "{name}"
        );
        check_headers(name, &reply.headers, &expected["headers"]);
        check_body(name, &reply.body, &expected["body"]);
    }
    if let Some(expected) = expect.get("forward") {
        let stream = &proxy.streams[STREAM];
        let passed = stream.to_upstream.as_ref();
        let passed = passed.unwrap_or_else(|| panic!("{name}: it must go upstream"));
        check_forward(name, &stream.request_received, passed, expected);
    }
    if let Some(answer) = request.get("answer") {
        let mut head = headers(&answer["headers"]);
        head.push((":status".to_string(), text(&answer["status"]).into_bytes()));
        proxy.response_headers(STREAM, head, End::No);
        proxy.response_body(STREAM, &bytes(&answer["body"]), End::Yes);
        let client = proxy.streams[STREAM].to_client.as_ref().expect("an answer");
        check_headers(name, &client.headers, &expect["client"]);
    }
    proxy.close(STREAM);
}

fn check_forward(name: &str, received: &Passed, passed: &Passed, expected: &Value) {
    for (header_name, value) in object(&expected["headers"]) {
        let found = header(&passed.headers, header_name);
        match value.as_str() {
            Some(value) => assert_eq!(found.as_deref(), Some(value), "{name}: {header_name}"),
            None => assert_eq!(found, header(&received.headers, header_name), "{name}"),
        }
    }
    for removed in expected["removed"].as_array().into_iter().flatten() {
        let removed = removed.as_str().expect("a header's name");
        // A header of ours may be set again; what the client said in it must be gone.
        let found = header(&passed.headers, removed);
        let gone = found.is_none() || found != header(&received.headers, removed);
        assert!(gone, "{name}: {removed} is removed");
    }
    match expected.get("body") {
        None => {}
        Some(Value::Null) => assert_eq!(passed.body, received.body, "{name}"),
        Some(fields) => {
            check_body(name, &passed.body, fields);
            let length = header(&passed.headers, "content-length");
            assert_eq!(length, Some(passed.body.len().to_string()), "{name}");
        }
    }
}

fn check_headers(name: &str, found: &HeaderMap, expected: &Value) {
    for (header_name, value) in object(expected) {
        assert_eq!(
            header(found, header_name).as_deref(),
            value.as_str(),
            "{name}: {header_name}"
        );
    }
}

fn check_body(name: &str, body: &[u8], expected: &Value) {
    match expected {
        Value::Null => {}
        Value::String(part) => {
            let body = String::from_utf8_lossy(body);
            assert!(body.contains(part.as_str()), "{name}: {part} in {body}");
        }
        fields => {
            let body: Value = serde_json::from_slice(body).expect("a JSON body");
            for (pointer, value) in object(fields) {
                let found = body.pointer(pointer).unwrap_or(&Value::Null);
                assert_eq!(found, value, "{name}: {pointer}");
            }
        }
    }
}

/// `{"name": "value"}`; the method is POST unless it is given.
fn headers(value: &Value) -> HeaderMap {
    let pairs = object(value).map(|(name, value)| (name.clone(), text(value).into_bytes()));
    let mut headers: HeaderMap = pairs.collect();
    if value.get(":path").is_some() && value.get(":method").is_none() {
        headers.push((":method".to_string(), b"POST".to_vec()));
    }
    headers
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let found = headers.iter().find(|(known, _)| known == name)?;
    Some(String::from_utf8_lossy(&found.1).into_owned())
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_string)
}

fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => Vec::new(),
        other => text(other).into_bytes(),
    }
}

/// JSON merge patch (RFC 7396).
pub fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    for (key, value) in patch {
        match (value, into.as_object_mut()) {
            (Value::Null, Some(fields)) => drop(fields.remove(key)),
            (value, _) => merge(&mut into[key], value),
        }
    }
}
