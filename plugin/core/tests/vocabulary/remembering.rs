//! What one worker tokenizes of a request, and what it need not tokenize again.

use super::{adversarial, file};
use farthing_core::config::{Config, ModelIndex};
use farthing_core::limits::EXACT_COUNT_BYTES_MAX;
use farthing_core::tokens::{Basis, Calibration, PromptTokens};
use farthing_core::vocabulary::loading::{Progress, Vocabularies};
use farthing_core::vocabulary::{CountScratch, Counted, Vocabulary};
use farthing_core::wire::{Endpoint, Request, parse};
use serde_json::json;

const SEED: u64 = 0x72_656d;
const VOCABULARIES: [&str; 2] = ["o200k_base", "cl100k_base"];

/// A worker with two models, each with a vocabulary of its own, and a name for both.
fn worker() -> (Config, Vocabularies) {
    let model = |name: &str| {
        json!({"id": name, "tier": "t", "cluster": "c", "context_tokens": 1_000_000,
            "vocabulary": name, "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}})
    };
    let config = json!({"models": VOCABULARIES.map(model), "secret": "a secret of the tests",
        "virtual_models": {"both": VOCABULARIES}});
    let config = Config::parse(config.to_string().as_bytes()).unwrap();
    let embedded = VOCABULARIES.map(|name| (name, &*file(name).leak()));
    let mut vocabularies = Vocabularies::new(&config, &embedded);
    while vocabularies.step(0) != Progress::Nothing {}
    (config, vocabularies)
}

fn chat(model: &str, texts: &[String]) -> Request {
    let roles = ["user", "assistant"].iter().cycle();
    let messages: Vec<_> = (texts.iter().zip(roles))
        .map(|(text, role)| json!({"role": role, "content": text}))
        .collect();
    let body = json!({"model": model, "messages": messages});
    parse(Endpoint::ChatCompletions, body.to_string().as_bytes()).unwrap()
}

/// What a counter that remembers nothing counts.
fn expected(name: &str, request: &Request) -> u64 {
    let vocabulary = Vocabulary::from_file(file(name).into()).unwrap();
    match vocabulary.count(request, u64::MAX, &mut CountScratch::default()) {
        Counted::Exactly(tokens) => tokens,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_remembered_is_what_would_be_counted() {
    println!("seed {SEED:#x}");
    let (config, mut vocabularies) = worker();
    let strings = adversarial::strings(SEED, 40);
    let mut texts: Vec<String> = strings.into_iter().map(|(_, text)| text).collect();
    texts.truncate(60);
    // Twice, so that the second time everything is remembered.
    for _ in 0..2 {
        for turn in [1, 2, 30, 60] {
            let request = chat("both", &texts[..turn]);
            let tokens = PromptTokens::of(&config, &mut vocabularies, &request);
            for (index, name) in (0..).zip(VOCABULARIES) {
                let basis = tokens.basis(ModelIndex(index));
                assert_eq!(basis, Basis::Exact(expected(name, &request)), "{name}");
            }
        }
    }
}

#[test]
fn a_long_conversation_is_counted_once_its_parts_are_known() {
    let (config, mut vocabularies) = worker();
    let part = |number: usize| format!("Part {number}. ").repeat(EXACT_COUNT_BYTES_MAX / 2 / 9);
    let texts: Vec<String> = (10..15).map(part).collect();
    let request = chat("o200k_base", &texts);
    let mut basis = || {
        let tokens = PromptTokens::of(&config, &mut vocabularies, &request);
        tokens.basis(ModelIndex(0))
    };
    let mut estimated = 0;
    while let Basis::Estimated(_) = basis() {
        estimated += 1;
        assert!(estimated < 4, "it is never counted");
    }
    assert!(estimated >= 1, "more is tokenized than may be");
    assert_eq!(basis(), Basis::Exact(expected("o200k_base", &request)));
}

#[test]
fn a_text_that_is_too_long_is_estimated_every_time() {
    let (config, mut vocabularies) = worker();
    let long = chat("o200k_base", &["a ".repeat(EXACT_COUNT_BYTES_MAX / 2 + 1)]);
    let fits = chat("o200k_base", &["a ".repeat(EXACT_COUNT_BYTES_MAX / 2 - 8)]);
    for _ in 0..3 {
        let tokens = PromptTokens::of(&config, &mut vocabularies, &long);
        assert!(matches!(tokens.basis(ModelIndex(0)), Basis::Estimated(_)));
        let tokens = PromptTokens::of(&config, &mut vocabularies, &fits);
        let expected = Basis::Exact(expected("o200k_base", &fits));
        assert_eq!(tokens.basis(ModelIndex(0)), expected);
    }
}

#[test]
fn an_estimate_can_be_made_up_for() {
    let (config, mut vocabularies) = worker();
    let request = chat(
        "cl100k_base",
        &["What is the capital of France?".to_owned()],
    );
    let mut tokens = PromptTokens::estimated(&request);
    let estimate = tokens.tokens(ModelIndex(1), &Calibration::default());
    assert!((10..20).contains(&estimate), "{estimate}");
    tokens.count(&config, &mut vocabularies, &request);
    assert_eq!(tokens.basis(ModelIndex(1)), Basis::Exact(14));
}
