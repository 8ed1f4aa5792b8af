//! Exact counts in Envoy: the filter fetches a real vocabulary by a callout and counts what the
//! same code counts natively; and whatever goes wrong with the fetching, traffic goes on.

use super::bodies::chat;
use super::edge::{Edge, LARGE, SMALL, wait_until, yaml};
use farthing_core::limits::EXACT_COUNT_BYTES_MAX;
use farthing_core::vocabulary::{CountScratch, Counted, Vocabulary};
use farthing_core::wire::{Endpoint, parse};
use farthing_host_tests::client::Response;
use farthing_host_tests::envoy::EnvoyConfig;
use farthing_host_tests::paths;
use farthing_host_tests::stub::{Answer, Gate, Piece, StubUpstream};
use serde_json::{Value, json};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What OpenAI's current models count with; `cargo xtask test` makes its file.
const NAME: &str = "o200k_base";
const CLUSTER: &str = "vocabularies";
const COUNTED: &str = "farthing_prompts_counted_total";
const ESTIMATED: &str = "farthing_prompts_estimated_total";
const MISCOUNTED: &str = "farthing_prompts_miscounted_total";
const LOADED: &str = "farthing_vocabularies_loaded";
/// What the filter logs of each attempt that brought nothing.
const FAILED: &str = "a vocabulary could not be fetched";
/// What it logs of a file that it cannot use.
const DAMAGED: &str = "it is not a vocabulary file of this version, or it is damaged";

fn file() -> Vec<u8> {
    let path = paths::vocabularies().join(format!("{NAME}.vocabulary"));
    let path = paths::require("a vocabulary", path).unwrap_or_else(|error| panic!("{error}"));
    fs::read(path).expect("a readable file")
}

fn whole(file: &[u8]) -> Answer {
    Answer::json(200, file)
}

/// Lets the cheap model count with the vocabulary that this cluster serves.
fn count_with(config: &mut EnvoyConfig, cluster: &str) {
    let plugin = config
        .plugin_configuration()
        .expect("a plugin configuration");
    plugin["models"][0]["vocabulary"] = NAME.into();
    // A chat of some hundred kilobytes must fit.
    plugin["models"][0]["context_tokens"] = (1 << 20).into();
    let source = json!({"cluster": cluster, "timeout_ms": 250, "retry_ms": 50});
    plugin["vocabularies"] = yaml(source);
}

/// A cluster of its own at this address.
fn add_cluster(config: &mut EnvoyConfig, address: SocketAddr) {
    let clusters = config.at("/static_resources/clusters").expect("clusters");
    let clusters = clusters.as_sequence_mut().expect("clusters are a list");
    let mut added = clusters[0].clone();
    added["name"] = CLUSTER.into();
    added["load_assignment"]["cluster_name"] = CLUSTER.into();
    clusters.push(added);
    config.set_upstream(CLUSTER, address).expect("the cluster");
}

/// One worker that fetches its vocabulary from this address.
fn edge_at(address: SocketAddr) -> Edge {
    Edge::start(1, |config| {
        add_cluster(config, address);
        count_with(config, CLUSTER);
    })
}

/// What the native build counts.
fn native(endpoint: Endpoint, body: &Value) -> u64 {
    let vocabulary = Vocabulary::from_file(file().into()).expect("a valid file");
    let request = parse(endpoint, body.to_string().as_bytes()).expect("a valid request");
    match vocabulary.count(&request, u64::MAX, &mut CountScratch::default()) {
        Counted::Exactly(tokens) => tokens,
        other => panic!("{other:?}: {body}"),
    }
}

/// Waits until the worker has the vocabulary. Envoy's main thread has a VM too, which fetches one.
#[track_caller]
fn wait_until_loaded(edge: &Edge) {
    wait_until("both VMs have loaded it", || {
        edge.envoy.log().matches(": loaded").count() >= 2
    });
    edge.wait_for_metric(LOADED, 1);
}

#[track_caller]
fn check_basis(response: &Response, basis: &str) {
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("x-farthing-tokens"), Some(basis));
}

/// Asks what no test has asked before: the filter must count what the native build counts, tell it
/// to the upstream and to the client, and find no fault with an upstream that counts the same.
#[track_caller]
fn check_exact(edge: &Edge, body: &Value) {
    let expected = native(Endpoint::ChatCompletions, body);
    let prompt = body["messages"][0]["content"].as_str().expect("a text");
    let mut answer = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_767_225_600, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes."},
            "finish_reason": "stop"}],
    });
    answer["usage"] = json!({"prompt_tokens": expected, "completion_tokens": 2,
        "total_tokens": expected + 2});
    edge.script(prompt, Answer::json(200, answer.to_string()));
    let response = edge.ask("exact", body);
    check_basis(&response, "exact");
    let told = Some(expected.to_string());
    let header = |name: &str| response.header(name).map(str::to_owned);
    assert_eq!(header("x-farthing-prompt-tokens"), told, "{prompt:.80}");
    let seen = edge.seen(prompt).pop().expect("a request upstream");
    let sent = seen.header("x-farthing-prompt-tokens").map(str::to_owned);
    assert_eq!(sent, told, "{prompt:.80}");
}

