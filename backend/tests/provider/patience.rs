//! How long a provider is waited for, how often it is asked, and when it is left alone.

use std::net::TcpListener;

use serde_json::json;

use super::client::Connection;
use super::failures::{asking, check, front};
use super::server::Server;
use super::stub::{Act, Stub, chat, error, stream};

fn metric(front: &Server, name: &str, labels: &str) -> u64 {
    front.metric(&format!(
        "{name}{{provider=\"only\",model=\"only\"{labels}}}"
    ))
}

#[test]
fn silence_is_bounded_at_every_stage() {
    let json_head =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
    let no_event = [stream(&[]), b": ping\n\n".to_vec()].concat();
    let cases: [(&str, Vec<u8>, bool); 5] = [
        ("answer_timeout_ms: 300", Vec::new(), false),
        ("idle_timeout_ms: 300", json_head.to_vec(), false),
        ("answer_timeout_ms: 300", json_head.to_vec(), false),
        ("first_byte_timeout_ms: 300", Vec::new(), true),
        ("first_byte_timeout_ms: 300", no_event, true),
    ];
    for (timeout, bytes, streamed) in cases {
        let stub = Stub::start(move |_| Act::Silence(bytes.clone()));
        let front = front(&[(&stub, "only", &format!(", {timeout}"))]);
        let reply = front.ask(&asking("only", json!({"stream": streamed})));
        check(&reply, 504, "provider_timeout");
        // What has timed out may still be generating: it is not paid for twice, and it is told.
        assert_eq!(stub.asked().len(), 1, "{timeout}");
        stub.wait_for_leaving(1);
        front.end();
    }
}

#[test]
fn a_stream_that_falls_silent_is_cut() {
    let stub = Stub::start(|_| Act::Silence(stream(&["Well"])));
    let front = front(&[(&stub, "only", ", idle_timeout_ms: 300")]);
    let reply = front.ask(&asking("only", json!({"stream": true})));
    check(&reply, 200, "Well");
    check(&reply, 200, "provider_timeout");
    assert!(!reply.text().contains("[DONE]"));
    stub.wait_for_leaving(1);
    front.end();
}

#[test]
fn a_client_that_leaves_is_not_waited_for() {
    for streamed in [false, true] {
        let stub = Stub::start(|_| Act::Silence(Vec::new()));
        let front = front(&[(&stub, "only", "")]);
        let mut connection = Connection::open(front.address);
        connection.send(&asking("only", json!({"stream": streamed})));
        while stub.asked().is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        drop(connection);
        stub.wait_for_leaving(1);
        front.end();
    }
}

#[test]
fn no_connection_is_a_failure_like_others() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = closed.local_addr().expect("it is bound");
    drop(closed);
    let front = Server::of(&format!(
        "providers: [{{name: only, api: openai, base_url: \"http://{address}/v1\", \
         retries: {{base_ms: 1}}}}]\nmodels: [{{id: only, provider: only}}]\n"
    ));
    check(
        &front.ask(&asking("only", json!({}))),
        502,
        "cannot be reached",
    );
    assert_eq!(metric(&front, "farthing_provider_retries_total", ""), 2);
    front.end();
}

#[test]
fn a_limited_rate_is_waited_out_as_the_provider_asks() {
    for (header, body) in [
        ("retry-after: 1\r\n", String::new()),
        ("retry-after-ms: 300\r\n", String::new()),
        (
            "x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 300ms\r\n",
            error("rate_limit_exceeded", "x"),
        ),
    ] {
        let stub = Stub::start(move |before| match before {
            0 => Act::Answer(429, header, body.clone()),
            _ => Act::Answer(200, "", chat("at last")),
        });
        let front = front(&[(&stub, "only", "")]);
        check(&front.ask(&asking("only", json!({}))), 200, "at last");
        assert_eq!(stub.asked().len(), 2, "{header}");
        assert_eq!(metric(&front, "farthing_provider_retries_total", ""), 1);
        front.end();
    }
}

#[test]
fn who_asks_to_be_left_alone_is_not_asked_by_others_either() {
    let stub = Stub::start(|_| Act::Answer(429, "retry-after: 60\r\n", String::new()));
    let front = front(&[(&stub, "only", "")]);
    for _ in 0..3 {
        let reply = front.ask(&asking("only", json!({})));
        check(&reply, 429, "rate_limit_exceeded");
        let wait = reply
            .header("retry-after")
            .and_then(|wait| wait.parse::<u32>().ok());
        assert!(
            wait.is_some_and(|wait| (50..=60).contains(&wait)),
            "{wait:?}"
        );
    }
    assert_eq!(stub.asked().len(), 1);
    assert_eq!(
        metric(
            &front,
            "farthing_provider_requests_total",
            ",outcome=\"resting\""
        ),
        2
    );
    front.end();
}

#[test]
fn a_dead_provider_gets_no_more_retries_than_its_budget() {
    let stub = Stub::start(|_| Act::Answer(500, "", String::new()));
    let more = ", retries: {base_ms: 1, max_ms: 1, budget_percent: 10, budget_per_second: 0}, \
                breaker: {failures_percent: 101}";
    let front = front(&[(&stub, "only", more)]);
    for _ in 0..100 {
        check(
            &front.ask(&asking("only", json!({}))),
            502,
            "provider_failed",
        );
    }
    // Ten at once, and then one for ten requests.
    let retries = metric(&front, "farthing_provider_retries_total", "");
    assert_eq!(stub.asked().len() as u64, 100 + retries);
    assert!((10..=20).contains(&retries), "{retries}");
    front.end();
}

#[test]
fn a_breaker_opens_and_one_request_closes_it_again() {
    let stub = Stub::start(|before| match before {
        0..5 => Act::Answer(500, "", String::new()),
        _ => Act::Answer(200, "", chat("back again")),
    });
    let more =
        ", retries: {attempts: 0}, breaker: {requests_min: 4, open_ms: 2000, open_max_ms: 2000}";
    let front = front(&[(&stub, "only", more)]);
    let ask = || front.ask(&asking("only", json!({})));
    let state = || metric(&front, "farthing_provider_breaker_state", "");
    for _ in 0..4 {
        check(&ask(), 502, "provider_failed");
    }
    let reply = ask();
    check(&reply, 503, "left alone");
    assert!(reply.header("retry-after").is_some());
    assert_eq!((stub.asked().len(), state()), (4, 2));
    // The first probe fails too, the second does not.
    let until = |asked: usize| {
        while stub.asked().len() < asked {
            std::thread::sleep(std::time::Duration::from_millis(20));
            ask();
        }
    };
    until(5);
    assert_eq!(state(), 2);
    until(6);
    assert_eq!(state(), 0);
    check(&ask(), 200, "back again");
    front.end();
}
