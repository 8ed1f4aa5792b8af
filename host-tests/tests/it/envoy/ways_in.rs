//! Every endpoint beside chat, and the list of what passes, through real Envoy: answers, streams
//! and budgets in the shapes of each API, as its documentation has them.

use super::edge::{Edge, SMALL, SMALL_INPUT_NANOUSD, SMALL_OUTPUT_NANOUSD};
use farthing_host_tests::client::{Connection, Response};
use farthing_host_tests::stub::{Answer, split};
use serde_json::{Value, json};

const EMBEDDINGS: &str = "/v1/embeddings";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
/// What each scripted answer says that it took.
const PROMPT_TOKENS: u64 = 20;
const COMPLETION_TOKENS: u64 = 10;

/// A request that may be cached.
fn ask(path: &str, prompt: &str) -> Value {
    match path {
        EMBEDDINGS => json!({"model": SMALL, "input": [prompt]}),
        RESPONSES => json!({"model": SMALL, "input": prompt, "store": false, "temperature": 0,
            "max_output_tokens": 32}),
        _ => json!({"model": SMALL, "max_tokens": 32, "temperature": 0,
            "messages": [{"role": "user", "content": prompt}]}),
    }
}

fn whole(path: &str) -> Value {
    match path {
        EMBEDDINGS => json!({"object": "list", "model": "m",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}],
            "usage": {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS}}),
        RESPONSES => json!({"id": "resp_1", "object": "response", "created_at": 1_767_225_600,
            "status": "completed", "error": null, "incomplete_details": null, "model": "m",
            "output": [{"id": "msg_1", "type": "message", "status": "completed",
                "role": "assistant", "content": [{"type": "output_text",
                    "text": "In words, \"so\".", "annotations": [], "logprobs": []}]}],
            "store": false, "temperature": 0.0,
            "usage": {"input_tokens": PROMPT_TOKENS, "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": COMPLETION_TOKENS,
                "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 30}}),
        _ => json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": [{"type": "text", "text": "In words, \"so\"."}],
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 12, "cache_creation_input_tokens": 3,
                "cache_read_input_tokens": 5, "output_tokens": COMPLETION_TOKENS}}),
    }
}

/// The answer as its API streams it.
fn stream(path: &str) -> String {
    let full = whole(path);
    let text = "In words, \"so\".";
    let events = if path == RESPONSES {
        let mut begun = full.clone();
        begun["status"] = "in_progress".into();
        begun["output"] = json!([]);
        begun["usage"] = Value::Null;
        let delta = json!({"type": "response.output_text.delta", "sequence_number": 2,
            "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": text,
            "logprobs": [], "obfuscation": "x9"});
        let done = json!({"type": "response.output_text.done", "sequence_number": 3,
            "item_id": "msg_1", "output_index": 0, "content_index": 0, "text": text});
        vec![
            json!({"type": "response.created", "sequence_number": 0, "response": begun}),
            json!({"type": "response.in_progress", "sequence_number": 1, "response": begun}),
            delta,
            done,
            json!({"type": "response.completed", "sequence_number": 4, "response": full}),
        ]
    } else {
        let mut begun = full.clone();
        begun["content"] = json!([]);
        begun["stop_reason"] = Value::Null;
        begun["usage"]["output_tokens"] = 1.into();
        vec![
            json!({"type": "message_start", "message": begun}),
            json!({"type": "content_block_start", "index": 0,
                "content_block": {"type": "text", "text": ""}}),
            json!({"type": "ping"}),
            json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": text}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "usage": {"output_tokens": COMPLETION_TOKENS},
                "delta": {"stop_reason": "end_turn", "stop_sequence": null}}),
            json!({"type": "message_stop"}),
        ]
    };
    let named = |event: Value| {
        let name = event["type"].as_str().unwrap_or_default();
        format!("event: {name}\ndata: {event}\n\n")
    };
    events.into_iter().map(named).collect()
}

fn source(response: &Response) -> &str {
    response.header("x-farthing-source").unwrap_or_default()
}

#[test]
fn whole_answers_are_priced_and_repeated() {
    let edge = Edge::shared();
    for (path, completion) in [
        (EMBEDDINGS, 0),
        (RESPONSES, COMPLETION_TOKENS),
        (MESSAGES, COMPLETION_TOKENS),
    ] {
        let prompt = format!("whole {path}");
        edge.script(&prompt, Answer::json(200, whole(path).to_string()));
        let body = ask(path, &prompt);
        let first = edge.post(path, "everywhere", &body, &[]);
        assert_eq!((first.status, source(&first)), (200, "model"), "{path}");
        assert_eq!(first.json(), whole(path));
        let nanousd = PROMPT_TOKENS * SMALL_INPUT_NANOUSD + completion * SMALL_OUTPUT_NANOUSD;
        let cost = first.header("x-farthing-cost-usd");
        assert_eq!(cost, Some(format!("0.{nanousd:09}").as_str()), "{path}");
        let again = edge.post(path, "everywhere", &body, &[]);
        assert_eq!(source(&again), "edge-cache", "{path}");
        assert_eq!(again.json(), whole(path));
        let seen = edge.seen(&prompt);
        assert_eq!((seen.len(), seen[0].path.as_str()), (1, path));
    }
}

