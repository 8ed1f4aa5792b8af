//! The ledger in Envoy's access log: one entry for each judged request, whatever becomes of it.

use super::bodies::{chat, completion, event_stream, streamed};
use super::edge::{Edge, LARGE, SMALL, wait_until};
use farthing_host_tests::client::{self, Connection};
use farthing_host_tests::ledger;
use farthing_host_tests::stub::{Answer, Piece};
use serde_json::{Value, json};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};

/// Waits for the newest entry, of which there must then be so many.
#[track_caller]
fn newest(edge: &Edge, count: usize) -> Value {
    wait_until(&format!("{count} entries of the ledger"), || {
        ledger::lines(&edge.envoy.log()).len() >= count
    });
    let mut lines = ledger::lines(&edge.envoy.log());
    assert_eq!(lines.len(), count, "{lines:?}");
    lines.pop().expect("an entry")
}

/// Every field that is named has that value, and the sums are exact.
#[track_caller]
fn check(entry: &Value, expected: Value) {
    for (field, value) in expected.as_object().expect("fields") {
        assert_eq!(&entry[field], value, "{field} of {entry}");
    }
    let amount = |field: &str| entry[field].as_i64().expect(field);
    let parts: i64 = entry["saved_by"]
        .as_object()
        .expect("parts")
        .values()
        .filter_map(Value::as_i64)
        .sum();
    assert_eq!(parts, amount("saved_nanousd"), "{entry}");
    assert_eq!(
        amount("as_asked_nanousd"),
        amount("cost_nanousd") + parts,
        "{entry}"
    );
}

#[test]
fn every_way_out_is_in_the_access_log() {
    // Accepts connections, and never answers.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let edge = Edge::start(1, |config| {
        let address = silent.local_addr().expect("an address");
        config
            .set_upstream("large", address)
            .expect("cluster large");
    });
    edge.script("ledger", completion("counted"));
    edge.ask("a", &chat(SMALL, "ledger"));
    check(
        &newest(&edge, 1),
        json!({"source": "model", "status": 200, "model": SMALL, "cost_nanousd": 800,
            "prompt_tokens": 20, "completion_tokens": 10, "estimated": false}),
    );
    edge.ask("a", &chat(SMALL, "ledger"));
    let hit = newest(&edge, 2);
    check(
        &hit,
        json!({"source": "edge-cache", "cost_nanousd": 0, "saved_nanousd": 800}),
    );
    assert_eq!(hit["saved_by"]["cache_nanousd"], 800);
    edge.ask("a", &json!("not a request"));
    check(
        &newest(&edge, 3),
        json!({"source": "refused", "status": 400, "error": "invalid_type"}),
    );
    let stream = event_stream(&["a", "b"]);
    let pieces = vec![Piece::Bytes(stream.clone().into_bytes())];
    edge.script("streamed", Answer::sse(pieces));
    edge.ask("a", &streamed(chat(SMALL, "streamed")));
    check(
        &newest(&edge, 4),
        json!({"source": "model", "stream": true, "completion_tokens": 2, "aborted": false}),
    );
    edge.script("down", Answer::reset());
    edge.ask("a", &chat(SMALL, "down"));
    check(&newest(&edge, 5), json!({"status": 503, "cost_nanousd": 0}));

    let pieces = vec![
        Piece::Bytes(stream.as_bytes()[..stream.len() / 2].to_vec()),
        Piece::UntilClientLeaves,
    ];
    edge.script("left", Answer::sse(pieces));
    let mut connection = begin(&edge, SMALL, "left");
    connection.receive_head().expect("a head");
    connection.receive_piece().expect("events");
    drop(connection);
    check(
        &newest(&edge, 6),
        json!({"status": 200, "aborted": true, "stream": true, "estimated": true}),
    );
    let connection = begin(&edge, LARGE, "left before an answer");
    let (mut upstream, _) = silent.accept().expect("Envoy connects");
    upstream.read_exact(&mut [0]).expect("a request");
    drop(connection);
    check(
        &newest(&edge, 7),
        json!({"status": 0, "aborted": true, "estimated": true, "completion_tokens": 0}),
    );
    // What is not judged is not in the ledger.
    client::get(edge.address(), "/v1/models").expect("an answer");
    let last = edge.ask("a", &chat(SMALL, "ledger"));
    let id = last.header("x-farthing-request-id").expect("a request id");
    check(&newest(&edge, 8), json!({"request_id": id}));
}

/// Sends a streamed request whose answer nobody waits for.
fn begin(edge: &Edge, model: &str, prompt: &str) -> Connection {
    let mut connection = Connection::open(edge.address()).expect("Envoy listens");
    let body = streamed(chat(model, prompt)).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer a"),
    ];
    connection
        .send("POST", "/v1/chat/completions", &headers, body.as_bytes())
        .expect("sent");
    connection
}
