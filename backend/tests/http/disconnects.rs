//! Clients that leave, a server that stops, a queue that is full. Each test has its own server, as
//! it watches counters.

use std::time::{Duration, Instant};

use farthing_backend::server::Drained;
use serde_json::{Value, json};

use super::client::{Connection, post};
use super::server::{CHAT, Server};

/// Bounds a wait for something that happens within milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until `done` says so. The pause only spares the machine.
#[track_caller]
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(
            since.elapsed() < PATIENCE,
            "{what} did not happen within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A request that runs far longer than any test: no end token, all of the context.
fn endless(more: Value) -> Vec<u8> {
    let mut body = json!({
        "model": CHAT,
        "prompt": "Count: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
        "max_tokens": 2000,
        "temperature": 0,
    });
    let Value::Object(more) = more else {
        panic!("{more} is not an object")
    };
    body.as_object_mut()
        .expect("bodies are objects")
        .extend(more);
    post("/v1/completions", &[], body.to_string())
}

#[track_caller]
fn check_leaving(more: Value, choices: u64) {
    let server = Server::start("");
    let mut connection = Connection::open(server.address);
    connection.send(&endless(more));
    wait_until("the start", || {
        server.engine_metric("farthing_engine_running") == choices
    });
    drop(connection);
    wait_until("the abort", || {
        server.engine_metric("farthing_engine_aborted_total") == 1
    });
    assert_eq!(server.engine_metric("farthing_engine_running"), 0);
    assert_eq!(server.engine_metric("farthing_engine_blocks_used"), 0);
    assert_eq!(server.engine_metric("farthing_engine_finished_total"), 0);
}

#[test]
fn a_client_that_leaves_a_stream_frees_its_sequences() {
    check_leaving(json!({"stream": true, "n": 2, "temperature": 1}), 2);
}

#[test]
fn a_client_that_leaves_before_a_whole_answer_frees_its_sequence() {
    check_leaving(json!({"stream": false}), 1);
}

#[test]
fn a_stop_lets_a_stream_end() {
    let mut server = Server::start("");
    let mut connection = Connection::open(server.address);
    connection.send(&endless(json!({"stream": true, "max_tokens": 40})));
    wait_until("the start", || {
        server.engine_metric("farthing_engine_running") == 1
    });
    server.begin_shutdown();
    connection.wait_for(b"data: [DONE]\n\n");
    assert_eq!(server.end(), Drained::Complete);
}

#[test]
fn a_stream_longer_than_the_drain_is_cut() {
    let mut server = Server::start("http: {drain_timeout_ms: 200}");
    let mut connection = Connection::open(server.address);
    connection.send(&endless(json!({"stream": true})));
    wait_until("the start", || {
        server.engine_metric("farthing_engine_running") == 1
    });
    server.begin_shutdown();
    let bytes = connection.until_closed();
    assert!(
        !bytes.ends_with(b"data: [DONE]\n\n\r\n0\r\n\r\n"),
        "a cut stream does not look whole"
    );
    assert_eq!(server.end(), Drained::Cut(1));
}

#[test]
fn a_full_queue_answers_429_with_retry_after() {
    let server = Server::start("queue_max: 1\nrunning_max: 1\n");
    let mut running = Connection::open(server.address);
    running.send(&endless(json!({"stream": true})));
    wait_until("the start", || {
        server.engine_metric("farthing_engine_running") == 1
    });
    let mut waiting = Connection::open(server.address);
    waiting.send(&endless(json!({"stream": true})));
    wait_until("the queueing", || {
        server.metric("farthing_engine_queued") == 1
    });
    let reply = server.ask(&endless(json!({"stream": true})));
    assert_eq!(reply.status, 429, "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "overloaded");
    assert!(
        reply
            .header("retry-after")
            .is_some_and(|after| after.parse::<u32>().is_ok())
    );
    // By this a proxy knows that it may ask another replica.
    assert_eq!(reply.header("x-farthing-not-started"), Some("true"));
    // Those before it are not disturbed, and once they leave there is room again.
    drop((running, waiting));
    wait_until("the room", || {
        server
            .ask(&endless(json!({"stream": true, "max_tokens": 1})))
            .status
            == 200
    });
}

#[test]
fn tenants_share_prefixes_with_themselves_only() {
    let server = Server::start("");
    let long = "The quick brown fox jumps over the lazy dog. ".repeat(20);
    let cached = |tenant: Option<&str>| {
        let body = json!({"model": CHAT, "prompt": long, "max_tokens": 1}).to_string();
        let headers: Vec<_> = tenant
            .map(|tenant| ("x-farthing-tenant", tenant))
            .into_iter()
            .collect();
        let json = server.ask(&post("/v1/completions", &headers, body)).json();
        json["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .expect("usage")
    };
    assert_eq!(cached(Some("a")), 0);
    assert!(cached(Some("a")) > 0, "a tenant reads its own prefix");
    assert_eq!(cached(Some("b")), 0, "another tenant does not");
    assert_eq!(cached(None), 0, "nobody shares without a tenant");
    assert_eq!(cached(None), 0);
}
