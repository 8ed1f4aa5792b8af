//! Connections that misbehave: slow, cut, pipelined, ambiguous. Each is answered or closed, and
//! none makes two requests out of one.

use serde_json::json;

use super::client::{Connection, get, post};
use super::server::{CHAT, Server};

/// A server whose timers fire soon enough for a test; a loaded machine needs this much.
const SHORT_TIMEOUTS: &str = "http: {header_timeout_ms: 1500, body_timeout_ms: 1500}";

#[test]
fn slow_headers_are_closed_by_the_timer() {
    let server = Server::start(SHORT_TIMEOUTS);
    let mut connection = Connection::open(server.address);
    connection.send(b"GET /healthz HTTP/1.1\r\nhost: te");
    assert_eq!(
        connection.until_closed(),
        b"",
        "the rest never comes, and neither does an answer"
    );
    // The same timer ends a connection on which nothing comes at all.
    assert_eq!(Connection::open(server.address).until_closed(), b"");
    // A body that stops halfway gets an answer, as its request is known.
    let mut connection = Connection::open(server.address);
    connection.send(b"POST /v1/completions HTTP/1.1\r\nhost: t\r\ncontent-length: 100\r\n\r\n{");
    let reply = connection.reply().expect("an answer");
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (408, &json!("request_timeout"))
    );
}

#[test]
fn keep_alive_serves_many_and_http_1_0_one() {
    let mut connection = Connection::open(Server::shared().address);
    for _ in 0..3 {
        connection.send(&get("/healthz"));
        assert_eq!(connection.reply().map(|reply| reply.status), Some(200));
        connection.send(&post("/v1/completions", &[], "{}"));
        assert_eq!(connection.reply().map(|reply| reply.status), Some(400));
    }
    let mut connection = Connection::open(Server::shared().address);
    connection.send(b"GET /healthz HTTP/1.0\r\n\r\n");
    let bytes = connection.until_closed();
    assert!(
        bytes.starts_with(b"HTTP/1.0 200 "),
        "{}",
        String::from_utf8_lossy(&bytes)
    );
}

#[test]
fn a_chunked_body_is_read() {
    let body = json!({"model": CHAT, "prompt": "a", "max_tokens": 1}).to_string();
    let (head, tail) = body.split_at(7);
    let request = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x}\r\n{head}\r\n{:x}\r\n{tail}\r\n0\r\n\r\n",
        head.len(),
        tail.len()
    );
    assert_eq!(Server::shared().ask(request.as_bytes()).status, 200);
}

/// Sends `head` and what hides behind it; the server must answer at most once, with a refusal, and
/// close.
#[track_caller]
fn check_smuggling(head: &str, body: &str) {
    let hidden = "GET /v1/models HTTP/1.1\r\nhost: t\r\n\r\n";
    let mut connection = Connection::open(Server::shared().address);
    let request = format!("POST /v1/completions HTTP/1.1\r\n{head}\r\n\r\n{body}{hidden}{hidden}");
    connection.send(request.as_bytes());
    let bytes = connection.until_closed();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.matches("HTTP/1.1 ").count() <= 1, "{head}: {text}");
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 400 "),
        "{head}: {text}"
    );
}

#[test]
fn ambiguous_lengths_are_refused_and_closed() {
    let chunked = "transfer-encoding: chunked";
    check_smuggling(
        &format!("host: t\r\ncontent-length: 6\r\n{chunked}"),
        "0\r\n\r\n",
    );
    check_smuggling(
        &format!("host: t\r\n{chunked}\r\ncontent-length: 6"),
        "0\r\n\r\n",
    );
    check_smuggling(
        &format!("host: t\r\n{chunked}\r\n{chunked}, identity"),
        "0\r\n\r\n",
    );
    check_smuggling("host: t\r\ncontent-length: 2\r\ncontent-length: 3", "{}");
    check_smuggling("host: t\r\ncontent-length: +2", "{}");
    check_smuggling("host: t\r\ncontent-length: -2", "{}");
    check_smuggling("host: t\r\ncontent-length: 2, 2", "{}");
    check_smuggling("host: t\r\ncontent-length: 0x2", "{}");
    check_smuggling("host: t\r\ncontent-length: 99999999999999999999999", "{}");
    check_smuggling("host: t\r\ntransfer-encoding: xchunked", "0\r\n\r\n");
    check_smuggling("host: t\r\ntransfer-encoding: chunked, gzip", "0\r\n\r\n");
    check_smuggling("host: t\r\ntransfer-encoding : chunked", "0\r\n\r\n");
    check_smuggling("host: t\r\ntransfer-encoding:\r\n chunked", "0\r\n\r\n");
    check_smuggling(
        &format!("host: t\r\n{chunked}"),
        "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    );
    check_smuggling(
        &format!("host: t\r\n{chunked}"),
        "2;x=\n\r\n{}\r\n0\r\n\r\n",
    );
    check_smuggling(&format!("host: t\r\n{chunked}"), "-2\r\n{}\r\n0\r\n\r\n");
    check_smuggling("host: t\r\nx: a\0b\r\ncontent-length: 2", "{}");
    check_smuggling("host: t\r\nx y: a\r\ncontent-length: 2", "{}");
}

#[test]
fn request_lines_that_are_none() {
    for line in [
        "GET  /healthz HTTP/1.1",
        "GET /healthz HTTP/9.9",
        "\x16\x03\x01",
        "G<T / HTTP/1.1",
    ] {
        let mut connection = Connection::open(Server::shared().address);
        connection.send(format!("{line}\r\n\r\n").as_bytes());
        let bytes = connection.until_closed();
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 400 "),
            "{line:?}: {text}"
        );
    }
}

#[test]
fn connections_over_the_limit_wait_for_a_place() {
    let server = Server::start("http: {connections_max: 1}");
    let mut first = Connection::open(server.address);
    first.send(&get("/healthz"));
    assert!(first.reply().is_some());
    let mut second = Connection::open(server.address);
    second.send(&get("/healthz"));
    drop(first);
    assert_eq!(second.reply().map(|reply| reply.status), Some(200));
}
