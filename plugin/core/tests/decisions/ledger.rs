//! The ledger's sums: what was saved is split among the decisions without a rest, whatever the
//! prices are.

use crate::edge::{CHAT, CONFIG, Edge};
use farthing_core::ledger::{Bill, Generation, Sums};
use farthing_core::metrics::Metric;
use farthing_core::money::Nanousd;
use farthing_core::price::{Price, Rates, ServiceTier, Tokens};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

fn flat(input: u64, output: u64) -> Price {
    Price::flat(Rates::plain(input * 1_000_000, output * 1_000_000))
}

/// A bill over prices of 1 and 2 (served) and 10 and 20 (asked) nano-dollars a token.
fn sums(generation: Generation, compacted_tokens: u64, capped_tokens: u64) -> Sums {
    let tokens = Tokens {
        prompt: 100,
        completion: 10,
        ..Tokens::default()
    };
    let (served, asked) = (flat(1, 2), flat(10, 20));
    let bill = Bill {
        wasted: Nanousd::ZERO,
        generation,
        served: &served,
        asked: &asked,
        service: ServiceTier::Standard,
        tokens,
        compacted_tokens,
        capped_tokens,
    };
    bill.sums()
}

#[track_caller]
fn check(sums: &Sums, cost: u64, as_asked: u64, header: &str) {
    assert_eq!((sums.cost.0, sums.as_asked.0), (cost, as_asked));
    assert_eq!(sums.saved_by.to_header(), header);
}

#[test]
fn each_decision_is_credited_with_what_it_changed() {
    check(
        &sums(Generation::Paid, 0, 0),
        120,
        1_200,
        "cache=0;route=0.00000108;cap=0;compaction=0;single_flight=0",
    );
    check(
        &sums(Generation::Cached, 7, 0),
        0,
        1_270,
        "cache=0.00000012;route=0.00000108;cap=0;compaction=0.00000007;single_flight=0",
    );
    check(
        &sums(Generation::Shared, 0, 5),
        0,
        1_300,
        "cache=0;route=0.00000108;cap=0.0000001;compaction=0;single_flight=0.00000012",
    );
}

