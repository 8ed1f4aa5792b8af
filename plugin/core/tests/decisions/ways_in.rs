//! Every endpoint beside chat and completions: refused in its API's own shape, budgeted by its own
//! usage, capped in its own field, cached where that is safe and replayed in its own events.

use crate::edge::{CONFIG, Edge, Sent};
use farthing_core::limits::IMAGE_TOKENS_MAX;
use serde_json::{Value, json};

const EMBEDDINGS: &str = "/v1/embeddings";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const JSON: [(&str, &str); 2] = [(":status", "200"), ("content-type", "application/json")];
const SSE: [(&str, &str); 2] = [(":status", "200"), ("content-type", "text/event-stream")];

fn edge() -> Edge {
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    config["budget"] = json!({"window_s": 3600, "usd": 1});
    Edge::new(&config.to_string())
}

/// The smallest request of an endpoint, with fields added.
fn ask(path: &str, with: Value) -> String {
    let mut body = match path {
        EMBEDDINGS => json!({"model": "small", "input": ["one", "two"]}),
        RESPONSES => json!({"model": "small", "input": "Why?", "store": false, "temperature": 0}),
        _ => json!({"model": "small", "max_tokens": 50, "temperature": 0,
            "messages": [{"role": "user", "content": "Why?"}]}),
    };
    let with = with.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(with);
    body.to_string()
}

/// The shortest whole answer of an endpoint: 40 tokens of prompt, and 3 generated.
fn answer(path: &str) -> Value {
    match path {
        EMBEDDINGS => json!({"object": "list", "model": "m",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5]},
                     {"object": "embedding", "index": 1, "embedding": "AAAAPw=="}],
            "usage": {"prompt_tokens": 40, "total_tokens": 40}}),
        RESPONSES => json!({"id": "r", "object": "response", "status": "completed", "model": "m",
            "error": null, "output": [{"id": "o", "type": "message", "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Because.", "annotations": []}]}],
            "usage": {"input_tokens": 40, "output_tokens": 3,
                "input_tokens_details": {"cached_tokens": 8}}}),
        _ => json!({"id": "m", "type": "message", "role": "assistant", "model": "m",
            "content": [{"type": "text", "text": "Because."}], "stop_reason": "end_turn",
            "stop_sequence": null,
            "usage": {"input_tokens": 25, "cache_creation_input_tokens": 10,
                "cache_read_input_tokens": 5, "output_tokens": 3}}),
    }
}

/// That answer as a stream, with its end or without.
fn stream(path: &str, whole: bool) -> String {
    let event = |data: Value| {
        format!(
            "event: {}\ndata: {data}\n\n",
            data["type"].as_str().unwrap()
        )
    };
    let full = answer(path);
    let events = match path {
        RESPONSES => vec![
            json!({"type": "response.created", "response": {"usage": null}}),
            json!({"type": "response.output_text.delta", "delta": "Because."}),
            json!({"type": "response.output_text.done", "text": "Because."}),
            json!({"type": "response.completed", "response": full}),
        ],
        _ => {
            let mut begun = full.clone();
            begun["content"] = json!([]);
            begun["stop_reason"] = Value::Null;
            begun["usage"]["output_tokens"] = json!(1);
            vec![
                json!({"type": "message_start", "message": begun}),
                json!({"type": "content_block_start", "index": 0,
                    "content_block": {"type": "text", "text": ""}}),
                json!({"type": "content_block_delta", "index": 0,
                    "delta": {"type": "text_delta", "text": "Because."}}),
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "usage": {"output_tokens": 3},
                    "delta": {"stop_reason": "end_turn", "stop_sequence": null}}),
                json!({"type": "message_stop"}),
            ]
        }
    };
    let sent = events.len() - usize::from(!whole);
    events.into_iter().take(sent).map(event).collect()
}

fn forwarded(sent: &Sent, original: &str) -> Value {
    let body = sent.replaced_body().unwrap_or(original.as_bytes());
    serde_json::from_slice(body).unwrap()
}

#[test]
fn whole_answers_are_settled_from_their_usage_and_repeated() {
    for (path, completion) in [(EMBEDDINGS, 0), (RESPONSES, 3), (MESSAGES, 3)] {
        let mut edge = edge();
        let body = ask(path, json!({}));
        let mut sent = edge.post(path, &body);
        assert!(edge.sums(&sent).0 > 0, "{path} reserves");
        let full = answer(path).to_string();
        let seen = edge.answer(&mut sent, &JSON, &[full.as_bytes()]);
        assert_eq!(
            seen.header("x-farthing-prompt-tokens"),
            Some("40"),
            "{path}"
        );
        let line = edge.last_line();
        assert_eq!(
            (
                &line["endpoint"],
                &line["prompt_tokens"],
                &line["estimated"]
            ),
            (&json!(path), &json!(40), &json!(false))
        );
        assert_eq!(line["completion_tokens"], completion, "{path}");
        let repeat = edge.post(path, &body);
        let reply = repeat.reply().unwrap_or_else(|| panic!("{path}: a repeat"));
        let repeated: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status, repeated), (200, answer(path)));
        // 20 nano-dollars a token in, 40 out.
        assert_eq!(edge.sums(&sent), (0, 40 * 20 + completion * 40), "{path}");
    }
}

