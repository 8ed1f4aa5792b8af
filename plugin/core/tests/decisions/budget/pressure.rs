//! A budget that runs low moves traffic to cheaper models before it refuses anything.

use super::WINDOW;
use crate::edge::{CHAT, CONFIG, Edge, NS_PER_S};
use farthing_core::budget::{Low, Pressure};
use proptest::prelude::*;
use serde_json::{Value, json};

const LOW: Low = Low {
    share: 0.5,
    price: 1.0,
};

/// The share by which a gain is discounted when that much of a budget of 1,000 is committed.
#[track_caller]
fn check(committed: u64, now_unix_s: u64, expected: f64) {
    let pressure = Pressure::of(&LOW, 1_000, committed, WINDOW, now_unix_s);
    let found = pressure.discount(1.0);
    assert!((found - expected).abs() < 1e-12, "{found}, not {expected}");
}

#[test]
fn the_price_follows_from_what_is_left() {
    let (start, middle) = (WINDOW.start_s, WINDOW.start_s + 1_800);
    check(0, start, 1.0);
    check(500, start, 1.0);
    // A quarter is left: λ = 1 * (1 + 1) * (0.5 / 0.25 - 1) = 2, or 1.5 with half of the window.
    check(750, start, 1.0 / 3.0);
    check(750, middle, 1.0 / 2.5);
    check(999, start, 1.0 / 999.0);
    check(1_000, start, 0.0);
    check(u64::MAX, start, 0.0);
}

proptest! {
    /// It only rises while money is spent, and falls while time passes.
    #[test]
    fn the_price_is_monotone(
        share in 0.01..=1.0, price in 0.01..1_000.0, limit in 1..u64::MAX,
        spent in prop::array::uniform2(0.0..=1.0), passed in prop::array::uniform2(0..3_600_u64),
    ) {
        let low = Low { share, price };
        let discount = |spent: f64, passed: u64| {
            let committed = (spent * limit as f64) as u64;
            let now = WINDOW.start_s + passed;
            Pressure::of(&low, limit, committed, WINDOW, now).discount(1.0)
        };
        let [less, more] = if spent[0] < spent[1] { spent } else { [spent[1], spent[0]] };
        prop_assert!(discount(more, passed[0]) <= discount(less, passed[0]));
        let [early, late] =
            if passed[0] < passed[1] { passed } else { [passed[1], passed[0]] };
        prop_assert!(discount(more, early) <= discount(more, late));
        let none = Pressure::of(&low, limit, 0, WINDOW, WINDOW.start_s);
        prop_assert!(none.is_none());
    }
}

/// The questions differ in how much a dear model gains, and each is new.
fn ask(number: usize) -> String {
    let text = match number % 4 {
        0 => "What is the capital of France?",
        1 => "Explain why quicksort is O(n log n) on average and prove the bound step by step.",
        2 => "Write a function that merges two sorted lists and analyse its complexity in detail.",
        _ => {
            "Prove by induction that the sum of the first n odd numbers is n squared, then derive \
             the general formula for arithmetic series and compare both proofs step by step. \
             ```python\ndef f(n): return sum(range(1, 2*n, 2))\n```"
        }
    };
    json!({"model": "auto", "max_tokens": 100,
           "messages": [{"role": "user", "content": format!("{text} ({number})")}]})
    .to_string()
}

/// What became of one request after the other until the first refusal: the tier of each.
fn tiers_until_refused(edge: &mut Edge) -> Vec<String> {
    let mut tiers = Vec::new();
    for number in 0.. {
        let mut sent = edge.post(CHAT, &ask(number));
        if let Some(reply) = sent.reply() {
            assert_eq!(reply.status, 429);
            return tiers;
        }
        tiers.push(sent.header("x-farthing-tier").unwrap().to_owned());
        let answer = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "So."},
                         "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 40, "completion_tokens": 100, "total_tokens": 140}});
        let head = [(":status", "200"), ("content-type", "application/json")];
        edge.answer(&mut sent, &head, &[answer.to_string().as_bytes()]);
    }
    tiers
}

fn edge(budget: Value, routes: Value) -> Edge {
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    config["budget"] = budget;
    config["routes"] = routes;
    let mut edge = Edge::new(&config.to_string());
    edge.now_unix_ns = WINDOW.start_s * NS_PER_S;
    edge
}

fn dear(tiers: &[String]) -> usize {
    tiers.iter().filter(|tier| *tier == "large").count()
}

#[test]
fn dear_models_are_left_before_anything_is_refused() {
    let low = json!({"share": 0.5, "price": 1.0});
    let budget = json!({"window_s": 3_600, "usd": "0.01", "low": low});
    let mut pressed = edge(budget, json!([]));
    let tiers = tiers_until_refused(&mut pressed);
    let quarter = tiers.len() / 4;
    assert!(quarter > 20, "{}", tiers.len());
    let shares: Vec<usize> = tiers.chunks(quarter).take(4).map(dear).collect();
    assert!(shares[0] > 0, "{shares:?}");
    assert!(
        shares.is_sorted_by(|before, after| before >= after),
        "{shares:?}"
    );
    assert_eq!(shares[3], 0, "{shares:?}");
    let moved = pressed.ledger();
    let moved = moved.iter().filter(|line| line["route"] == "budget");
    assert!(moved.count() > 0);
    // The same budget without a shadow price serves fewer, and dear ones up to the end.
    let budget = json!({"window_s": 3_600, "usd": "0.01"});
    let free = tiers_until_refused(&mut edge(budget, json!([])));
    assert!(free.len() < tiers.len());
    assert!(dear(&free[free.len() - 8..]) > 0);
}

/// One dear request would take more than all that is left, while little is spent yet.
#[test]
fn what_a_cheaper_model_can_do_is_not_refused() {
    let low = json!({"share": 0.001, "price": 0.001});
    let budget = json!({"window_s": 3_600, "usd": "0.00003", "low": low});
    let mut pressed = edge(budget, json!([]));
    assert_eq!(tiers_until_refused(&mut pressed)[0], "small");
    let mut hard = pressed.ledger();
    hard.retain(|line| line["source"] == "refused");
    assert_eq!(hard.len(), 1);
}

#[test]
fn a_budget_in_shadow_says_what_it_would_do() {
    let low = json!({"share": 0.5, "price": 1.0});
    let budget = json!({"window_s": 3_600, "usd": "0.0004", "low": low});
    let routes = json!([{"name": "watched", "match": {"models": ["auto"]},
        "shadow": ["budget"]}]);
    let mut watched = edge(budget, routes);
    for number in 0..40 {
        let mut sent = watched.post(CHAT, &ask(number));
        assert!(sent.reply().is_none());
        let answer =
            json!({"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 99}});
        let head = [(":status", "200"), ("content-type", "application/json")];
        watched.answer(&mut sent, &head, &[answer.to_string().as_bytes()]);
    }
    let lines = watched.ledger();
    assert_eq!(lines.len(), 40);
    assert_eq!(lines[0].get("shadow"), None);
    assert!(
        lines
            .iter()
            .any(|line| line["shadow"]["budget_model"] == "small")
    );
    assert!(
        lines
            .iter()
            .any(|line| line["tier"] == "large" && line["shadow"]["budget_model"] == "small")
    );
    let refuses = |line: &Value| line["shadow"]["budget_refuses"] == "insufficient_quota";
    assert!(refuses(&lines[39]), "{}", lines[39]);
    assert!(!refuses(&lines[0]));
}
