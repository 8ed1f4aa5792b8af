//! Where requests go: rules first, then what they gain.

use crate::edge::CONFIG;
use farthing_core::budget::Pressure;
use farthing_core::config::{Config, ModelIndex};
use farthing_core::error::ErrorKind;
use farthing_core::route::{GainCalibration, Reason, Wish, gain, route};
use farthing_core::wire::{Endpoint, Request, parse};
use serde_json::{Value, json};

fn request(body: &Value) -> Request {
    parse(Endpoint::ChatCompletions, body.to_string().as_bytes()).unwrap()
}

fn ask(text: &str) -> Request {
    request(&json!({"model": "auto", "messages": [{"role": "user", "content": text}]}))
}

fn config() -> Config {
    Config::parse(CONFIG.as_bytes()).unwrap()
}

fn rank(request: &Request) -> f64 {
    gain(&GainCalibration::embedded().unwrap(), request).rank
}

type Expected<'a> = Result<(&'a str, Reason, u32), ErrorKind>;

/// Routes a request whose prompt has so many tokens for every model, certainly.
#[track_caller]
fn check(body: Value, tokens: u64, expected: Expected<'_>) {
    check_estimated(body, tokens, tokens, expected);
}

/// Routes a request whose prompt has `least` tokens or more, and probably `tokens`.
#[track_caller]
fn check_estimated(body: Value, least: u64, tokens: u64, expected: Expected<'_>) {
    let config = config();
    let routed = route(
        &config,
        &Wish::of(&config, &request(&body)),
        Pressure::NONE,
        least,
        |_: ModelIndex| tokens,
    )
    .map(|route| {
        let model = config.model(route.model).unwrap().id.clone();
        (model, route.reason, route.max_tokens)
    })
    .map_err(|error| error.kind);
    let expected = expected.map(|(model, reason, max)| (model.to_owned(), reason, max));
    assert_eq!(routed, expected, "{body}");
}

#[test]
fn rules_come_first() {
    let body = |extra: Value| {
        let mut body =
            json!({"model": "auto", "messages": [{"role": "user", "content": "Say hello"}]});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        body
    };
    let tool = json!([{"type": "function", "function": {"name": "f"}}]);
    check(body(json!({})), 10, Ok(("small", Reason::Complexity, 100)));
    check(
        body(json!({"model": "large"})),
        10,
        Ok(("large", Reason::Pinned, 100)),
    );
    check(
        body(json!({"model": "gpt"})),
        10,
        Err(ErrorKind::ModelNotFound),
    );
    check(
        body(json!({"tools": tool})),
        10,
        Ok(("large", Reason::OnlyFit, 100)),
    );
    check(
        body(json!({"model": "small", "tools": tool})),
        10,
        Err(ErrorKind::InvalidValue),
    );
    check(
        body(json!({"tools": []})),
        10,
        Ok(("small", Reason::Complexity, 100)),
    );
    // A wish is capped, a default shrinks into the room there is.
    check(
        body(json!({"max_tokens": 7})),
        10,
        Ok(("small", Reason::Complexity, 7)),
    );
    check(
        body(json!({"max_tokens": 5000})),
        10,
        Ok(("small", Reason::Complexity, 1000)),
    );
    check(
        body(json!({"model": "small"})),
        1760,
        Ok(("small", Reason::Pinned, 68)),
    );
    // Context: what does not fit the small model goes to the large one, and then nowhere.
    check(
        body(json!({"max_tokens": 1000})),
        1_400,
        Ok(("large", Reason::OnlyFit, 1000)),
    );
    check(body(json!({})), 4_000, Ok(("large", Reason::OnlyFit, 100)));
    check(
        body(json!({})),
        20_000,
        Err(ErrorKind::ContextLengthExceeded),
    );
    check(
        body(json!({"model": "small"})),
        4_000,
        Err(ErrorKind::ContextLengthExceeded),
    );
}

/// What no member of the list takes is refused by the field that asks for it. Each case is
/// `[fields of the request, of the small model, of the large one, the model or the field]`.
#[test]
fn images_and_schemas_go_to_models_that_take_them() {
    let cases: Vec<(Value, Value, Value, String)> =
        serde_json::from_str(include_str!("../golden/decisions/needs.json")).unwrap();
    for (fields, small, large, expected) in &cases {
        let config = config_with([small, large]);
        let mut body =
            json!({"model": "auto", "messages": [{"role": "user", "content": "Say hello"}]});
        let fields = fields.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        let asked = request(&body);
        let routed = route(
            &config,
            &Wish::of(&config, &asked),
            Pressure::NONE,
            0,
            |_| 10,
        );
        let said = match routed {
            Ok(route) => config.model(route.model).unwrap().id.clone(),
            Err(error) => error.param.unwrap_or_default(),
        };
        assert_eq!(said, *expected, "{body}");
    }
}

/// The two models of the tests with more fields.
fn config_with(models: [&Value; 2]) -> Config {
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    for (at, fields) in models.into_iter().enumerate() {
        let fields = fields.as_object().unwrap().clone();
        config["models"][at].as_object_mut().unwrap().extend(fields);
    }
    Config::parse(config.to_string().as_bytes()).unwrap()
}