#[test]
fn streams_are_settled_from_their_usage_and_replayed_in_their_own_events() {
    for (path, last) in [
        (RESPONSES, "response.completed"),
        (MESSAGES, "message_stop"),
    ] {
        let mut edge = edge();
        let body = ask(path, json!({"stream": true}));
        let mut sent = edge.post(path, &body);
        assert_eq!(forwarded(&sent, &body).get("stream_options"), None);
        let text = stream(path, true);
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(13).collect();
        let seen = edge.answer(&mut sent, &SSE, &chunks);
        assert_eq!(
            String::from_utf8(seen.body).unwrap(),
            text,
            "{path} passes untouched"
        );
        let line = edge.last_line();
        let counted = ["prompt_tokens", "completion_tokens", "aborted"].map(|key| &line[key]);
        assert_eq!(counted, [&json!(40), &json!(3), &json!(false)]);
        assert_eq!(edge.sums(&sent), (0, 40 * 20 + 3 * 40), "{path}");
        // What was streamed answers the plain request, and the other way round.
        let whole = edge.post(path, &ask(path, json!({})));
        let whole: Value = serde_json::from_slice(&whole.reply().unwrap().body).unwrap();
        assert_eq!(whole, answer(path), "{path}");
        let replay = edge.post(path, &body);
        let replay = String::from_utf8(replay.reply().unwrap().body.clone()).unwrap();
        assert!(replay.contains("Because."), "{replay}");
        let ends = format!("event: {last}\n");
        assert_eq!(replay.matches(&ends).count(), 1, "{replay}");
        assert!(
            replay.rfind(&ends) > replay.rfind("Because.\"}"),
            "{replay}"
        );
        assert!(!replay.contains("[DONE]"), "{replay}");
    }
}

#[test]
fn a_stream_without_its_end_is_aborted_and_not_stored() {
    for path in [RESPONSES, MESSAGES] {
        let mut edge = edge();
        let body = ask(path, json!({"stream": true}));
        let mut sent = edge.post(path, &body);
        edge.answer(&mut sent, &SSE, &[stream(path, false).as_bytes()]);
        let line = edge.last_line();
        assert_eq!(line["aborted"], true, "{path}");
        assert!(line["completion_tokens"].as_u64().unwrap() > 0, "{line}");
        let (reserved, spent) = edge.sums(&sent);
        assert!(reserved == 0 && spent > 0, "{path}");
        assert!(edge.post(path, &body).reply().is_none());
    }
}

#[test]
fn the_limit_goes_into_the_field_of_the_api() {
    let cap = 1000;
    for (path, with, field, limit) in [
        (RESPONSES, json!({}), "max_output_tokens", json!(100)),
        (
            RESPONSES,
            json!({"max_output_tokens": 5000}),
            "max_output_tokens",
            json!(cap),
        ),
        (
            MESSAGES,
            json!({"max_tokens": 5000}),
            "max_tokens",
            json!(cap),
        ),
        (MESSAGES, json!({"max_tokens": 7}), "max_tokens", json!(7)),
        (EMBEDDINGS, json!({}), "max_tokens", Value::Null),
    ] {
        let body = ask(path, with);
        let sent = edge().post(path, &body);
        assert_eq!(forwarded(&sent, &body)[field], limit, "{path}");
        let body = forwarded(&sent, &body);
        let others = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
        let others = others.iter().filter(|name| **name != field);
        assert!(
            others.into_iter().all(|name| body.get(name).is_none()),
            "{body}"
        );
    }
}

#[test]
fn a_model_that_knows_one_name_of_the_limit_gets_that() {
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    config["models"][0]["max_tokens_field"] = json!("max_completion_tokens");
    let mut edge = Edge::new(&config.to_string());
    let ask = |model: &str| {
        json!({"model": model, "max_tokens": 7,
            "messages": [{"role": "user", "content": "Why?"}]})
        .to_string()
    };
    let body = ask("small");
    let sent = edge.post("/v1/chat/completions", &body);
    let sent = forwarded(&sent, &body);
    assert_eq!(sent["max_completion_tokens"], 7);
    assert_eq!(sent.get("max_tokens"), None);
    let body = ask("large");
    let sent = edge.post("/v1/chat/completions", &body);
    assert_eq!(forwarded(&sent, &body)["max_tokens"], 7);
}