/// Sorted so that a dearer kind of cached token is possible, and a dearer served model too.
fn price() -> impl Strategy<Value = Price> {
    prop::array::uniform5(0..10_u64.pow(13)).prop_map(|[input, output, read, write, write_1h]| {
        Price::flat(Rates {
            input_nanousd_per_mtok: input,
            output_nanousd_per_mtok: output,
            cache_read_nanousd_per_mtok: read,
            cache_write_nanousd_per_mtok: write,
            cache_write_1h_nanousd_per_mtok: write_1h,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn the_parts_sum_to_the_whole(
        generation in select(vec![Generation::Paid, Generation::Cached, Generation::Shared]),
        served in price(), asked in price(),
        counts in prop_oneof![
            prop::array::uniform5(0..1_u64 << 24),
            any::<[u64; 5]>(),
        ],
        compacted_tokens in 0..1_u64 << 20, capped_tokens in 0..1_u64 << 20,
        wasted in prop_oneof![Just(0), any::<u64>()],
    ) {
        let [prompt, cache_read, cache_write, cache_write_1h, completion] = counts;
        let bill = Bill {
            wasted: Nanousd(wasted),
            generation,
            served: &served,
            asked: &asked,
            service: ServiceTier::Standard,
            tokens: Tokens { prompt, cache_read, cache_write, cache_write_1h, completion },
            compacted_tokens,
            capped_tokens,
        };
        let sums = bill.sums();
        let parts: i128 = sums.saved_by.parts().iter().map(|(_, part)| i128::from(part.0)).sum();
        prop_assert_eq!(parts, i128::from(sums.saved().0));
        prop_assert_eq!(i128::from(sums.cost.0) + parts, i128::from(sums.as_asked.0));
        let besides = wasted.min(Nanousd::MAX.0);
        match generation {
            Generation::Paid => prop_assert!(sums.cost.0 >= besides),
            Generation::Cached | Generation::Shared => prop_assert_eq!(sums.cost.0, besides),
        }
    }
}

fn edge(change: impl FnOnce(&mut Value)) -> Edge {
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    change(&mut config);
    Edge::new(&config.to_string())
}

/// Asks for `large` with these fields, and lets it answer with this usage; returns the ledger.
fn ledger_of(edge: &mut Edge, fields: Value, answer: Value) -> Value {
    let mut body = json!({"model": "large", "messages": [{"role": "user", "content": "Why?"}]});
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let mut sent = edge.post(CHAT, &body.to_string());
    let head = [(":status", "200"), ("content-type", "application/json")];
    edge.answer(&mut sent, &head, &[answer.to_string().as_bytes()]);
    edge.last_line()
}

#[track_caller]
fn check_line(line: &Value, expected: &Value) {
    for (pointer, value) in expected.as_object().unwrap() {
        assert_eq!(line.pointer(pointer), Some(value), "{pointer} of {line}");
    }
}

/// A cascade of the upstream: the answer says who made it, and what was asked in vain.
#[test]
fn the_model_that_answered_is_paid_for_and_what_was_asked_in_vain() {
    let mut edge = edge(|config| {
        config["models"][1]["cluster"] = json!("cheap");
        config["virtual_models"] = json!({});
    });
    let body = json!({"model": "large", "messages": [{"role": "user", "content": "Why?"}]});
    let answer = json!({"usage": {"prompt_tokens": 100, "completion_tokens": 10}}).to_string();
    let mut ask = |headers: &[(&str, &str)]| {
        let mut sent = edge.post(CHAT, &body.to_string());
        let head = [(":status", "200"), ("content-type", "application/json")];
        let head = [head.as_slice(), headers].concat();
        let seen = edge.answer(&mut sent, &head, &[answer.as_bytes()]);
        let model = seen.header("x-farthing-model").map(str::to_owned);
        (model.unwrap_or_default(), edge.last_line())
    };
    let (own, other) = (100 * 150 + 10 * 600, 100 * 20 + 10 * 40);
    let ours = ("x-farthing-source", "model");
    let wasted = ("x-farthing-wasted-usd", "0.000001234");
    let cases = [
        (vec![], "large", own),
        (vec![ours, ("x-farthing-model", "large-v2")], "large", own),
        (vec![ours, ("x-farthing-model", "small")], "small", other),
        (
            vec![ours, ("x-farthing-model", "small"), wasted],
            "small",
            other + 1_234,
        ),
        (vec![ours, wasted], "large", own + 1_234),
        // Nobody is believed who does not say where the answer comes from.
        (vec![("x-farthing-model", "small"), wasted], "large", own),
        (vec![ours, ("x-farthing-model", "unheard-of")], "large", own),
        (vec![ours, ("x-farthing-wasted-usd", "-1")], "large", own),
    ];
    for (headers, model, cost) in cases {
        let (said, line) = ask(&headers);
        assert_eq!(said, model, "{headers:?}");
        let saved = own - cost;
        check_line(
            &line,
            &json!({"/model": model, "/cost_nanousd": cost, "/as_asked_nanousd": own,
                "/saved_by/route_nanousd": saved}),
        );
    }
}

/// What the backend spends after one answer comes with a later one, which may be from its cache:
/// the bills of all together are what was spent.
#[test]
fn what_was_spent_besides_an_answer_is_billed_whoever_made_it() {
    let mut edge = edge(|config| config["virtual_models"] = json!({}));
    let answer = json!({"usage": {"prompt_tokens": 100, "completion_tokens": 10}}).to_string();
    let generated = 100 * 150 + 10 * 600;
    let cases = [
        ("model", "Why?", None, generated),
        ("semantic-cache", "Why so?", Some(31), 31),
        ("semantic-cache", "Why is it so?", Some(4_031), 4_031),
        ("response-store", "And why?", Some(7), 7),
        ("provider", "Why not?", Some(31), generated + 31),
    ];
    let (mut billed, mut spent) = (0, 0);
    for (source, question, besides, cost) in cases {
        let body = json!({"model": "large", "messages": [{"role": "user", "content": question}]});
        let mut sent = edge.post(CHAT, &body.to_string());
        let besides: Option<u64> = besides;
        let usd = besides.map(|nanousd| Nanousd(nanousd).to_usd());
        let mut head = vec![
            (":status", "200"),
            ("content-type", "application/json"),
            ("x-farthing-source", source),
        ];
        head.extend(usd.as_deref().map(|usd| ("x-farthing-wasted-usd", usd)));
        edge.answer(&mut sent, &head, &[answer.as_bytes()]);
        let line = edge.last_line();
        check_line(
            &line,
            &json!({"/cost_nanousd": cost, "/as_asked_nanousd": generated, "/source": source}),
        );
        billed += line["cost_nanousd"].as_u64().unwrap();
        let is_generated = matches!(source, "model" | "provider");
        spent += besides.unwrap_or(0) + if is_generated { generated } else { 0 };
    }
    assert_eq!(billed, spent);
}

#[test]
fn a_catalogue_price_knows_caches_tiers_and_overrides() {
    let usage = json!({"prompt_tokens": 1_000, "completion_tokens": 500,
        "prompt_tokens_details": {"cached_tokens": 400}});
    let mut edge = edge(|config| {
        config["models"][1]["price"] = json!({"catalogue": "gpt-4o-mini"});
        config["virtual_models"] = json!({});
    });
    let line = ledger_of(&mut edge, json!({}), json!({"usage": usage}));
    check_line(
        &line,
        &json!({"/cost_nanousd": 420_000, "/cache_read_tokens": 400,
            "/service_tier": "default", "/price_default": false}),
    );
    // What served it counts, not what was asked for.
    let line = ledger_of(
        &mut edge,
        json!({"service_tier": "flex"}),
        json!({"service_tier": "priority", "usage": usage}),
    );
    check_line(
        &line,
        &json!({"/cost_nanousd": 600 * 250 + 400 * 125 + 500 * 1_000, "/service_tier": "priority"}),
    );
    let line = ledger_of(
        &mut edge,
        json!({"service_tier": "batch"}),
        json!({"usage": usage}),
    );
    check_line(&line, &json!({"/cost_nanousd": 1_000 * 75 + 500 * 300}));

    let mut edge = self::edge(|config| {
        config["models"][1]["price"] =
            json!({"catalogue": "gpt-4o-mini", "input_usd_per_mtok": "0.2"});
        config["virtual_models"] = json!({});
    });
    let line = ledger_of(&mut edge, json!({}), json!({"usage": usage}));
    check_line(
        &line,
        &json!({"/cost_nanousd": 600 * 200 + 400 * 75 + 500 * 600}),
    );
}

#[test]
fn a_model_without_a_price_has_the_default_one_and_says_so() {
    let mut edge = edge(|config| {
        config["models"][1].as_object_mut().unwrap().remove("price");
        config["default_price"] = json!({"input_usd_per_mtok": 1, "output_usd_per_mtok": 2});
    });
    let answer = json!({"usage": {"prompt_tokens": 10, "completion_tokens": 5}});
    let line = ledger_of(&mut edge, json!({}), answer);
    check_line(
        &line,
        &json!({"/cost_nanousd": 20_000, "/price_default": true}),
    );
    assert_eq!(edge.counted(Metric::PriceDefault), 1);
}

/// The cap is 1,000 tokens of 0.60 dollars a million.
#[test]
fn a_cap_is_credited_only_with_what_is_known() {
    let mut edge = edge(|_| {});
    let answer = |tokens: u64| json!({"usage": {"prompt_tokens": 9, "completion_tokens": tokens}});
    let wish = json!({"max_tokens": 3_000});
    let line = ledger_of(&mut edge, wish.clone(), answer(400));
    check_line(
        &line,
        &json!({"/capped": false, "/saved_by/cap_nanousd": 0}),
    );
    let line = ledger_of(&mut edge, wish, answer(1_000));
    check_line(&line, &json!({"/capped": true, "/saved_by/cap_nanousd": 0}));
    let forced = json!({"max_tokens": 3_000, "ignore_eos": true});
    let line = ledger_of(&mut edge, forced, answer(1_000));
    check_line(
        &line,
        &json!({"/capped": true, "/saved_by/cap_nanousd": 2_000 * 600}),
    );
}
