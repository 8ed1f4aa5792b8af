//! A budget holds under concurrency, across workers: reserve, settle, refund.

use super::bodies::{chat, completion};
use super::edge::{
    Edge, LIMITED_NANOUSD, SMALL, SMALL_INPUT_NANOUSD, SMALL_OUTPUT_NANOUSD, wait_until,
};
use farthing_host_tests::client::Response;
use farthing_host_tests::stub::{Gate, Piece};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Clients that ask at the same moment.
const CLIENTS: usize = 64;

#[test]
fn concurrent_requests_cannot_overspend() {
    let edge = Edge::shared();
    let prompts: Vec<String> = (0..CLIENTS)
        .map(|client| format!("spend {client:02}"))
        .collect();
    let responses = ask_all_at_once(edge, &prompts);
    let estimates = prompts.iter().flat_map(|prompt| edge.seen(prompt));
    let reserved: u64 = estimates
        .map(|seen| {
            seen.header("x-farthing-prompt-tokens")
                .unwrap_or("0")
                .parse()
                .unwrap_or(0)
        })
        .map(|tokens: u64| tokens * SMALL_INPUT_NANOUSD + 32 * SMALL_OUTPUT_NANOUSD)
        .sum();
    let admitted = responses
        .iter()
        .filter(|response| response.status == 200)
        .count();
    assert!(admitted >= 1, "the budget covers at least one request");
    assert!(
        reserved <= LIMITED_NANOUSD,
        "{admitted} requests reserved {reserved} nano-dollars"
    );
    for response in responses.iter().filter(|response| response.status != 200) {
        assert_eq!(response.status, 429, "{}", response.text());
        assert_eq!(response.json()["error"]["type"], "insufficient_quota");
        let retry_after = response
            .header("retry-after")
            .and_then(|s| s.parse::<u64>().ok());
        assert!(retry_after.is_some_and(|seconds| (1..=86_400).contains(&seconds)));
    }
    // What was reserved beyond the real cost is free again.
    edge.script("spend again", completion("again"));
    assert_eq!(
        edge.ask("tenant-limited", &chat(SMALL, "spend again"))
            .status,
        200
    );
}

/// Every prompt at the same moment; no answer comes before every prompt is decided on.
fn ask_all_at_once(edge: &Edge, prompts: &[String]) -> Vec<Response> {
    let gate = Gate::default();
    for prompt in prompts {
        let mut answer = completion("spent");
        answer.pieces.insert(0, Piece::Gate(gate.clone()));
        edge.script(prompt, answer);
    }
    let refused = AtomicUsize::new(0);
    let upstream = || {
        prompts
            .iter()
            .map(|prompt| edge.seen(prompt).len())
            .sum::<usize>()
    };
    let ask = |prompt: &String| {
        let response = edge.ask("tenant-limited", &chat(SMALL, prompt));
        refused.fetch_add(usize::from(response.status == 429), Ordering::Relaxed);
        response
    };
    let ask = &ask;
    thread::scope(|scope| {
        let clients: Vec<_> = prompts
            .iter()
            .map(|prompt| scope.spawn(move || ask(prompt)))
            .collect();
        wait_until("every client is decided on", || {
            refused.load(Ordering::Relaxed) + upstream() >= prompts.len()
        });
        gate.open();
        clients
            .into_iter()
            .map(|client| client.join().expect("a client"))
            .collect()
    })
}

#[test]
fn others_are_not_touched_by_a_spent_budget() {
    let edge = Edge::shared();
    edge.script("another tenant", completion("served"));
    assert_eq!(
        edge.ask("unlimited", &chat(SMALL, "another tenant")).status,
        200
    );
}