#[test]
fn what_is_not_safe_to_repeat_is_not_repeated() {
    let image = |url: &str| {
        json!({"input": [{"role": "user", "content": [
            {"type": "input_image", "image_url": url}]}]})
    };
    for (path, with, repeated) in [
        (EMBEDDINGS, json!({"encoding_format": "base64"}), true),
        (RESPONSES, json!({"temperature": 1}), false),
        (RESPONSES, json!({"store": true}), false),
        (RESPONSES, json!({"store": null}), false),
        (RESPONSES, json!({"previous_response_id": "r"}), false),
        (RESPONSES, json!({"conversation": "c"}), false),
        (RESPONSES, image("data:image/png;base64,AA"), true),
        (RESPONSES, image("https://a/b.png"), false),
        (MESSAGES, json!({"temperature": 0.5}), false),
        (
            MESSAGES,
            json!({"mcp_servers": [{"type": "url", "url": "https://a"}]}),
            false,
        ),
        (MESSAGES, json!({"container": "c"}), false),
    ] {
        let mut edge = edge();
        // Room for an image, or for what a provider has stored.
        let body = ask(path, with).replace("small", "large");
        let mut sent = edge.post(path, &body);
        assert!(sent.reply().is_none(), "{body}: {:?}", sent.reply());
        edge.answer(&mut sent, &JSON, &[answer(path).to_string().as_bytes()]);
        assert_eq!(edge.post(path, &body).reply().is_some(), repeated, "{body}");
    }
}

/// Nobody can know how long a stored conversation is, or what an image costs: the most is set
/// aside.
#[test]
fn what_cannot_be_counted_is_reserved_at_its_most() {
    let image = json!({"model": "large", "max_tokens": 1, "messages": [{"role": "user",
        "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}]});
    let stored = json!({"model": "large", "max_output_tokens": 1, "input": "x",
        "previous_response_id": "r"});
    for (path, body, tokens) in [
        ("/v1/chat/completions", image, IMAGE_TOKENS_MAX),
        (RESPONSES, stored, 8192),
    ] {
        let mut edge = edge();
        let mut sent = edge.post(path, &body.to_string());
        assert!(sent.reply().is_none(), "{:?}", sent.reply());
        let reserved = edge.sums(&sent).0;
        // 150 nano-dollars a token, and little text beside it.
        assert!(
            (tokens * 150..(tokens + 50) * 150).contains(&reserved),
            "{path}: {reserved}"
        );
        edge.done(&mut sent);
    }
}

#[test]
fn each_api_is_refused_in_its_own_shape() {
    let mut edge = edge();
    for (path, body, status, kind) in [
        (MESSAGES, "{", 400, "invalid_request_error"),
        (
            MESSAGES,
            r#"{"model":"small","max_tokens":1}"#,
            400,
            "invalid_request_error",
        ),
        (
            MESSAGES,
            &ask(MESSAGES, json!({"model": "gpt-9"})),
            404,
            "not_found_error",
        ),
        ("/v1/messages/count_tokens", "{}", 404, "not_found_error"),
        ("/v1/messages/batches", "{}", 404, "not_found_error"),
    ] {
        let sent = edge.post(path, body);
        let reply = sent.reply().expect("a refusal");
        let said: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(
            (reply.status, &said["type"]),
            (status, &json!("error")),
            "{said}"
        );
        assert_eq!(said["error"]["type"], kind, "{said}");
        assert!(said["error"]["message"].is_string(), "{said}");
    }
    for path in [EMBEDDINGS, RESPONSES] {
        let sent = edge.post(path, r#"{"model":"small"}"#);
        let said: Value = serde_json::from_slice(&sent.reply().unwrap().body).unwrap();
        assert_eq!(said["error"]["param"], "input", "{said}");
    }
    let body = ask(MESSAGES, json!({"messages": [{"role": "user"}]}));
    let sent = edge.post(MESSAGES, &body);
    let said: Value = serde_json::from_slice(&sent.reply().unwrap().body).unwrap();
    let message = said["error"]["message"].as_str().unwrap();
    assert!(message.contains("messages[0].content"), "{message}");
}

#[test]
fn a_spent_budget_refuses_each_api() {
    for (path, kind) in [
        (EMBEDDINGS, "insufficient_quota"),
        (RESPONSES, "insufficient_quota"),
        (MESSAGES, "rate_limit_error"),
    ] {
        let mut config: Value = serde_json::from_str(CONFIG).unwrap();
        config["budget"] = json!({"window_s": 3600, "usd": "0.00000001"});
        let mut edge = Edge::new(&config.to_string());
        let sent = edge.post(path, &ask(path, json!({})));
        let reply = sent.reply().expect("a refusal");
        let said: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status, &said["error"]["type"]), (429, &json!(kind)));
        assert!(crate::edge::reply_header(reply, "retry-after").is_some());
    }
}
