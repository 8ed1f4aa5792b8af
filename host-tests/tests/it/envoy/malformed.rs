//! Requests that are no HTTP, or that two readers could take for different requests, through Envoy
//! with the filter. Most are refused, and the upstream sees nothing of them. Some of them Envoy
//! writes anew in the one way that HTTP allows, as RFC 9112 lets it: the upstream then sees what
//! Envoy and the filter saw, request for request. Whoever comes next is served.

use super::bodies::chat;
use super::edge::{Edge, SMALL};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

/// Envoy closes a connection that it refused within about a second.
const SILENCE_MAX: Duration = Duration::from_secs(20);
const HEAD: &str = "POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\n\
    authorization: Bearer smuggler\r\ncontent-type: application/json\r\n";
const PROMPT: &str = "let me in";
/// What an upstream would take for a request of its own if it read the one before differently.
const SMUGGLED: &str = "GET /v1/models HTTP/1.1\r\nhost: smuggled\r\n\r\n";

/// Sends bytes while it reads, and returns all that came back until the connection was closed or
/// went silent.
fn exchange(edge: &Edge, request: &[u8]) -> String {
    exchange_until(edge, request, usize::MAX)
}

/// The same until so many responses have begun.
fn exchange_until(edge: &Edge, request: &[u8], responses: usize) -> String {
    let mut stream = TcpStream::connect(edge.address()).expect("Envoy listens");
    stream.set_read_timeout(Some(SILENCE_MAX)).expect("a limit");
    let mut out = stream.try_clone().expect("a second handle");
    thread::scope(|scope| {
        // Envoy may close before it has read all of it.
        scope.spawn(move || {
            let _ = out.write_all(request);
        });
        let mut received = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(length) = stream.read(&mut piece)
            && length > 0
        {
            received.extend_from_slice(&piece[..length]);
            let text = String::from_utf8_lossy(&received);
            if text.matches("HTTP/1.1 ").count() >= responses && text.ends_with('}') {
                break;
            }
        }
        String::from_utf8_lossy(&received).into_owned()
    })
}

/// The statuses of every response in what came back.
fn statuses(received: &str) -> Vec<u16> {
    let lines = received.split("HTTP/1.1 ").skip(1);
    lines
        .map(|line| line[..3].parse().expect("a status"))
        .collect()
}

/// One refusal at most, nothing upstream, and the next request is served.
#[track_caller]
fn check_refused(edge: &Edge, name: &str, request: &[u8], expected: &[u16]) {
    let before = (edge.small.requests_total(), edge.large.requests_total());
    let statuses = statuses(&exchange(edge, request));
    println!("{name}: {statuses:?}");
    assert!(statuses.len() <= 1, "{name}: two answers, {statuses:?}");
    let refused = statuses.iter().all(|status| expected.contains(status));
    assert!(refused, "{name}: {statuses:?}");
    let after = (edge.small.requests_total(), edge.large.requests_total());
    assert_eq!(before, after, "{name} reached an upstream");
    let next = edge.ask("next", &chat(SMALL, &format!("after {name}")));
    assert_eq!(next.status, 200, "after {name}");
    let seen = edge.small.requests_total();
    assert_eq!(seen, before.0 + 1, "{name}: the upstream is out of step");
}

/// A request that would be served if it were sent as it should be.
fn body() -> String {
    let mut body = chat(SMALL, PROMPT);
    // Never answered from the cache.
    body["temperature"] = 1.into();
    body.to_string()
}

/// The body in one chunk, `N` in the line with its size being that, and a request behind it for
/// whoever thinks that the first was over before.
fn chunked(size_line: &str) -> String {
    let body = body();
    let line = size_line.replace('N', &format!("{:x}", body.len()));
    format!("{HEAD}transfer-encoding: chunked\r\n\r\n{line}{body}\r\n0\r\n\r\n{SMUGGLED}")
}

/// The same with a length, `N` being that, and further header lines.
fn with_lines(lines: &str) -> String {
    let body = body();
    let lines = lines.replace('N', &body.len().to_string());
    format!("{HEAD}{lines}\r\n{body}{SMUGGLED}")
}

fn with_header(header: &str) -> String {
    with_lines(&format!("{header}content-length: N\r\n"))
}

#[test]
fn heads_that_two_readers_take_for_different_ones() {
    let edge = Edge::start(1, |_| {});
    let good = with_header("");
    let vectors = [
        (
            "a line that begins with a space",
            with_header(" x-a: b\r\n"),
        ),
        ("a zero byte in a value", with_header("x-a: b\0c\r\n")),
        ("a zero byte in a name", with_header("x\0a: b\r\n")),
        (
            "a control character in a value",
            with_header("x-a: b\x01c\r\n"),
        ),
        ("a space before a colon", with_header("x-a : b\r\n")),
        ("a header without a name", with_header(": b\r\n")),
        ("a header without a colon", with_header("x-a\r\n")),
        ("no host", good.replace("host: t\r\n", "")),
        ("a zero byte in the path", good.replacen("/v1", "/\0v1", 1)),
        ("no version", good.replacen(" HTTP/1.1", "", 1)),
        ("another version", good.replacen("HTTP/1.1", "HTTP/3.7", 1)),
    ];
    for (name, request) in vectors {
        // 415: that line has become part of the content type.
        check_refused(&edge, name, request.as_bytes(), &[400, 415, 426, 505]);
    }
}