#[test]
fn prompts_are_counted_with_the_vocabulary_that_was_fetched() {
    let served = file();
    let source = StubUpstream::start(move |_| whole(&served)).expect("a free port");
    let edge = edge_at(source.address());
    wait_until_loaded(&edge);
    let asked = source.requests();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(asked[0].method, "GET");
    assert_eq!(asked[0].path, "/farthing/v1/vocabularies/o200k_base");
    let before = edge.metric(ESTIMATED);
    let texts = [
        "Name a river.".to_string(),
        "Größe: 1,234.5 — naïve café, 你好世界, مرحبا, 👩‍👩‍👧".to_string(),
        "if (x != NULL) {\n\t\treturn x->y[i++];\n}\n".repeat(50),
        "<|im_end|><|endoftext|> don't WE'LL 12345678".to_string(),
        "The quick brown fox jumps over the lazy dog. ".repeat(1_000),
        "_".repeat(60_000),
        String::new(),
    ];
    for text in &texts {
        check_exact(&edge, &chat(SMALL, text));
    }
    let mut conversation = chat(SMALL, "Hello!");
    conversation["messages"] = json!([
        {"role": "system", "content": "Be brief.", "name": "rules"},
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hi. What is it?"},
        {"role": "user", "content": "What is 3 + 4?"},
    ]);
    check_exact(&edge, &conversation);
    check_basis(&edge.ask("exact", &conversation), "exact");
    edge.wait_for_metric(COUNTED, texts.len() as u64 + 2);
    assert_eq!(edge.metric(ESTIMATED), before);
    assert_eq!(edge.metric(MISCOUNTED), 0);
    let bare = json!({"model": SMALL, "prompt": ["Once upon", " a time"], "max_tokens": 8});
    check_basis(&edge.post("/v1/completions", "exact", &bare, &[]), "exact");
    let seen = edge.small.requests().pop().expect("a request upstream");
    let told = native(Endpoint::Completions, &bare).to_string();
    assert_eq!(seen.header("x-farthing-prompt-tokens"), Some(told.as_str()));
    // What the model reads in a way of its own, and a model without a vocabulary.
    let mut form = chat(SMALL, "Say it as JSON.");
    form["response_format"] = json!({"type": "json_object"});
    check_basis(&edge.ask("exact", &form), "estimated");
    check_basis(&edge.ask("exact", &chat(LARGE, "Hi")), "estimated");
    // More than is tokenized of one request.
    let long = "The quick brown fox. ".repeat(EXACT_COUNT_BYTES_MAX / 20);
    check_basis(&edge.ask("exact", &chat(SMALL, &long)), "estimated");
    edge.wait_for_metric(ESTIMATED, before + 3);
}

/// Each failure first, then the file: prompts are estimated, then counted.
#[test]
fn after_a_failure_the_vocabulary_is_asked_for_again() {
    let cut = file()[..100_000].to_vec();
    let never = vec![Piece::Gate(Gate::default())];
    let failures = [
        ("absent", Answer::json(404, "{}"), FAILED),
        ("damaged", Answer::json(200, cut), DAMAGED),
        ("empty", Answer::json(200, ""), FAILED),
        ("closed", Answer::reset(), FAILED),
        (
            "a black hole",
            Answer {
                pieces: never,
                ..Answer::json(200, "")
            },
            FAILED,
        ),
    ];
    for (name, failure, logged) in failures {
        let works = Arc::new(AtomicBool::new(false));
        let served = file();
        let answers = Arc::clone(&works);
        let source = StubUpstream::start(move |_| match answers.load(Ordering::Relaxed) {
            true => whole(&served),
            false => failure.clone(),
        });
        let source = source.expect("a free port");
        let edge = edge_at(source.address());
        wait_until(&format!("{name}: a second attempt"), || {
            source.requests_total() >= 2 && edge.envoy.log().contains(logged)
        });
        check_basis(&edge.ask("a", &chat(SMALL, "before")), "estimated");
        assert_eq!(edge.metric(LOADED), 0, "{name}");
        works.store(true, Ordering::Relaxed);
        wait_until_loaded(&edge);
        check_exact(&edge, &chat(SMALL, &format!("after it was {name}")));
    }
}

/// Nobody there, now or ever: an attempt fails at once or after its deadline, and nothing else
/// happens.
#[test]
fn without_a_source_prompts_are_estimated() {
    // No other test is given this port while nobody listens there.
    const NOBODY: u16 = 1;
    let refused = edge_at((Ipv4Addr::LOCALHOST, NOBODY).into());
    let unknown = Edge::start(1, |config| count_with(config, "no-such-cluster"));
    for edge in [refused, unknown] {
        wait_until("two attempts", || {
            edge.envoy.log().matches(FAILED).count() >= 2
        });
        for prompt in ["one", "two"] {
            check_basis(&edge.ask("a", &chat(SMALL, prompt)), "estimated");
        }
        assert_eq!(edge.metric(LOADED), 0);
        edge.wait_for_metric(ESTIMATED, 2);
        assert_eq!(edge.metric(COUNTED), 0);
    }
}
