//! The tokenizer in wasm counts what it counts natively: the corpus of the tokenizer's own tests,
//! sent through the filter as prompts.

use super::proxy::Proxy;
use crate::adversarial;
use crate::wasm_host::{CalloutAnswer, End, HeaderMap, UNKNOWN_CLUSTER};
use farthing_core::bpe::Specials;
use farthing_core::vocabulary::{CountScratch, Counted, Vocabulary};
use farthing_core::wire::{Endpoint, parse};
use farthing_host_tests::paths;
use serde_json::{Value, json};
use std::fs;

const SEED: u64 = 0x7761_736d;
/// Strings of each of the twelve kinds in `adversarial`.
const STRINGS_PER_KIND: usize = 900;
/// Each attempt is at least one tick; loading is one more.
const TICKS_MAX: usize = 8;
const PREFIX: &str = "/farthing/v1/vocabularies/";

/// The bytes of a vocabulary file that `cargo xtask` makes.
pub fn vocabulary_file(name: &str) -> Vec<u8> {
    let path = paths::vocabularies().join(format!("{name}.vocabulary"));
    let path = paths::require("a vocabulary", path).unwrap_or_else(|error| panic!("{error}"));
    fs::read(path).expect("a readable file")
}

/// The answer of a backend that has it.
pub fn served(path: &str) -> Option<CalloutAnswer> {
    let name = path.strip_prefix(PREFIX).expect("a vocabulary's path");
    Some(answer("200", vocabulary_file(name)))
}

fn answer(status: &str, body: Vec<u8>) -> CalloutAnswer {
    CalloutAnswer {
        headers: vec![(":status".to_string(), status.as_bytes().to_vec())],
        body,
    }
}

/// Lets the current worker fetch the vocabularies of its configuration.
pub fn fetch_vocabularies(proxy: &mut Proxy) {
    for _ in 0..TICKS_MAX {
        proxy.tick();
        proxy.answer_callouts(served);
    }
}

fn config(vocabulary: &str, cluster: &str) -> String {
    let mut config = super::fixtures()["config"].clone();
    config["models"][0]["vocabulary"] = vocabulary.into();
    config["models"][0]["context_tokens"] = (1 << 20).into();
    config["vocabularies"] = json!({"cluster": cluster, "timeout_ms": 1_000, "retry_ms": 100});
    config.to_string()
}

/// A worker with this vocabulary, and the id of the model that it is of.
fn counting(vocabulary: &str) -> (Proxy, String) {
    let (mut proxy, accepted) = Proxy::start(config(vocabulary, "backend").as_bytes());
    assert!(accepted, "{:?}", proxy.events);
    fetch_vocabularies(&mut proxy);
    let model = super::fixtures()["config"]["models"][0]["id"].clone();
    (proxy, model.as_str().expect("an id").to_string())
}

/// What the filter says of a request's prompt: its tokens, and `exact` or `estimated`.
fn asked(proxy: &mut Proxy, path: &str, body: &Value) -> (u64, String) {
    let pair = |name: &str, value: &str| (name.to_string(), value.as_bytes().to_vec());
    let headers = vec![
        pair(":method", "POST"),
        pair(":path", path),
        pair("content-type", "application/json"),
        pair("authorization", "Bearer counted"),
    ];
    proxy.open("counted", headers, End::No);
    proxy.request_body("counted", body.to_string().as_bytes(), End::Yes);
    let head = vec![
        pair(":status", "503"),
        pair("content-type", "application/json"),
    ];
    proxy.response_headers("counted", head, End::Yes);
    let stream = &proxy.streams["counted"];
    let seen = stream.to_client.as_ref().expect("an answer");
    let (tokens, basis) = (
        header(&seen.headers, "x-farthing-prompt-tokens"),
        header(&seen.headers, "x-farthing-tokens"),
    );
    proxy.close("counted");
    proxy.events.clear();
    (tokens.parse().expect("a number"), basis)
}

fn header(headers: &HeaderMap, name: &str) -> String {
    let found = headers.iter().find(|(known, _)| known == name);
    let (_, value) = found.unwrap_or_else(|| panic!("no {name}: {headers:?}"));
    String::from_utf8_lossy(value).into_owned()
}

fn samples() -> Vec<(String, String)> {
    let folder = paths::workspace_root().join("backend/tests/data");
    let files = fs::read_dir(folder).expect("the samples");
    let texts = files.map(|file| {
        let path = file.expect("a readable folder").path();
        let text = fs::read_to_string(&path).expect("a readable sample");
        (path.display().to_string(), text)
    });
    texts.collect()
}