#[test]
fn lengths_that_two_readers_take_for_different_ones() {
    let edge = Edge::start(1, |_| {});
    for lengths in [
        "N\r\ncontent-length: 3",
        "N, N",
        "N, 3",
        "+N",
        "-N",
        "0xN",
        "N N",
        "",
        "Ne0",
        "99999999999999999999N",
    ] {
        let request = with_lines(&format!("content-length: {lengths}\r\n"));
        check_refused(&edge, lengths, request.as_bytes(), &[400]);
    }
    let both = chunked("N\r\n").replacen("transfer", "content-length: 9\r\ntransfer", 1);
    check_refused(&edge, "a length and chunks", both.as_bytes(), &[400]);
    for coding in [
        "xchunked",
        "chunked, identity",
        "identity, chunked",
        "chunked, chunked",
        "\u{b}chunked",
        "chunked\r\ntransfer-encoding: identity",
        "gzip, chunked",
    ] {
        let request = chunked("N\r\n").replacen(": chunked", &format!(": {coding}"), 1);
        check_refused(&edge, coding, request.as_bytes(), &[400, 501]);
    }
    let old = chunked("N\r\n").replacen("HTTP/1.1", "HTTP/1.0", 1);
    check_refused(&edge, "chunks in HTTP/1.0", old.as_bytes(), &[400, 426]);
}

#[test]
fn chunks_that_two_readers_take_for_different_ones() {
    let edge = Edge::start(1, |_| {});
    for line in [
        "N;a\nx\r\n",
        "N;a=\"\n\"\r\n",
        "N\n",
        "0xN\r\n",
        "+N\r\n",
        "-N\r\n",
        " N\r\n",
        "g\r\n",
        "\r\n",
        "fffffffffffffffffN\r\n",
        "1\r\n",
    ] {
        check_refused(
            &edge,
            &format!("{line:?}"),
            chunked(line).as_bytes(),
            &[400],
        );
    }
}

#[test]
fn what_envoy_writes_anew_is_the_same_for_all() {
    let edge = Edge::start(1, |_| {});
    let good = with_header("");
    let ends = chunked("N\r\n").replace("\r\n0\r\n\r\n", "\n0\r\n\r\n");
    for (name, request) in [
        ("nothing wrong", good.clone()),
        ("chunks", chunked("N\r\n")),
        ("a folded header", with_header("x-a: b\r\n c\r\n")),
        ("a folded length", with_lines("content-length:\r\n N\r\n")),
        ("heads with line feeds alone", good.replace("\r\n", "\n")),
        ("one line that ends in a line feed", with_header("x-a: b\n")),
        ("a bare carriage return", with_header("x-a: b\rc\r\n")),
        ("a zero byte in a chunk's extension", chunked("N;\0\r\n")),
        ("a blank after a chunk's size", chunked("N \r\n")),
        ("a chunk that ends in a line feed", ends),
    ] {
        let before = edge.small.requests().len();
        let statuses = statuses(&exchange_until(&edge, request.as_bytes(), 2));
        assert_eq!(statuses, [200, 200], "{name}");
        let seen = edge.small.requests().split_off(before);
        let methods: Vec<&str> = seen.iter().map(|seen| seen.method.as_str()).collect();
        assert_eq!(methods, ["POST", "GET"], "{name}");
        assert_eq!(
            seen[0].json()["messages"],
            chat(SMALL, PROMPT)["messages"],
            "{name}"
        );
        for (header, value) in &seen[0].headers {
            let broken = value.contains(['\r', '\n', '\0']);
            assert!(!broken, "{name}: {header}: {}", value.escape_debug());
        }
        assert_eq!(seen[1].header("host"), Some("smuggled"), "{name}");
    }
}

/// Envoy's limits are 100 headers and 32 KiB of them.
#[test]
fn heads_that_are_too_large() {
    let edge = Edge::start(1, |_| {});
    let many: String = (0..10_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let some: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let huge = "y".repeat(1 << 20);
    for (name, header) in [
        ("10,000 headers", many),
        ("200 headers", some),
        ("a huge header", format!("x-huge: {huge}\r\n")),
        ("a huge name", format!("{huge}: y\r\n")),
    ] {
        let request = with_header(&header);
        let received = exchange(&edge, request.as_bytes());
        assert_eq!(statuses(&received), [431], "{name}");
        check_refused(&edge, name, request.as_bytes(), &[431]);
    }
    let path = format!("POST /{huge} HTTP/1.1\r\nhost: t\r\n\r\n");
    check_refused(&edge, "a huge path", path.as_bytes(), &[400, 414, 431]);
}
