//! Bad input gets a clear error in OpenAI's shape, and the server goes on.

use serde_json::Value;

use super::client::{get, post};
use super::server::{CHAT, EMBEDDING, Server};

const CHAT_PATH: &str = "/v1/chat/completions";
const TEXT_PATH: &str = "/v1/completions";
const EMBED_PATH: &str = "/v1/embeddings";

#[track_caller]
fn check(request: &[u8], status: u16, code: &str, param: Option<&str>) {
    let reply = Server::shared().ask(request);
    let json = reply.json();
    let error = &json["error"];
    let found = (
        reply.status,
        error["code"].as_str(),
        error["param"].as_str(),
    );
    assert_eq!(found, (status, Some(code), param), "{json}");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{json}"
    );
    let kind = error["type"].as_str().unwrap_or_default();
    assert_eq!(kind, "invalid_request_error", "{json}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

/// A chat body with `fields` after the model, and a message unless they bring their own.
fn chat(fields: &str) -> String {
    let messages = match fields.contains("\"messages\"") {
        true => "",
        false => r#""messages":[{"role":"user","content":"hi"}],"#,
    };
    let fields = match fields {
        "" => r#""stream":false"#,
        fields => fields,
    };
    format!(r#"{{"model":"{CHAT}",{messages}{fields}}}"#)
}

#[track_caller]
fn check_chat(fields: &str, code: &str, param: &str) {
    check(&post(CHAT_PATH, &[], chat(fields)), 400, code, Some(param));
}

#[test]
fn bodies_that_are_not_sound_json() {
    check(
        &post(CHAT_PATH, &[], r#"{"model":"#),
        400,
        "invalid_json",
        None,
    );
    check(&post(CHAT_PATH, &[], ""), 400, "invalid_json", None);
    check(
        &post(CHAT_PATH, &[], b"\xef\xbb\xbf{}"),
        400,
        "invalid_json",
        None,
    );
    check(
        &post(CHAT_PATH, &[], b"{\"model\":\"\xff\xfe\"}"),
        400,
        "invalid_json",
        None,
    );
    check(
        &post(CHAT_PATH, &[], chat(r#""temperature":NaN"#)),
        400,
        "invalid_json",
        None,
    );
    check(
        &post(CHAT_PATH, &[], format!("{}{{}}", chat(""))),
        400,
        "invalid_json",
        None,
    );
    let twice = format!(r#"{{"model":"{CHAT}","model":"other"}}"#);
    check(
        &post(CHAT_PATH, &[], twice),
        400,
        "duplicate_key",
        Some("model"),
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    check(&post(CHAT_PATH, &[], deep), 400, "json_too_deep", None);
    check(&post(CHAT_PATH, &[], "[]"), 400, "invalid_type", None);
}

#[test]
fn chat_fields_out_of_range() {
    check_chat(r#""max_tokens":-1"#, "invalid_value", "max_tokens");
    check_chat(r#""max_tokens":0"#, "invalid_value", "max_tokens");
    check_chat(r#""max_tokens":99999999999"#, "invalid_value", "max_tokens");
    check_chat(r#""max_tokens":"9""#, "invalid_type", "max_tokens");
    check_chat(
        r#""max_tokens":5,"max_completion_tokens":6"#,
        "invalid_value",
        "max_completion_tokens",
    );
    check_chat(r#""messages":[]"#, "invalid_value", "messages");
    check_chat(r#""messages":"hi""#, "invalid_type", "messages");
    check_chat(
        r#""messages":[{"role":"king","content":"hi"}]"#,
        "invalid_value",
        "messages[0].role",
    );
    check_chat(
        r#""messages":[{"role":"user"}]"#,
        "missing_field",
        "messages[0].content",
    );
    check_chat(
        r#""messages":[{"role":"user","content":7}]"#,
        "invalid_type",
        "messages[0].content",
    );
    check_chat(r#""n":9"#, "invalid_value", "n");
    check_chat(r#""temperature":2.5"#, "invalid_value", "temperature");
    check_chat(r#""top_p":0"#, "invalid_value", "top_p");
    check_chat(r#""stream":"yes""#, "invalid_type", "stream");
    check_chat(r#""stop":["a","b","c","d","e"]"#, "invalid_value", "stop");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let tools = r#""tools":[{"type":"function","function":{"name":"f"}}]"#;
    check_chat(tools, "invalid_value", "tools");
    check_chat(r#""logit_bias":{"5":1}"#, "invalid_value", "logit_bias");
    check_chat(
        r#""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,"}}]}]"#,
        "invalid_value",
        "messages[0].content[0].type",
    );
    let echo = format!(r#"{{"model":"{CHAT}","prompt":"a","echo":true,"logprobs":1}}"#);
    check(
        &post(TEXT_PATH, &[], echo),
        400,
        "invalid_value",
        Some("logprobs"),
    );
}

#[test]
fn forms_that_cannot_be_followed() {
    let schema = |schema: &str| {
        let named = format!(r#"{{"name":"n","strict":true,"schema":{schema}}}"#);
        format!(r#""response_format":{{"type":"json_schema","json_schema":{named}}}"#)
    };
    let param = "response_format.json_schema.schema";
    check_chat(&schema(r#"{"type":"widget"}"#), "invalid_value", param);
    check_chat(&schema(r##"{"$ref":"#/nowhere"}"##), "invalid_value", param);
    check_chat(&schema("[]"), "invalid_type", param);
    let structured = |fields: &str| format!(r#""structured_outputs":{{{fields}}}"#);
    check_chat(
        &structured(r#""regex":"(a""#),
        "invalid_value",
        "structured_outputs.regex",
    );
    check_chat(
        &structured(r#""grammar":"start: nothing""#),
        "invalid_value",
        "structured_outputs.grammar",
    );
    check_chat(
        &structured(r#""structural_tag":"a""#),
        "invalid_value",
        "structured_outputs.structural_tag",
    );
}

#[test]
fn models_that_do_not_exist_or_do_something_else() {
    let named = |model: &str| {
        format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#)
    };
    check(
        &post(CHAT_PATH, &[], named("gpt-9")),
        404,
        "model_not_found",
        Some("model"),
    );
    check(
        &post(CHAT_PATH, &[], named(EMBEDDING)),
        400,
        "invalid_value",
        Some("model"),
    );
    check(
        &post(CHAT_PATH, &[], r#"{"messages":[]}"#),
        400,
        "missing_field",
        Some("model"),
    );
    check(
        &get("/v1/models/gpt-9"),
        404,
        "model_not_found",
        Some("model"),
    );
    let embed = |model: &str| format!(r#"{{"model":"{model}","input":"hi"}}"#);
    check(
        &post(EMBED_PATH, &[], embed(CHAT)),
        400,
        "invalid_value",
        Some("model"),
    );
    check(
        &post(EMBED_PATH, &[], embed("auto")),
        400,
        "invalid_value",
        Some("model"),
    );
    check(
        &post(EMBED_PATH, &[], embed("gpt-9")),
        404,
        "model_not_found",
        Some("model"),
    );
}

#[test]
fn prompts_longer_than_the_context() {
    let long = "word ".repeat(9_000);
    let body = chat(&format!(
        r#""messages":[{{"role":"user","content":"{long}"}}]"#
    ));
    let reply = Server::shared().ask(&post(CHAT_PATH, &[], &body));
    let message = reply.json()["error"]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let numbers = message
        .split(|c: char| !c.is_ascii_digit())
        .filter(|digits| digits.len() >= 4);
    assert_eq!(
        numbers.count(),
        2,
        "{message:?} names the prompt's tokens and the context's"
    );
    check(
        &post(CHAT_PATH, &[], body),
        400,
        "context_length_exceeded",
        Some("messages"),
    );
    let body = format!(r#"{{"model":"{CHAT}","prompt":"{long}"}}"#);
    check(
        &post(TEXT_PATH, &[], body),
        400,
        "context_length_exceeded",
        Some("prompt"),
    );
    let body = format!(r#"{{"model":"{CHAT}","prompt":[4294967295]}}"#);
    check(
        &post(TEXT_PATH, &[], body),
        400,
        "invalid_value",
        Some("prompt"),
    );
}

#[test]
fn media_types_and_encodings() {
    let gzip = [("content-encoding", "gzip")];
    check(
        &post(CHAT_PATH, &gzip, b"\x1f\x8b\x08"),
        415,
        "unsupported_encoding",
        None,
    );
    let text = [("content-type", "text/plain")];
    check(
        &post(CHAT_PATH, &text, chat("")),
        415,
        "unsupported_media_type",
        None,
    );
    check(
        &post(EMBED_PATH, &text, "{}"),
        415,
        "unsupported_media_type",
        None,
    );
}

#[test]
fn paths_and_methods() {
    check(&get("/"), 404, "not_found", None);
    check(&get("//v1/models"), 404, "not_found", None);
    check(&post("/invocations", &[], "{}"), 404, "not_found", None);
    check(&get(CHAT_PATH), 405, "method_not_allowed", None);
    check(
        &post("/v1/models", &[], "{}"),
        405,
        "method_not_allowed",
        None,
    );
    let allowed = |request: &[u8]| {
        Server::shared()
            .ask(request)
            .header("allow")
            .map(str::to_owned)
    };
    assert_eq!(allowed(&get(CHAT_PATH)).as_deref(), Some("POST"));
    assert_eq!(
        allowed(&post("/metrics", &[], "")).as_deref(),
        Some("GET, HEAD")
    );
}

#[test]
fn sizes() {
    let over = vec![b' '; farthing_core::limits::REQUEST_BODY_BYTES_MAX + 1];
    check(&post(CHAT_PATH, &[], &over), 413, "body_too_large", None);
    let mut chunked = format!(
        "POST {CHAT_PATH} HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
        over.len()
    )
    .into_bytes();
    chunked.extend_from_slice(&over);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    check(&chunked, 413, "body_too_large", None);
    // Refused by what it declares: nobody waits for a terabyte.
    let declared =
        format!("POST {CHAT_PATH} HTTP/1.1\r\nhost: t\r\ncontent-length: 1099511627776\r\n\r\n");
    check(declared.as_bytes(), 413, "body_too_large", None);
    let many: String = (0..100).map(|index| format!("x-{index}: 1\r\n")).collect();
    let request = format!("GET /healthz HTTP/1.1\r\n{many}\r\n");
    check(request.as_bytes(), 431, "headers_too_large", None);
    let long = "x".repeat(70 << 10);
    let request = format!("GET /healthz HTTP/1.1\r\nx-long: {long}\r\n\r\n");
    check(request.as_bytes(), 431, "headers_too_large", None);
    let huge = "x".repeat(300 << 10);
    let request = format!("GET /healthz HTTP/1.1\r\nx-long: {huge}\r\n\r\n");
    assert_eq!(Server::shared().ask(request.as_bytes()).status, 431);
}

#[test]
fn embeddings_fields() {
    let embed = |fields: &str| {
        post(
            EMBED_PATH,
            &[],
            format!(r#"{{"model":"{EMBEDDING}",{fields}}}"#),
        )
    };
    check(&embed(r#""input":[]"#), 400, "invalid_value", Some("input"));
    check(&embed(r#""input":"""#), 400, "invalid_value", Some("input"));
    check(
        &embed(r#""input":[1,2]"#),
        400,
        "invalid_type",
        Some("input[0]"),
    );
    let format = r#""input":"a","encoding_format":"hex""#;
    check(
        &embed(format),
        400,
        "invalid_value",
        Some("encoding_format"),
    );
    let cut = r#""input":"a","dimensions":100"#;
    check(&embed(cut), 400, "invalid_value", Some("dimensions"));
}

#[test]
fn errors_carry_no_text_of_the_prompt() {
    let canary = "canary-93f1";
    let body = chat(&format!(
        r#""messages":[{{"role":"user","content":"{canary}"}}],"n":0"#
    ));
    let reply = Server::shared().ask(&post(CHAT_PATH, &[], body));
    assert_eq!(reply.status, 400);
    assert!(!reply.text().contains(canary), "{}", reply.text());
    let error: Value = reply.json();
    assert_eq!(error["error"]["param"], "n");
}
