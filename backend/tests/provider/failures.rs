//! Providers that refuse, break and talk nonsense: what a client is told, and who is asked instead.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::client::{Connection, Reply, post};
use super::server::Server;
use super::stub::{Act, Stub, chat, error, stream};

/// Retries at once, and a breaker that never opens.
const CALM: &str = ", retries: {base_ms: 1, max_ms: 2}, breaker: {failures_percent: 101}";

/// A server with these providers, whose models are named after them, in this order of fallback.
pub fn front(providers: &[(&Stub, &str, &str)]) -> Server {
    let mut yaml = "providers:\n".to_owned();
    for (stub, name, more) in providers {
        yaml.push_str(&stub.provider(name, more));
    }
    yaml.push_str("models:\n");
    for (index, (_, name, _)) in providers.iter().enumerate() {
        let later: Vec<&str> = providers[index + 1..]
            .iter()
            .map(|(_, name, _)| *name)
            .collect();
        yaml.push_str(&format!(
            "- {{id: {name}, provider: {name}, upstream_model: upstream, fallbacks: [{}]}}\n",
            later.join(", ")
        ));
    }
    Server::of(&yaml)
}

pub fn asking(model: &str, more: Value) -> Vec<u8> {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("fields").clone());
    post("/v1/chat/completions", &[], body.to_string())
}

#[track_caller]
pub fn check(reply: &Reply, status: u16, word: &str) {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert!(reply.text().contains(word), "{} lacks {word}", reply.text());
}

/// One provider alone that does this to every request: what the client gets, whole and streamed,
/// and how often it was asked for each.
#[track_caller]
fn check_alone(
    act: impl Fn() -> Act + Send + Sync + 'static,
    status: u16,
    word: &str,
    times: usize,
) {
    let stub = Stub::start(move |_| act());
    let front = front(&[(&stub, "only", CALM)]);
    for (nth, streamed) in [false, true].into_iter().enumerate() {
        let reply = front.ask(&asking("only", json!({"stream": streamed})));
        check(&reply, status, word);
        assert_eq!(stub.asked().len(), (nth + 1) * times, "{word}");
        assert!(reply.header("x-farthing-source").is_none());
    }
    front.end();
}

#[test]
fn refusals_are_told_and_not_repeated() {
    let refusing = |status, code, message| move || Act::Answer(status, "", error(code, message));
    check_alone(
        refusing(400, "invalid_value", "no such role"),
        400,
        "no such role",
        1,
    );
    check_alone(
        refusing(400, "context_length_exceeded", "x"),
        400,
        "context_length_exceeded",
        1,
    );
    check_alone(
        refusing(401, "invalid_api_key", "sk-canary"),
        502,
        "our key",
        1,
    );
    check_alone(
        refusing(404, "model_not_found", "x"),
        502,
        "know the model",
        1,
    );
    check_alone(refusing(429, "insufficient_quota", "x"), 502, "no quota", 1);
    check_alone(
        || Act::Answer(302, "location: http://x/\r\n", String::new()),
        502,
        "failed",
        3,
    );
}

#[test]
fn failures_that_pass_are_tried_again_and_then_told() {
    check_alone(
        || Act::Answer(500, "", error("x", "secret words")),
        502,
        "provider_failed",
        3,
    );
    check_alone(
        || Act::Answer(503, "", "not JSON".to_owned()),
        502,
        "provider_failed",
        3,
    );
    check_alone(|| Act::Bytes(Vec::new()), 502, "broke off", 3);
    check_alone(|| Act::Bytes(b"HTTP/1.1 2".to_vec()), 502, "broke off", 3);
    check_alone(
        || Act::Bytes(b"SSH-2.0-x\r\n".to_vec()),
        502,
        "broke off",
        3,
    );
}

#[test]
fn nonsense_is_told_and_not_repeated() {
    for body in [
        "",
        "{",
        "[]",
        "{\"a\":1,\"a\":2}",
        "null",
        "{\"choices\":[]}",
    ] {
        check_alone(
            move || Act::Answer(200, "", body.to_owned()),
            502,
            "no answer",
            1,
        );
    }
    let encoded = "content-encoding: gzip\r\n";
    check_alone(
        move || Act::Answer(200, encoded, chat("x")),
        502,
        "no answer",
        1,
    );
}

#[test]
fn more_than_we_take_is_not_read() {
    let stub = Stub::start(|_| {
        let mut bytes = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n\"".to_vec();
        bytes.resize(bytes.len() + (17 << 20), b'x');
        Act::Bytes(bytes)
    });
    let front = front(&[(&stub, "only", CALM)]);
    check(
        &front.ask(&asking("only", json!({}))),
        502,
        "more than we take",
    );
    assert_eq!(stub.asked().len(), 1);
    front.end();
}