#[test]
fn the_corpus_has_the_same_counts_in_wasm() {
    println!("seed {SEED:#x}");
    let mut texts = samples();
    assert!(texts.len() >= 14);
    let strings = adversarial::strings(SEED, STRINGS_PER_KIND);
    texts.extend(strings.into_iter().map(|(kind, text)| (kind.into(), text)));
    assert!(texts.len() >= 10_000);
    for name in ["o200k_base", "cl100k_base"] {
        let native = Vocabulary::from_file(vocabulary_file(name).into()).expect("a valid file");
        let mut scratch = CountScratch::default();
        let (mut proxy, model) = counting(name);
        for (kind, text) in &texts {
            let body = json!({"model": model, "prompt": text, "max_tokens": 1});
            let request = parse(Endpoint::Completions, body.to_string().as_bytes());
            let request = request.unwrap_or_else(|error| panic!("{kind} {text:?}: {error:?}"));
            let expected = native.count(&request, u64::MAX, &mut scratch);
            let (tokens, basis) = asked(&mut proxy, "/v1/completions", &body);
            assert_eq!(basis, "exact", "{name} {kind} {text:.200?}");
            assert_eq!(
                Counted::Exactly(tokens),
                expected,
                "{name} {kind} {text:.200?}"
            );
        }
        let tokens = native.bpe().encode("counted", Specials::Plain).len();
        let body = json!({"model": model, "messages": [{"role": "user", "content": "counted"}]});
        let (counted, _) = asked(&mut proxy, "/v1/chat/completions", &body);
        // Three for the message, one for the role, three for the answer.
        assert_eq!(counted, tokens as u64 + 7, "{name}");
    }
}

#[test]
fn failed_calls_are_made_again_ever_more_rarely() {
    let (mut proxy, accepted) = Proxy::start(config("o200k_base", "backend").as_bytes());
    assert!(accepted);
    let body = json!({"model": super::fixtures()["config"]["models"][0]["id"], "prompt": "Hi",
        "max_tokens": 1});
    let whole = vocabulary_file("o200k_base");
    let failures = [
        None,
        Some(answer("404", b"{}".to_vec())),
        Some(answer("200", whole[..whole.len() / 2].to_vec())),
        Some(answer("200", Vec::new())),
        Some(answer("503", whole)),
    ];
    let mut wait_ms = 100;
    for failure in failures {
        proxy.tick();
        assert_eq!(proxy.answer_callouts(|_| failure.clone()), 1);
        // A damaged file is noticed when it is read.
        proxy.tick();
        assert_eq!(proxy.answer_callouts(|_| None), 0);
        assert_eq!(asked(&mut proxy, "/v1/completions", &body).1, "estimated");
        proxy.pass_time(wait_ms - 1);
        proxy.tick();
        assert_eq!(proxy.answer_callouts(|_| None), 0, "too soon");
        proxy.pass_time(1);
        wait_ms *= 2;
    }
    fetch_vocabularies(&mut proxy);
    let (tokens, basis) = asked(&mut proxy, "/v1/completions", &body);
    assert_eq!((tokens, basis.as_str()), (1, "exact"));
}

#[test]
fn calls_that_are_never_answered_are_given_up() {
    let (mut proxy, _) = Proxy::start(config("o200k_base", "backend").as_bytes());
    proxy.tick();
    proxy.events.clear();
    // Twice the deadline, then the wait after a failure.
    for milliseconds in [2_000, 100] {
        proxy.pass_time(milliseconds);
        proxy.tick();
    }
    assert_eq!(proxy.answer_callouts(served), 1);
    proxy.tick();
    let (mut proxy, _) = Proxy::start(config("o200k_base", UNKNOWN_CLUSTER).as_bytes());
    for _ in 0..3 {
        proxy.tick();
        assert_eq!(proxy.answer_callouts(served), 0);
        proxy.pass_time(60_000);
    }
}

/// Linear memory never shrinks, so what reading a file took counts as well.
#[test]
fn a_vocabulary_takes_at_most_6_mib() {
    let memory = |proxy: &mut Proxy| proxy.vms()[0].memory_bytes();
    let (mut with, model) = counting("o200k_base");
    let (mut without, _) = Proxy::start(config("o200k_base", UNKNOWN_CLUSTER).as_bytes());
    let body = json!({"model": model, "prompt": "word ".repeat(10_000), "max_tokens": 1});
    for (proxy, basis) in [(&mut with, "exact"), (&mut without, "estimated")] {
        let (_, found) = asked(proxy, "/v1/completions", &body);
        assert_eq!(found, basis);
    }
    let grown = memory(&mut with) - memory(&mut without);
    println!("{:.2} MiB", grown as f64 / (1 << 20) as f64);
    assert!(grown <= 6 << 20, "{grown} bytes");
}