/// However the bytes are split on their way, the client gets the same bytes; afterwards it gets
/// events that say the same.
#[test]
fn streams_pass_byte_for_byte_and_are_replayed_in_their_own_events() {
    let edge = Edge::shared();
    for path in [RESPONSES, MESSAGES] {
        for sizes in [&[1][..], &[7, 64, 3], &[99_999]] {
            let prompt = format!("stream {path} {sizes:?}");
            let text = stream(path);
            edge.script(&prompt, Answer::sse(split(text.as_bytes(), sizes)));
            let mut body = ask(path, &prompt);
            body["stream"] = true.into();
            let passed = edge.post(path, "everywhere", &body, &[]);
            assert_eq!(passed.text(), text, "{path} {sizes:?}");
            let replayed = edge.post(path, "everywhere", &body, &[]);
            assert_eq!(source(&replayed), "edge-cache", "{path} {sizes:?}");
            assert_eq!(replayed.header("content-type"), Some("text/event-stream"));
            let last = text
                .rsplit("event: ")
                .next()
                .and_then(|it| it.split('\n').next());
            let replayed = replayed.text();
            let ends = replayed
                .rsplit("event: ")
                .next()
                .and_then(|it| it.split('\n').next());
            assert_eq!(ends, last, "{replayed}");
            let plain = edge.post(path, "everywhere", &ask(path, &prompt), &[]);
            assert_eq!((source(&plain), plain.json()), ("edge-cache", whole(path)));
            assert_eq!(edge.seen(&prompt).len(), 1);
        }
    }
}

#[test]
fn a_budget_covers_every_endpoint() {
    let refused = |error: &Value| error["type"].as_str().map(str::to_owned);
    for (path, kind) in [
        (EMBEDDINGS, "insufficient_quota"),
        (RESPONSES, "insufficient_quota"),
        (MESSAGES, "rate_limit_error"),
    ] {
        let edge = Edge::start(1, |config| {
            let budget = json!({"window_s": 86_400, "usd": "0.000005"});
            let budget = super::edge::yaml(budget);
            config.set_plugin_field("budget", budget).expect("a field");
            let tenant = super::edge::yaml(json!({"source": "credential"}));
            config.set_plugin_field("tenant", tenant).expect("a field");
        });
        let mut served = 0;
        let last = (0..100).find_map(|number| {
            let prompt = format!("budget {path} {number}");
            edge.script(&prompt, Answer::json(200, whole(path).to_string()));
            let response = edge.post(path, "spender", &ask(path, &prompt), &[]);
            served += u64::from(response.status == 200);
            (response.status != 200).then_some(response)
        });
        let last = last.unwrap_or_else(|| panic!("{path}: the budget never ends"));
        assert_eq!(
            (last.status, refused(&last.json()["error"])),
            (429, Some(kind.into()))
        );
        assert!(last.header("retry-after").is_some());
        let completion = if path == EMBEDDINGS {
            0
        } else {
            COMPLETION_TOKENS
        };
        let each = PROMPT_TOKENS * SMALL_INPUT_NANOUSD + completion * SMALL_OUTPUT_NANOUSD;
        assert!(
            served > 0 && served * each <= 5_000,
            "{path}: {served} were served"
        );
    }
}

#[test]
fn anthropics_clients_are_refused_in_their_own_shape() {
    let edge = Edge::shared();
    for (path, body, status, kind) in [
        (
            MESSAGES,
            json!({"model": SMALL}),
            400,
            "invalid_request_error",
        ),
        (
            MESSAGES,
            json!({"model": "x", "max_tokens": 1,
            "messages": [{"role": "user", "content": "y"}]}),
            404,
            "not_found_error",
        ),
        (
            "/v1/messages/count_tokens",
            json!({}),
            404,
            "not_found_error",
        ),
    ] {
        let refused = edge.post(
            path,
            "everywhere",
            &body,
            &[("anthropic-version", "2023-06-01")],
        );
        let said = refused.json();
        assert_eq!(
            (refused.status, &said["type"]),
            (status, &json!("error")),
            "{said}"
        );
        assert_eq!(said["error"]["type"], kind);
    }
}

/// Whatever Envoy makes of a path, no request reaches an upstream by another way than a listed one.
#[test]
fn no_trick_gets_around_the_list() {
    let edge = Edge::start(1, |_| {});
    let chat = json!({"model": SMALL, "messages": [{"role": "user", "content": "sneaky"}]});
    let body = chat.to_string();
    let tricks = [
        ("POST", "/v1/batches", ""),
        ("POST", "/v1/chat/completions/x", ""),
        ("POST", "/V1/chat/completions", ""),
        ("POST", "/v1/chat/completions;a=b", ""),
        ("POST", "/v1/chat%2fcompletions", ""),
        ("POST", "/v1/%63hat/completionz", ""),
        ("POST", "/v1/chat/completions%00", ""),
        ("POST", "/v1/chat/completions%3fx", ""),
        ("POST", "/v1\\chat\\completionz", ""),
        ("POST", "/v1/models", ""),
        ("GET", "/v1/models/..%2fchat%2fcompletions", ""),
        ("GET", "/v1/models", "x-http-method-override: POST\r\n"),
        ("GET", "/v1/models?_method=POST", ""),
        ("POST", "/v1/chat/completions", "x-http-method: DELETE\r\n"),
        (
            "POST",
            "/v1/chat/completions",
            "upgrade: websocket\r\nconnection: upgrade\r\n",
        ),
        ("CONNECT", "127.0.0.1:80", ""),
        ("TRACE", "/v1/models", ""),
        ("GET", "/health", ""),
        ("OPTIONS", "*", ""),
    ];
    for (method, path, headers) in tricks {
        let mut connection = Connection::open(edge.address()).expect("Envoy listens");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n{headers}\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.send_raw(head.as_bytes()).expect("Envoy reads");
        let status = connection.receive_head().expect("an answer").status;
        assert!((400..500).contains(&status), "{method} {path}: {status}");
    }
    let reached = [edge.small.requests(), edge.large.requests()].concat();
    assert!(reached.is_empty(), "{reached:?}");
}
