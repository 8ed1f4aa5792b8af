//! Identical requests under way on one worker: one goes upstream, the others get its answer.

use super::bodies::{chat, completion, event_stream, streamed, words_of};
use super::edge::{Edge, SMALL, wait_until};
use farthing_host_tests::client::{Connection, Response};
use farthing_host_tests::stub::{Answer, Gate, Piece, split};
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

const WAITS: &str = "farthing_single_flight_waits_total";
const HITS: &str = "farthing_single_flight_hits_total";

/// The Envoy of these tests has one worker, so that identical requests meet.
fn edge() -> &'static Edge {
    static SHARED: OnceLock<Edge> = OnceLock::new();
    SHARED.get_or_init(|| Edge::start(1, |_| {}))
}

/// The same answer, held back until the gate opens.
fn gated(mut answer: Answer, gate: &Gate) -> Answer {
    answer.pieces.insert(0, Piece::Gate(gate.clone()));
    answer
}

/// Sends a request and reads nothing yet.
fn begin(tenant: &str, body: &Value) -> Connection {
    let credential = format!("Bearer {tenant}");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", credential.as_str()),
    ];
    let mut connection = Connection::open(edge().address()).expect("Envoy listens");
    connection
        .send(
            "POST",
            "/v1/chat/completions",
            &headers,
            body.to_string().as_bytes(),
        )
        .expect("sent");
    connection
}

/// A leader that is upstream, with its answer behind a gate, and followers that wait for it.
struct Flight {
    prompt: String,
    gate: Gate,
    leader: Connection,
    followers: Vec<Connection>,
    hits_before: u64,
    /// One flight at a time, for the metrics are of all.
    _turn: MutexGuard<'static, ()>,
}

impl Flight {
    fn start(prompt: &str, answer: Answer, leader: &Value, followers: &[Value]) -> Flight {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = Gate::default();
        edge().script(prompt, gated(answer, &gate));
        let hits_before = edge().metric(HITS);
        let waits_before = edge().metric(WAITS);
        let leader = begin("flyer", leader);
        wait_until("the leader is upstream", || edge().seen(prompt).len() == 1);
        let followers: Vec<_> = followers.iter().map(|body| begin("flyer", body)).collect();
        edge().wait_for_metric(WAITS, waits_before + followers.len() as u64);
        Flight {
            prompt: prompt.to_string(),
            gate,
            leader,
            followers,
            hits_before,
            _turn: turn,
        }
    }

    /// Lets the leader's answer go; from now on the upstream answers the prompt with `next`.
    fn land(&self, next: Answer) {
        edge().script(&self.prompt, next);
        self.gate.open();
    }

    /// Every follower gets an answer of that content, `hits` of them the leader's; the upstream saw
    /// the prompt so often.
    fn check(mut self, expected: &str, hits: u64, upstream: usize) -> Response {
        let answers: Vec<Response> = (self.followers.iter_mut())
            .map(|follower| follower.receive().expect("an answer"))
            .collect();
        for answer in &answers {
            assert_eq!(
                (answer.status, content(answer)),
                (200, expected.to_string())
            );
        }
        let sources = answers
            .iter()
            .map(|answer| answer.header("x-farthing-source"));
        let from_cache = sources.filter(|source| *source == Some("edge-cache"));
        assert_eq!(from_cache.count() as u64, hits);
        edge().wait_for_metric(HITS, self.hits_before + hits);
        assert_eq!(edge().seen(&self.prompt).len(), upstream);
        self.leader.receive().expect("an answer")
    }
}

fn content(response: &Response) -> String {
    if response.header("content-type") == Some("text/event-stream") {
        return words_of(&response.text());
    }
    let json = response.json();
    json["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_default()
        .to_string()
}

#[test]
fn fifty_at_once_are_one_upstream() {
    let prompt = "fifty";
    let followers: Vec<Value> = (0..50)
        .map(|number| match number % 3 {
            0 => streamed(chat(SMALL, prompt)),
            _ => chat(SMALL, prompt),
        })
        .collect();
    let flight = Flight::start(
        prompt,
        completion("one answer"),
        &chat(SMALL, prompt),
        &followers,
    );
    flight.gate.open();
    let leader = flight.check("one answer", 50, 1);
    assert_eq!(leader.header("x-farthing-source"), Some("model"));
    assert_eq!(content(&leader), "one answer");
}

#[test]
fn a_streamed_leader_has_plain_followers() {
    let (prompt, words) = ("streamed leader", ["One ", "stream ", "for ", "all."]);
    let pieces = split(event_stream(&words).as_bytes(), &[40, 7]);
    let leader = streamed(chat(SMALL, prompt));
    let followers = [
        chat(SMALL, prompt),
        streamed(chat(SMALL, prompt)),
        chat(SMALL, prompt),
    ];
    let flight = Flight::start(prompt, Answer::sse(pieces), &leader, &followers);
    flight.gate.open();
    assert_eq!(
        content(&flight.check(&words.concat(), 3, 1)),
        words.concat()
    );
}

#[test]
fn a_leader_that_fails_hands_over() {
    let error = json!({"error": {"message": "down", "type": "server_error", "param": null,
        "code": "down"}});
    // A virtual model: what goes upstream is not what came.
    let body = chat("auto", "failing leader");
    let failing = Answer::json(500, error.to_string());
    let flight = Flight::start(
        "failing leader",
        failing,
        &body,
        &[body.clone(), body.clone()],
    );
    flight.land(completion("second try"));
    let leader = flight.check("second try", 1, 2);
    assert_eq!(leader.status, 500);
    let seen = edge().seen("failing leader");
    assert_eq!(seen[0].body, seen[1].body);
    assert_eq!(seen[1].json()["model"], SMALL);
    assert_eq!(
        seen[0].header("x-farthing-prefix"),
        seen[1].header("x-farthing-prefix")
    );
}

#[test]
fn a_leader_that_leaves_hands_over() {
    let body = chat(SMALL, "leaving leader");
    let followers = [body.clone(), body.clone(), body.clone()];
    let mut flight = Flight::start("leaving leader", completion("late"), &body, &followers);
    edge().script("leaving leader", completion("in time"));
    // It leaves, and so does the follower that is not first: only the other two get an answer.
    flight.leader = begin("flyer", &chat(SMALL, "somebody else"));
    drop(flight.followers.remove(1));
    flight.check("in time", 1, 2);
}

#[test]
fn what_is_not_to_be_stored_is_not_shared() {
    let body = chat(SMALL, "not to be stored");
    let private = completion("private").header("cache-control", "no-store");
    let followers = [body.clone(), body.clone(), body.clone()];
    let flight = Flight::start("not to be stored", private.clone(), &body, &followers);
    flight.land(private);
    flight.check("private", 0, 4);
}

#[test]
fn other_tenants_do_not_wait() {
    let body = chat(SMALL, "two tenants");
    let flight = Flight::start(
        "two tenants",
        completion("first"),
        &body,
        std::slice::from_ref(&body),
    );
    edge().script("two tenants", completion("second"));
    let other = edge().ask("another flyer", &body);
    assert_eq!(content(&other), "second");
    flight.gate.open();
    flight.check("first", 1, 2);
}
