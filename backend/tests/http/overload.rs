//! Ten times as many requests as the server can answer. What it accepts it finishes, what it cannot
//! take it refuses at once, and once the flood ends it is as before. Latencies are printed and not
//! judged, as they are the machine's: `cargo test --release -p farthing-backend --test http
//! overload
//! -- --nocapture`, with `FARTHING_OVERLOAD_S=60` for a minute of it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Connection, Reply, post};
use super::server::{CHAT, Server};

/// Little enough waits that every accepted request is answered within a second or two.
const CONFIG: &str = "queue_max: 8\nrunning_max: 4\n";
/// Clients of the flood: more than are accepted together, so that somebody is always refused.
const CLIENTS: usize = 32;
/// Requests by which the capacity is measured.
const MEASURED: usize = 24;
const FLOOD_FACTOR: f64 = 10.0;

/// What became of the flood.
#[derive(Default)]
struct Fates {
    answered: Vec<Duration>,
    refused: Vec<Duration>,
}

fn request() -> Vec<u8> {
    let body = json!({
        "model": CHAT,
        "messages": [{"role": "user", "content": "Name three colours of the rainbow."}],
        "max_tokens": 16,
        "temperature": 0,
    });
    post("/v1/chat/completions", &[], body.to_string())
}

fn content(reply: &Reply) -> String {
    reply.json()["choices"][0]["message"]["content"].to_string()
}

/// Requests a second that four clients get answered.
fn capacity(server: &Server) -> f64 {
    let left = AtomicUsize::new(MEASURED);
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = Connection::open(server.address);
                let take = || left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
                while take().is_ok() {
                    connection.send(&request());
                    assert_eq!(connection.reply().expect("an answer").status, 200);
                }
            });
        }
    });
    MEASURED as f64 / started.elapsed().as_secs_f64()
}

/// Sends requests at a fixed rate, whatever becomes of those before, as far as clients are free.
fn flood(server: &Server, rate: f64, time: Duration, expected: &str) -> Fates {
    let fates = Mutex::new(Fates::default());
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    let client = || {
        let mut connection = Connection::open(server.address);
        loop {
            let number = next.fetch_add(1, Relaxed);
            let due = Duration::from_secs_f64(number as f64 / rate);
            if due >= time {
                return;
            }
            thread::sleep(due.saturating_sub(started.elapsed()));
            let sent = Instant::now();
            connection.send(&request());
            let reply = connection.reply().expect("an answer, or a refusal");
            let elapsed = sent.elapsed();
            let mut fates = fates.lock().expect("no client panics");
            if reply.status == 200 {
                assert_eq!(content(&reply), expected, "overload changes no answer");
                fates.answered.push(elapsed);
            } else {
                assert_eq!(reply.status, 429, "{}", reply.text());
                assert!(reply.header("retry-after").is_some());
                fates.refused.push(elapsed);
            }
            if reply.header("connection") == Some("close") {
                connection = Connection::open(server.address);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(client);
        }
    });
    fates.into_inner().expect("no client panics")
}

fn describe(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let (count, p50, p99, max) = (times.len(), at(0.5), at(0.99), at(1.0));
    println!("{what}: {count}, p50 {p50:?}, p99 {p99:?}, most {max:?}");
}

#[test]
fn what_is_accepted_in_an_overload_is_finished_and_the_rest_refused() {
    let seconds = std::env::var("FARTHING_OVERLOAD_S");
    let seconds: f64 = seconds.map_or(5.0, |seconds| seconds.parse().expect("seconds"));
    let server = Server::start(CONFIG);
    let expected = content(&server.ask(&request()));
    let rate = FLOOD_FACTOR * capacity(&server);
    let mut fates = flood(&server, rate, Duration::from_secs_f64(seconds), &expected);
    let ended = Instant::now();
    let after = server.ask(&request());
    println!(
        "{rate:.1} requests/s for {seconds} s; recovered within {:?}",
        ended.elapsed()
    );
    assert_eq!(after.status, 200, "{}", after.text());
    assert_eq!(content(&after), expected);
    assert!(!fates.answered.is_empty() && !fates.refused.is_empty());
    describe("answered", &mut fates.answered);
    describe("refused", &mut fates.refused);
    for (gauge, name) in [
        (server.engine_metric("farthing_engine_running"), "running"),
        (server.engine_metric("farthing_engine_waiting"), "waiting"),
        (
            server.engine_metric("farthing_engine_blocks_used"),
            "blocks used",
        ),
        (
            server.engine_metric("farthing_engine_failed_total"),
            "failed",
        ),
        (server.metric("farthing_engine_queued"), "queued"),
    ] {
        assert_eq!(gauge, 0, "{name}");
    }
    let finished = server.engine_metric("farthing_engine_finished_total") as usize;
    assert_eq!(finished, fates.answered.len() + MEASURED + 2);
}