/// With what a right answer is worth, a dear model is taken where its gain is worth its price.
#[test]
fn a_dear_model_must_be_worth_its_price() {
    let routed = |value_usd: &str, max_tokens: u32, text: &str| {
        let mut config: Value = serde_json::from_str(CONFIG).unwrap();
        config["routing"] = json!({"targets": {"auto": {"value_usd": value_usd}}});
        let config = Config::parse(config.to_string().as_bytes()).unwrap();
        let mut request = ask(text);
        request.max_tokens = Some(max_tokens);
        let route = route(
            &config,
            &Wish::of(&config, &request),
            Pressure::NONE,
            0,
            |_| 100,
        )
        .unwrap();
        config.model(route.model).unwrap().id.clone()
    };
    assert_eq!(routed("0", 10, HARD[0]), "small");
    assert_eq!(routed("0.01", 10, HARD[0]), "large");
    // The same gain, and more tokens to pay for.
    assert_eq!(routed("0.001", 100, HARD[0]), "large");
    assert_eq!(routed("0.001", 1_000, HARD[0]), "small");
    assert_eq!(routed("1000", 1_000, EASY[0]), "large");
}

#[test]
fn an_estimate_prefers_a_model_and_refuses_nothing() {
    let body = |model: &str, max_tokens: Option<u32>| {
        let messages = json!([{"role": "user", "content": "Say hello"}]);
        json!({"model": model, "messages": messages, "max_tokens": max_tokens})
    };
    for (model, least, tokens, expected) in [
        ("auto", 10, 1_000, Ok(("small", Reason::Complexity, 1_000))),
        ("auto", 10, 1_100, Ok(("large", Reason::OnlyFit, 1_000))),
        ("auto", 10, 90_000, Ok(("large", Reason::OnlyFit, 1_000))),
        ("auto", 7_192, 90_000, Ok(("large", Reason::OnlyFit, 1_000))),
        ("auto", 7_193, 90_000, Err(ErrorKind::ContextLengthExceeded)),
        ("small", 10, 90_000, Ok(("small", Reason::Pinned, 1_000))),
        ("small", 1_049, 1_049, Err(ErrorKind::ContextLengthExceeded)),
    ] {
        check_estimated(body(model, Some(1_000)), least, tokens, expected);
    }
    check_estimated(
        body("small", None),
        2_047,
        2_100,
        Ok(("small", Reason::Pinned, 1)),
    );
}

const EASY: [&str; 12] = [
    "Say hello.",
    "What is the capital of France?",
    "Translate 'good morning' to Spanish.",
    "Who wrote Hamlet?",
    "Name three colors.",
    "What does the word 'lucid' mean?",
    "Tell me a joke about cats.",
    "Is the sky blue?",
    "When did the second world war end?",
    "Spell 'necessary'.",
    "Write a short greeting for a birthday card.",
    "List two synonyms of happy.",
];

const HARD: [&str; 8] = [
    "Prove that the square root of 2 is irrational, and explain each step of the proof.",
    "A train leaves at 9:40 and travels 180 km at 72 km/h; another leaves at 10:05 and travels \
     150 km at 90 km/h. How many minutes apart do they arrive in total?",
    "Implement a lock-free queue in Rust with a struct and async functions, and explain how it \
     avoids the ABA problem without a mutex.",
    "Natalia sold 48 clips in April and half as many in May, at 3 dollars each with a 15% \
     discount. How much more did she earn in April than in May?",
    "Compare the time complexity of quicksort and mergesort, derive both recurrences and justify \
     which one must be chosen if memory is limited.",
    "Solve the equation x^2 - 5x + 6 = 0 and then compute the integral of its left side.",
    "Design an algorithm that must find the shortest path except through forbidden nodes; \
     analyze why it is correct.",
    "Debug this: ```python\ndef f(x): return f(x-1) + f(x-2)\n``` Why is it slow, and how would \
     you optimize it?",
];

#[test]
fn easy_questions_go_to_the_cheap_model_and_hard_ones_to_the_dear_one() {
    for (texts, wanted) in [(&EASY[..], "small"), (&HARD[..], "large")] {
        for text in texts {
            let config = config();
            let asked = ask(text);
            let wish = Wish::of(&config, &asked);
            let route = route(&config, &wish, Pressure::NONE, 0, |_: ModelIndex| 100).unwrap();
            let model = &config.model(route.model).unwrap().id;
            assert_eq!(model, wanted, "{:.3} {text}", rank(&ask(text)));
        }
    }
}

#[test]
fn the_rank_stays_below_1() {
    let monsters = [
        "",
        "?",
        &"7 = 8 * 9 each why not def ".repeat(10_000),
        &"漢".repeat(50_000),
    ];
    for text in monsters {
        let body = json!({"model": "auto", "messages": [{"role": "user", "content": text}]});
        let Ok(request) = parse(Endpoint::ChatCompletions, body.to_string().as_bytes()) else {
            continue;
        };
        let rank = rank(&request);
        assert!((0.0..1.0).contains(&rank), "{rank}");
    }
}
