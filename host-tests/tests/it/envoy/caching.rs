//! Exact repeats are answered at the edge, on every worker, in the form that the client asked for.

use super::bodies::{chat, completion, event_stream, streamed, usage_event, words_of};
use super::edge::{Edge, SMALL, wait_until};
use farthing_host_tests::client::{Connection, Response};
use farthing_host_tests::stub::{Answer, Gate, Piece, split};

#[test]
fn every_worker_serves_what_one_stored() {
    let edge = Edge::shared();
    edge.script("every worker", completion("once"));
    let body = chat(SMALL, "every worker");
    let first = edge.ask("cacher", &body);
    assert_eq!(first.header("x-farthing-source"), Some("model"));
    // New connections are spread over the workers by the kernel.
    for _ in 0..32 {
        let repeat = edge.ask("cacher", &body);
        assert_eq!(repeat.header("x-farthing-source"), Some("edge-cache"));
        assert_eq!(
            repeat.header("x-farthing-cost-usd").map(is_zero),
            Some(true)
        );
        assert_eq!(repeat.body, first.body);
    }
    assert_eq!(edge.seen("every worker").len(), 1);
}

fn is_zero(usd: &str) -> bool {
    usd.parse::<f64>() == Ok(0.0)
}

#[test]
fn key_order_does_not_matter_and_values_do() {
    let edge = Edge::shared();
    edge.script("key order", completion("sorted"));
    edge.ask("cacher", &chat(SMALL, "key order"));
    let reordered = format!(
        r#"{{"temperature":0.0,"max_tokens":32,"messages":[{{"content":"key order",
            "role":"user"}}],"model":"{SMALL}"}}"#
    );
    let reordered = serde_json::from_str(&reordered).expect("JSON");
    assert_eq!(source(&edge.ask("cacher", &reordered)), "edge-cache");
    let mut other = chat(SMALL, "key order");
    other["max_tokens"] = 31.into();
    assert_eq!(source(&edge.ask("cacher", &other)), "model");
    assert_eq!(
        source(&edge.ask("other-cacher", &chat(SMALL, "key order"))),
        "model"
    );
}

fn source(response: &Response) -> String {
    response
        .header("x-farthing-source")
        .unwrap_or_default()
        .to_string()
}

/// However the bytes are split on their way, the client gets the same bytes.
#[test]
fn streams_pass_byte_for_byte() {
    let edge = Edge::shared();
    let words = [
        "One ",
        "two\n",
        "\u{4e09} ",
        "\u{1f600} ",
        "\"five\"",
        "\\",
        " six.",
    ];
    let stream = event_stream(&words);
    let splits: [&[usize]; 6] = [
        &[1],
        &[2, 3, 5, 7, 11],
        &[64],
        &[1000, 1],
        &[13, 1, 200],
        &[99_999],
    ];
    for (number, sizes) in splits.iter().enumerate() {
        let prompt = format!("split {number}");
        edge.script(&prompt, Answer::sse(split(stream.as_bytes(), sizes)));
        let body = streamed(chat(SMALL, &prompt));
        let passed = edge.ask("streamer", &body);
        assert_eq!(passed.text(), stream, "{sizes:?}");
        let replayed = edge.ask("streamer", &body);
        assert_eq!(source(&replayed), "edge-cache");
        assert_eq!(replayed.header("content-type"), Some("text/event-stream"));
        assert_eq!(words_of(&replayed.text()), words.concat());
        let whole = edge.ask("streamer", &chat(SMALL, &prompt));
        assert_eq!(
            whole.json()["choices"][0]["message"]["content"],
            words.concat()
        );
        assert_eq!(whole.json()["usage"]["completion_tokens"], words.len());
    }
}

/// We ask upstreams for usage; a client that did not ask for it does not get it.
#[test]
fn usage_that_only_we_asked_for_is_taken_out() {
    let edge = Edge::shared();
    let words = ["Only ", "words."];
    let stream = event_stream(&words);
    for (number, size) in [1, 17, 4096].into_iter().enumerate() {
        let prompt = format!("usage {number}");
        edge.script(&prompt, Answer::sse(split(stream.as_bytes(), &[size])));
        let mut body = chat(SMALL, &prompt);
        body["stream"] = true.into();
        let response = edge.ask("streamer", &body);
        assert_eq!(
            response.text(),
            stream.replace(&usage_event(words.len()), "")
        );
        assert_eq!(
            edge.seen(&prompt)[0].json()["stream_options"]["include_usage"],
            true
        );
    }
}

/// The first events reach the client while the upstream still holds the last ones.
#[test]
fn a_stream_is_not_held_back() {
    let edge = Edge::shared();
    let stream = event_stream(&["early ", "late"]);
    let early = stream.find("late").expect("a late event");
    let early = stream[..early].rfind("data:").expect("its start");
    let gate = Gate::default();
    edge.script(
        "not held",
        Answer::sse(vec![
            Piece::Bytes(stream.as_bytes()[..early].to_vec()),
            Piece::Gate(gate.clone()),
            Piece::Bytes(stream.as_bytes()[early..].to_vec()),
        ]),
    );
    let mut connection = Connection::open(edge.address()).expect("Envoy listens");
    let body = streamed(chat(SMALL, "not held")).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer streamer"),
    ];
    connection
        .send("POST", "/v1/chat/completions", &headers, body.as_bytes())
        .expect("sent");
    connection.receive_head().expect("a head");
    let mut received = Vec::new();
    wait_until("the early events", || {
        received.extend(connection.receive_piece().expect("a piece"));
        received.len() >= early
    });
    gate.open();
    while let Ok(piece) = connection.receive_piece() {
        if piece.is_empty() {
            break;
        }
        received.extend(piece);
    }
    assert_eq!(String::from_utf8_lossy(&received), stream);
}
