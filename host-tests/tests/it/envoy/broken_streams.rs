//! Streams that are malformed or cut on their way: the client gets every byte of them as they came,
//! and nobody is ever given them again. One thing is missing at most: the beginning of an event, if
//! the connection broke within it while the filter had to see the whole of it, because it alone had
//! asked for the usage. Envoy lets nobody write then, and a reader of events drops such a one.

use super::bodies::{chat, event_stream};
use super::edge::{Edge, SMALL};
use farthing_host_tests::client::Connection;
use farthing_host_tests::stub::{Answer, Piece, split};
use serde_json::Value;

/// How such a stream ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// As a whole response does, whatever is missing of its events.
    Orderly,
    /// With its connection.
    Cut,
}

/// Has the usage of an answer to be asked for by the filter?
#[derive(Clone, Copy, Debug, PartialEq)]
enum Usage {
    AskedFor,
    LeftToTheFilter,
}

/// The client gets these bytes, twice, both times from the upstream.
#[track_caller]
fn check(name: &str, stream: &[u8], end: End) {
    let edge = Edge::shared();
    for usage in [Usage::AskedFor, Usage::LeftToTheFilter] {
        for sizes in [&[1][..], &[7, 64, 3], &[99_999]] {
            let prompt = format!("broken: {name}, {end:?}, {usage:?}, {sizes:?}");
            // A byte at a time takes long where there are many.
            if stream.len() > 9_999 && sizes == [1] {
                continue;
            }
            let mut pieces = split(stream, sizes);
            if end == End::Cut {
                pieces.push(Piece::Close);
            }
            edge.script(&prompt, Answer::sse(pieces));
            for time in [1, 2] {
                let (source, received) = ask(edge, &prompt, usage);
                assert_eq!(source, "model", "{prompt}, time {time}");
                let expected = match (end, usage) {
                    (End::Cut, Usage::LeftToTheFilter) => whole_events(stream),
                    _ => stream,
                };
                assert!(
                    received == expected,
                    "{prompt}, time {time}: {} instead of {}",
                    received.escape_ascii(),
                    expected.escape_ascii()
                );
                assert_eq!(edge.seen(&prompt).len(), time, "{prompt}");
            }
        }
    }
}

/// A stream without the event that it breaks off in; its lines end in line feeds.
fn whole_events(stream: &[u8]) -> &[u8] {
    let ends = stream.windows(2).rposition(|end| end == b"\n\n");
    &stream[..ends.map_or(0, |end| end + 2)]
}

/// Where the answer came from, and all bytes of it that came.
fn ask(edge: &Edge, prompt: &str, usage: Usage) -> (String, Vec<u8>) {
    let mut body = chat(SMALL, prompt);
    body["stream"] = true.into();
    if usage == Usage::AskedFor {
        body["stream_options"]["include_usage"] = Value::Bool(true);
    }
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer reader"),
    ];
    let mut connection = Connection::open(edge.address()).expect("Envoy listens");
    connection
        .send(
            "POST",
            "/v1/chat/completions",
            &headers,
            body.to_string().as_bytes(),
        )
        .expect("sent");
    let head = connection.receive_head().expect("a head");
    let source = head.header("x-farthing-source").unwrap_or_default();
    let mut received = Vec::new();
    while let Ok(piece) = connection.receive_piece()
        && !piece.is_empty()
    {
        received.extend(piece);
    }
    (source.to_string(), received)
}

/// The events of a good stream before its usage and its end.
fn good_events() -> String {
    let stream = event_stream(&["Well ", "begun"]);
    let (events, _) = stream.rsplit_once("data: {").expect("a usage event");
    events.to_string()
}

#[test]
fn what_is_no_event_stream_passes() {
    for (name, stream) in [
        ("no events", "An error page, 2 < 3 & all that.\n"),
        ("data that is no JSON", "data: so so\n\ndata: [DONE]\n\n"),
        (
            "JSON that is no chunk",
            "data: {\"choices\": 7}\n\ndata: [DONE]\n\n",
        ),
        ("a list", "data: [1, 2]\n\ndata: null\n\ndata: [DONE]\n\n"),
        (
            "JSON that is cut",
            "data: {\"choices\": [{\"delta\n\ndata: [DONE]\n\n",
        ),
        ("only an end", "data: [DONE]\n\n"),
        ("a mark of its byte order", "\u{feff}data: {}\n\n"),
        ("an event without an end", "data: {\"choices\": []}"),
        ("no space, no colon", "data:{}\n\ndata\n\nretry: x\n\n:\n\n"),
        (
            "other line ends",
            "data: {}\r\rdata: {}\r\n\ndata: [DONE]\r\r",
        ),
        ("nothing but line ends", "\n\n\r\n\r\r\n\n"),
    ] {
        check(name, stream.as_bytes(), End::Orderly);
    }
    check(
        "bytes that are no text",
        b"data: \xff\xfe\x00\n\n\x80",
        End::Orderly,
    );
    let endless = format!("data: {}", "x".repeat(300_000));
    check(
        "a line beyond every limit",
        endless.as_bytes(),
        End::Orderly,
    );
}

#[test]
fn a_damaged_event_between_good_ones_passes() {
    let events = good_events();
    for damage in [
        "data: {

",
        "data: {\"error\": {\"message\": \"m\"}}

",
    ] {
        let stream = format!("{damage}{events}{damage}data: [DONE]\n\n");
        check(
            &format!("damage {damage:?}"),
            stream.as_bytes(),
            End::Orderly,
        );
    }
}

#[test]
fn a_stream_without_its_end_passes_as_far_as_it_came() {
    let events = good_events();
    let bytes = events.as_bytes();
    let lengths = [1, 5, bytes.len() / 2, bytes.len() - 1, bytes.len()];
    for length in lengths {
        for end in [End::Orderly, End::Cut] {
            check(&format!("{length} bytes"), &bytes[..length], end);
        }
    }
}