#[test]
fn a_stream_that_breaks_before_its_first_event_is_asked_elsewhere() {
    let cases: [fn() -> Act; 5] = [
        || Act::Bytes(stream(&[])),
        // What has not gone out is not there.
        || Act::Bytes([stream(&["Well"]), b"data: nonsense\n\n".to_vec()].concat()),
        || Act::Bytes([stream(&[]), b"data: {\"choices\"".to_vec()].concat()),
        || Act::Bytes([stream(&[]), b"data: nonsense\n\n".to_vec()].concat()),
        || {
            let error =
                error("x", "Overloaded").replace("\"type\":\"x\"", "\"type\":\"overloaded_error\"");
            Act::Bytes([stream(&[]), format!("data: {error}\n\n").into_bytes()].concat())
        },
    ];
    for act in cases {
        let broken = Stub::start(move |_| act());
        let mut whole = stream(&["from", " another"]);
        whole.extend_from_slice(b"data: [DONE]\n\n");
        let well = Stub::start(move |_| Act::Bytes(whole.clone()));
        let front = front(&[(&broken, "first", CALM), (&well, "second", CALM)]);
        let reply = front.ask(&asking("first", json!({"stream": true})));
        check(&reply, 200, "data: [DONE]\n\n");
        assert_eq!(reply.header("x-farthing-model"), Some("second"));
        assert!(!broken.asked().is_empty());
        assert_eq!(well.asked().len(), 1);
        front.end();
    }
}

#[test]
fn after_the_first_event_nobody_else_is_asked() {
    let ends: [(&[u8], &str); 4] = [
        (b"", "broke off"),
        (b"data: {\"choi", "broke off"),
        (b"data: nonsense\n\n", "no answer"),
        (
            b"data: {\"error\":{\"message\":\"secret words\",\"type\":\"server_error\"}}\n\n",
            "failed",
        ),
    ];
    for (end, word) in ends {
        let (open, gate) = channel();
        let gate = Arc::new(Mutex::new(gate));
        let broken =
            Stub::start(move |_| Act::Gated(stream(&["Well"]), Arc::clone(&gate), end.to_vec()));
        let well = Stub::saying("never");
        let front = front(&[(&broken, "first", CALM), (&well, "second", CALM)]);
        let mut connection = Connection::open(front.address);
        connection.send(&asking("first", json!({"stream": true})));
        connection.wait_for(b"Well");
        open.send(()).expect("the provider waits");
        let text = connection.reply().expect("it ends in good form").text();
        let last = text.trim_end().rsplit("\n\n").next().unwrap_or_default();
        assert!(
            last.starts_with("data: {\"error\":") && last.contains(word),
            "{last}"
        );
        assert!(
            !text.contains("[DONE]") && !text.contains("secret words"),
            "{text}"
        );
        assert_eq!((broken.asked().len(), well.asked().len()), (1, 0));
        front.end();
    }
}

#[test]
fn the_order_of_fallback_is_kept_and_the_first_error_told() {
    let refused = Stub::start(|_| Act::Answer(401, "", String::new()));
    let failing = Stub::start(|_| Act::Answer(500, "", String::new()));
    let well = Stub::saying("third time lucky");
    let front = front(&[
        (&refused, "first", CALM),
        (&failing, "second", CALM),
        (&well, "third", CALM),
    ]);
    let reply = front.ask(&asking("first", json!({})));
    check(&reply, 200, "third time lucky");
    assert_eq!(reply.header("x-farthing-model"), Some("third"));
    assert_eq!(reply.json()["model"], "third");
    let asked = [&refused, &failing, &well].map(|stub| stub.asked().len());
    assert_eq!(asked, [1, 3, 1]);
    let fallbacks = |model: &str| {
        let labels = format!("{{provider=\"{model}\",model=\"{model}\"}}");
        front.metric(&format!("farthing_provider_fallbacks_total{labels}"))
    };
    assert_eq!(["first", "second", "third"].map(fallbacks), [1, 1, 0]);
    front.end();
}

#[test]
fn without_anybody_left_the_first_error_is_told() {
    let limited = Stub::start(|_| Act::Answer(429, "retry-after: 30\r\n", String::new()));
    let failing = Stub::start(|_| Act::Answer(500, "", String::new()));
    let front = front(&[(&limited, "first", CALM), (&failing, "second", CALM)]);
    let reply = front.ask(&asking("first", json!({})));
    check(&reply, 429, "rate_limit_exceeded");
    assert_eq!(reply.header("retry-after"), Some("30"));
    assert_eq!((limited.asked().len(), failing.asked().len()), (1, 3));
    front.end();
}

#[test]
fn the_requests_own_fault_is_nobody_elses_to_hear() {
    let picky = Stub::start(|_| Act::Answer(400, "", error("invalid_value", "no such role")));
    let well = Stub::saying("never");
    let front = front(&[(&picky, "first", CALM), (&well, "second", CALM)]);
    check(&front.ask(&asking("first", json!({}))), 400, "no such role");
    assert_eq!(well.asked().len(), 0);
    front.end();
}

#[test]
fn a_model_of_our_own_answers_where_providers_do_not() {
    let failing = Stub::start(|_| Act::Answer(500, "", String::new()));
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../.farthing/models");
    let front = Server::of(&format!(
        "providers:\n{}models:\n\
         - {{id: far, provider: far, upstream_model: upstream, fallbacks: [here]}}\n\
         - {{id: here, path: {models}/smollm2-135m-instruct.gguf}}\nthreads: 2\n",
        failing.provider("far", CALM)
    ));
    for stream in [false, true] {
        let reply = front.ask(&asking("far", json!({"max_tokens": 4, "stream": stream})));
        check(&reply, 200, "\"model\":\"here\"");
        assert_eq!(reply.header("x-farthing-source"), Some("model"));
        assert_eq!(reply.header("x-farthing-model"), Some("here"));
    }
    // What ours cannot do it is not asked for.
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let reply = front.ask(&asking("far", json!({"tools": tools})));
    check(&reply, 502, "provider_failed");
    front.end();
}
