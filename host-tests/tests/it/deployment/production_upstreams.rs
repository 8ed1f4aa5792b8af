//! Upstreams that refuse or fail behind `envoy/production.yaml`: what they say of coming back
//! reaches the client, and nothing that may have been begun is sent again.

use super::production_edge::{ProductionEdge, stat};
use crate::envoy::bodies::{chat, completion, event_stream};
use crate::envoy::edge::{SMALL, wait_until};
use farthing_host_tests::stub::{Answer, Piece};
use serde_json::json;

/// What the backend says of a request that it has not begun.
const NOT_STARTED: &str = "x-farthing-not-started";

/// How often the replicas are asked while `ask` runs.
fn asked_during<T>(edge: &ProductionEdge, ask: impl FnOnce() -> T) -> (usize, T) {
    let before: usize = edge.asked().iter().sum();
    let outcome = ask();
    (edge.asked().iter().sum::<usize>() - before, outcome)
}

#[test]
fn when_to_come_back_reaches_the_client() {
    let edge = ProductionEdge::start(|_, request| {
        let body = request.json();
        let prompt = body["messages"][0]["content"].as_str().unwrap_or_default();
        let error = json!({"error": {"message": "later", "type": "server_error", "param": null,
            "code": "overloaded"}});
        let status = if prompt.contains("429") { 429 } else { 503 };
        let refusal = Answer::json(status, error.to_string()).header("retry-after", "17");
        match prompt.contains("not begun") {
            true => refusal.header(NOT_STARTED, "true"),
            false => refusal,
        }
    });
    for (prompt, status, attempts) in [
        ("429", 429, 1),
        ("503", 503, 1),
        ("429, not begun", 429, 2),
        ("503, not begun", 503, 2),
    ] {
        let (asked, answered) = asked_during(&edge, || edge.ask(&chat(SMALL, prompt)));
        let response = answered.response;
        assert_eq!((response.status, asked), (status, attempts), "{prompt}");
        assert_eq!(response.header("retry-after"), Some("17"), "{prompt}");
        assert_eq!(response.json()["error"]["code"], "overloaded", "{prompt}");
    }
}

/// The answers are cut after their heads, within their bodies, and before their last byte.
#[test]
fn what_was_begun_is_not_sent_again() {
    let whole = |prompt: &str| match prompt.contains("stream") {
        true => Answer::sse(vec![Piece::Bytes(
            event_stream(&["so", "far"]).into_bytes(),
        )]),
        false => completion("so far"),
    };
    let edge = ProductionEdge::start(move |_, request| {
        let body = request.json();
        let prompt = body["messages"][0]["content"].as_str().unwrap_or_default();
        let mut answer = whole(prompt);
        let Some(Piece::Bytes(bytes)) = answer.pieces.pop() else {
            return Answer::reset();
        };
        let at = match prompt.split(' ').next() {
            Some("first") => 1,
            Some("half") => bytes.len() / 2,
            Some("last") => bytes.len() - 1,
            Some("head") => 0,
            _ => bytes.len(),
        };
        let (sent, kept) = bytes.split_at(at);
        if !sent.is_empty() {
            answer.pieces.push(Piece::Bytes(sent.to_vec()));
        }
        if !kept.is_empty() {
            answer.pieces.push(Piece::Close);
            // Counted in its length, and never sent.
            answer.pieces.push(Piece::Bytes(kept.to_vec()));
        }
        answer
    });
    let aborts = "wasmcustom.farthing_aborts_total";
    let mut cut = 0;
    for prompt in ["head", "first byte", "half", "last byte"] {
        for form in ["whole", "stream"] {
            let mut body = chat(SMALL, &format!("{prompt} {form}"));
            body["stream"] = (form == "stream").into();
            let (asked, answered) = asked_during(&edge, || edge.try_ask(&body));
            assert_eq!(asked, 1, "cut after the {prompt}, {form}");
            let is_whole = answered.is_ok_and(|answered| answered.response.status == 200);
            assert!(!is_whole, "cut after the {prompt}, {form}");
            cut += 1;
            wait_until("it is settled", || stat(&edge.envoy, aborts) == cut);
        }
    }
    let (asked, answered) = asked_during(&edge, || edge.ask(&chat(SMALL, "all of it")));
    assert_eq!((asked, answered.response.status), (1, 200));
}
