//! Bad input gets one shape of error, whoever finds it: the filter, or Envoy before it.

use super::bodies::chat;
use super::edge::{Edge, SMALL};
use farthing_host_tests::client::{self, Connection, Response};
use serde_json::Value;

/// The error must be exactly `{"error":{"message","type","param","code"}}`.
#[track_caller]
fn check_shape(response: &Response, status: u16, code: &str) {
    assert_eq!(response.status, status, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/json"));
    let json = response.json();
    let error = json["error"].as_object().expect("an error object");
    let mut fields: Vec<&str> = error.keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["code", "message", "param", "type"]);
    assert_eq!(json.as_object().map(|object| object.len()), Some(1));
    assert_eq!(error["code"], code);
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| message.len() > 10),
        "{error:?}"
    );
    assert!(error["param"].is_null() || error["param"].is_string());
}

#[track_caller]
fn check_body(body: &[u8], status: u16, code: &str) {
    check_request("POST", "/v1/chat/completions", &[], body, status, code);
}

#[track_caller]
fn check_request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    status: u16,
    code: &str,
) {
    let mut all = vec![("authorization", "Bearer mistaken")];
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        all.push(("content-type", "application/json"));
    }
    all.extend_from_slice(headers);
    let response = client::request(Edge::shared().address(), method, path, &all, body);
    check_shape(&response.expect("an answer"), status, code);
}

#[track_caller]
fn check_raw(request: &[u8], status: u16, code: &str) {
    let mut connection = Connection::open(Edge::shared().address()).expect("Envoy listens");
    connection.send_raw(request).expect("Envoy reads");
    check_shape(&connection.receive().expect("an answer"), status, code);
}

#[test]
fn bodies() {
    check_body(b"", 400, "invalid_json");
    check_body(b"{\"model\":", 400, "invalid_json");
    check_body(b"\xef\xbb\xbf{}", 400, "invalid_json");
    check_body(b"{\"model\": \"\xff\xfe\"}", 400, "invalid_json");
    check_body(
        b"{\"model\": \"a\", \"model\": \"b\"}",
        400,
        "duplicate_key",
    );
    let deep = format!(
        "{{\"model\":\"a\",\"x\":{}1{}}}",
        "[".repeat(200),
        "]".repeat(200)
    );
    check_body(deep.as_bytes(), 400, "json_too_deep");
    check_body(b"[]", 400, "invalid_type");
    check_body(b"{\"messages\": []}", 400, "missing_field");
    check_body(
        &with(|body| body["messages"] = Value::Array(vec![])),
        400,
        "invalid_value",
    );
    check_body(
        &with(|body| body["max_tokens"] = (-1).into()),
        400,
        "invalid_value",
    );
    check_body(
        &with(|body| body["max_tokens"] = (1_u64 << 40).into()),
        400,
        "invalid_value",
    );
    check_body(
        &with(|body| body["temperature"] = "hot".into()),
        400,
        "invalid_type",
    );
    check_body(
        &with(|body| body["model"] = "gpt-9".into()),
        404,
        "model_not_found",
    );
    let long = "word ".repeat(40_000);
    let long = with(|body| body["messages"][0]["content"] = long.as_str().into());
    check_body(&long, 400, "context_length_exceeded");
    check_body(&vec![b' '; (1 << 20) + 1], 413, "body_too_large");
}

fn with(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut body = chat(SMALL, "wrong");
    change(&mut body);
    body.to_string().into_bytes()
}

#[test]
fn heads() {
    let chat = "/v1/chat/completions";
    check_request("GET", chat, &[], b"", 405, "method_not_allowed");
    check_request(
        "POST",
        chat,
        &[("content-encoding", "gzip")],
        b"x",
        415,
        "unsupported_encoding",
    );
    let text = [("content-type", "text/plain")];
    check_request("POST", chat, &text, b"x", 415, "unsupported_media_type");
    let long = "a".repeat(40_000);
    check_request(
        "POST",
        chat,
        &[("x-long", &long)],
        b"{}",
        431,
        "headers_too_large",
    );
    check_request("GET", "/a%2fb", &[], b"", 400, "bad_request");
    check_request("GET", "/", &[("under_score", "1")], b"", 400, "bad_request");
}

#[test]
fn chunked_bodies_over_the_limit() {
    let chunk = "x".repeat(700_000);
    let mut raw = String::from(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n",
    );
    for _ in 0..2 {
        raw.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    check_raw(raw.as_bytes(), 413, "body_too_large");
}

#[test]
fn requests_that_two_parsers_could_read_differently() {
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\n";
    let both = format!("{head}content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
    check_raw(both.as_bytes(), 400, "bad_request");
    let two_lengths = format!("{head}content-length: 3\r\ncontent-length: 4\r\n\r\nabcd");
    check_raw(two_lengths.as_bytes(), 400, "bad_request");
    let spaced = format!("{head}content-length : 3\r\n\r\nabc");
    check_raw(spaced.as_bytes(), 400, "bad_request");
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    check_raw(
        format!("{chunked}2;a\nx\r\n{{}}\r\n0\r\n\r\n").as_bytes(),
        400,
        "bad_request",
    );
    let unknown = format!("{head}transfer-encoding: xchunked\r\n\r\n{{}}");
    check_raw(unknown.as_bytes(), 501, "bad_request");
    check_raw(b"GARBAGE\r\n\r\n", 400, "bad_request");
}
