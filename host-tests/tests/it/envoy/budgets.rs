//! A budget holds under concurrency, across workers: reserve, settle, refund.

use super::bodies::{chat, completion};
use super::edge::{
    Edge, LIMITED_NANOUSD, SMALL, SMALL_INPUT_NANOUSD, SMALL_OUTPUT_NANOUSD, wait_until, yaml,
};
use farthing_host_tests::client::{Connection, Response};
use farthing_host_tests::stub::{Gate, Piece};
use serde_json::json;
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

/// 1,000 requests in flight at once on four workers, against a budget for about ten: no sum of
/// reservations goes beyond it, none is lost, and the counters say what became of each.
#[test]
fn a_thousand_at_once_on_four_workers_do_not_overspend() {
    const REQUESTS: usize = 1_000;
    const BUDGET_NANOUSD: u64 = 16_000;
    let edge = Edge::start(4, |config| {
        let budget = json!({"window_s": 86_400, "usd": format!("0.{BUDGET_NANOUSD:09}")});
        config
            .set_plugin_field("budget", yaml(budget))
            .expect("a plugin configuration");
    });
    let gate = Gate::default();
    let mut answer = completion("spent");
    answer.pieces.insert(0, Piece::Gate(gate.clone()));
    let mut connections = Vec::with_capacity(REQUESTS);
    for number in 0..REQUESTS {
        let prompt = format!("thousand {number:04}");
        edge.script(&prompt, answer.clone());
        let body = chat(SMALL, &prompt).to_string();
        let mut connection = Connection::open(edge.address()).expect("Envoy listens");
        let headers = [
            ("content-type", "application/json"),
            ("authorization", "Bearer thousand"),
        ];
        connection
            .send("POST", "/v1/chat/completions", &headers, body.as_bytes())
            .expect("sent");
        connections.push(connection);
    }
    let refused = || edge.metric("farthing_budget_exhausted_total");
    wait_until("every request is decided on", || {
        refused() + edge.small.requests_total() >= REQUESTS as u64
    });
    let reserved = edge.metric("farthing_budget_reserved_nanousd_total");
    assert!(reserved <= BUDGET_NANOUSD, "{reserved}");
    gate.open();
    let statuses: Vec<u16> = connections
        .iter_mut()
        .map(|connection| connection.receive().expect("an answer").status)
        .collect();
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    assert!((5..=20).contains(&admitted), "{admitted}");
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert_eq!(admitted + refused, REQUESTS);
    // There was no room for one more.
    let least = reserved / admitted as u64;
    assert!(
        reserved + least > BUDGET_NANOUSD,
        "{reserved} by {admitted}"
    );
    edge.wait_for_metric("farthing_cost_nanousd_total", 800 * admitted as u64);
    let flow = |what: &str| edge.metric(&format!("farthing_budget_{what}_nanousd_total"));
    assert_eq!(flow("reserved"), reserved);
    assert_eq!(flow("settled") + flow("refunded"), reserved);
    assert_eq!(flow("settled"), 800 * admitted as u64);
    assert_eq!(flow("expired") + flow("overrun"), 0);
}

#[test]
fn a_budget_may_count_tokens() {
    let edge = Edge::start(1, |config| {
        let budget = json!({"window_s": 86_400, "tokens": 100});
        config
            .set_plugin_field("budget", yaml(budget))
            .expect("a plugin configuration");
    });
    // Each takes 30 tokens in the end, and more than 40 until then.
    let statuses: Vec<u16> = (0..4)
        .map(|number| {
            edge.ask("a", &chat(SMALL, &format!("{number} tokens")))
                .status
        })
        .collect();
    assert_eq!(statuses, [200, 200, 429, 429]);
    edge.wait_for_metric("farthing_budget_settled_tokens_total", 60);
    assert_eq!(edge.metric("farthing_budget_settled_nanousd_total"), 0);
}

/// While a budget runs low, fewer and fewer requests go to the dear model; when the first one is
/// refused, none has gone there for a while.
#[test]
fn a_low_budget_leaves_the_dear_model_before_it_refuses() {
    const HARD: &str = "Prove step by step that quicksort takes O(n log n) comparisons on average, \
        derive the recurrence, and compare it with merge sort and heap sort in detail.";
    let edge = Edge::start(2, |config| {
        let budget = json!({"window_s": 86_400, "usd": "0.0003",
            "low": {"share": 0.5, "price": 1}});
        config
            .set_plugin_field("budget", yaml(budget))
            .expect("a plugin configuration");
    });
    let mut tiers = Vec::new();
    let refusal = loop {
        let prompt = format!("{HARD} ({})", tiers.len());
        let answer = edge.ask("a", &chat("auto", &prompt));
        if answer.status != 200 {
            break answer;
        }
        tiers.push(answer.header("x-farthing-tier").unwrap_or_default() == "large");
    };
    assert_eq!(refusal.status, 429, "{}", refusal.text());
    assert!(tiers.len() > 20, "{tiers:?}");
    assert!(tiers[..5].iter().all(|large| *large), "{tiers:?}");
    let last = &tiers[tiers.len() * 3 / 4..];
    assert!(last.iter().all(|large| !large), "{tiers:?}");
    assert!(edge.metric("farthing_budget_moved_total") > 0);
}
