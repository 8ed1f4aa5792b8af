//! Upstreams that fail and clients that leave: a clear error, a refund, and nothing left behind.

use super::bodies::{chat, completion, event_stream, streamed};
use super::edge::{Edge, PATIENCE, SMALL, yaml};
use farthing_host_tests::client::Connection;
use farthing_host_tests::ports::free_port;
use farthing_host_tests::stub::{Answer, Piece};
use serde_json::json;
use std::net::Ipv4Addr;

const CREDENTIAL: &str = "tenant-refunded";

/// An upstream that fails costs nothing: the budget of one request at a time covers the next.
/// The budget is shared by these failures, so they run one after another.
#[test]
fn failed_requests_are_refunded() {
    let edge = Edge::shared();
    let error = json!({"error": {"message": "down", "type": "server_error", "param": null,
        "code": "down"}});
    let failures = [
        ("reset", Answer::reset(), 503),
        ("error", Answer::json(500, error.to_string()), 500),
        (
            "overloaded",
            Answer::json(429, error.to_string()).header("retry-after", "7"),
            429,
        ),
    ];
    for (prompt, answer, status) in failures {
        let before = edge.metric("farthing_upstream_errors_total");
        edge.script(prompt, answer);
        // Twice: the second finds the budget whole again.
        for _ in 0..2 {
            let response = edge.ask(CREDENTIAL, &chat(SMALL, prompt));
            assert_eq!(response.status, status, "{}", response.text());
            assert!(
                response.json()["error"]["message"].is_string(),
                "{}",
                response.text()
            );
        }
        edge.wait_for_metric("farthing_upstream_errors_total", before + 2);
    }
    edge.script("works again", completion("fine"));
    assert_eq!(
        edge.ask(CREDENTIAL, &chat(SMALL, "works again")).status,
        200
    );
}

#[test]
fn a_dead_upstream_is_an_error_in_our_shape() {
    let port = free_port().expect("a free port");
    let edge = Edge::start(1, |config| {
        let dead = (Ipv4Addr::LOCALHOST, port).into();
        config
            .set_upstream("backend", dead)
            .expect("cluster backend");
        let budget = yaml(json!({"window_s": 86_400, "usd": "0.000003"}));
        config
            .set_plugin_field("budget", budget)
            .expect("a plugin configuration");
    });
    for _ in 0..3 {
        let response = edge.ask("a", &chat(SMALL, "dead"));
        assert_eq!(response.status, 503, "{}", response.text());
        let error = &response.json()["error"];
        assert_eq!(error["type"], "server_error");
        assert_eq!(error["code"], "unavailable");
    }
    edge.wait_for_metric("farthing_upstream_errors_total", 3);
    assert_eq!(edge.metric("farthing_cost_nanousd_total"), 0);
}

#[test]
fn an_upstream_that_breaks_off_is_not_cached() {
    let edge = Edge::shared();
    let stream = event_stream(&["This ", "ends ", "early"]);
    let cut = stream.len() / 2;
    let broken = vec![
        Piece::Bytes(stream.as_bytes()[..cut].to_vec()),
        Piece::Close,
    ];
    edge.script("broken", Answer::sse(broken));
    let aborts = edge.metric("farthing_aborts_total");
    let mut connection = open_stream(edge, "broken");
    connection.receive_head().expect("a head");
    while connection
        .receive_piece()
        .is_ok_and(|piece| !piece.is_empty())
    {}
    edge.wait_for_metric("farthing_aborts_total", aborts + 1);
    edge.script("broken", completion("whole"));
    let next = edge.ask("leaver", &chat(SMALL, "broken"));
    assert_eq!(next.header("x-farthing-source"), Some("model"));
}

#[test]
fn a_client_that_leaves_frees_its_upstream() {
    let edge = Edge::shared();
    let stream = event_stream(&["Nobody ", "listens"]);
    let first = stream.find("\n\n").expect("an event") + 2;
    let endless = vec![
        Piece::Bytes(stream.as_bytes()[..first].to_vec()),
        Piece::UntilClientLeaves,
    ];
    edge.script("leaves", Answer::sse(endless));
    let aborts = edge.metric("farthing_aborts_total");
    let abandoned = edge.small.abandoned();
    let mut connection = open_stream(edge, "leaves");
    connection.receive_head().expect("a head");
    connection.receive_piece().expect("a first event");
    drop(connection);
    assert!(edge.small.wait_until_abandoned(abandoned + 1, PATIENCE));
    edge.wait_for_metric("farthing_aborts_total", aborts + 1);
}

#[test]
fn a_client_that_leaves_in_its_own_request_leaves_nothing() {
    let edge = Edge::shared();
    let aborts = edge.metric("farthing_aborts_total");
    let mut connection = Connection::open(edge.address()).expect("Envoy listens");
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\ncontent-length: 500\r\n\
        content-type: application/json\r\nauthorization: Bearer leaver\r\n\r\n{\"model\":";
    connection.send_raw(head.as_bytes()).expect("Envoy reads");
    drop(connection);
    edge.wait_for_metric("farthing_aborts_total", aborts + 1);
}

fn open_stream(edge: &Edge, prompt: &str) -> Connection {
    let mut connection = Connection::open(edge.address()).expect("Envoy listens");
    let body = streamed(chat(SMALL, prompt)).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer leaver"),
    ];
    connection
        .send("POST", "/v1/chat/completions", &headers, body.as_bytes())
        .expect("sent");
    connection
}
