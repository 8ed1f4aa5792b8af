//! What must stay bounded does, and what workers share is never lost: the wasm module under load.

use super::fixtures;
use super::proxy::{Proxy, START_UNIX_NS};
use crate::wasm_host::{Action, End, Event, HeaderMap, SharedData, Vm};
use serde_json::{Value, json};
use std::thread;

/// A budget of many small reservations, which one request can still take in whole.
const BUDGET_NANOUSD: u64 = 40_000;

/// Shared data has no delete: the ring of slots must be all that a cache ever takes.
#[test]
fn shared_data_holds_a_fixed_number_of_keys() {
    let mut config = fixtures()["config"].clone();
    config["cache"] = json!({"slots": 16});
    let (mut proxy, accepted) = Proxy::start(config.to_string().as_bytes());
    assert!(accepted);
    let mut key_counts = Vec::new();
    for number in 0..400 {
        let tenant = format!("tenant-{}", number % 50);
        ask(&mut proxy, &tenant, &format!("question {number}"), 16);
        answer(&mut proxy, 200, &fixtures()["answer"]);
        key_counts.push(proxy.shared_data().key_count());
    }
    // 16 slots, what was learned of 2 models, and the self-check.
    assert!(key_counts[399] <= 16 + 2 + 1, "{} keys", key_counts[399]);
    assert_eq!(key_counts[199], key_counts[399], "it still grows");
}

/// Linear memory never shrinks, so the largest bodies must fit into a bounded part of it.
#[test]
fn the_largest_bodies_fit_into_128_mib() {
    let (mut proxy, _) = Proxy::start(fixtures()["config"].to_string().as_bytes());
    let size = (1 << 20) - 200;
    let texts = [
        "word ".repeat(size / 5),
        "_".repeat(size),
        "\u{4e2d}".repeat(size / 3),
        "\\\"".repeat(size / 4),
        " ".repeat(size),
        "9".repeat(size),
    ];
    for text in texts.iter().cycle().take(24) {
        ask(&mut proxy, "large", text, 16);
        proxy.close("stream");
    }
    let bytes: Vec<usize> = proxy.vms().iter_mut().map(Vm::memory_bytes).collect();
    assert!(
        bytes.iter().all(|bytes| *bytes <= 128 << 20),
        "{bytes:?} bytes"
    );
}

/// Four workers reserve and refund at once. If one write of another were ever lost, the budget
/// would not be exactly whole again afterwards.
#[test]
fn workers_lose_no_update() {
    let mut config = fixtures()["config"].clone();
    config["budget"] = json!({"window_s": 86_400, "usd": "0.00004"});
    let config = config.to_string();
    let shared = SharedData::default();
    thread::scope(|scope| {
        for worker in 0..4 {
            let (shared, config) = (&shared, &config);
            scope.spawn(move || {
                let mut vm = Vm::start(shared, START_UNIX_NS);
                assert!(vm.configure(config.as_bytes()));
                for number in 0..500 {
                    reserve_and_refund(&mut vm, &format!("worker {worker} request {number}"));
                }
            });
        }
    });
    let mut vm = Vm::start(&shared, START_UNIX_NS);
    assert!(vm.configure(config.as_bytes()));
    let prompt_nanousd = 20 * reserve_and_refund(&mut vm, "probe");
    let whole = (BUDGET_NANOUSD - prompt_nanousd) / 40;
    assert_eq!(
        admitted(&mut vm, "probe", whole + 1),
        None,
        "more than the budget is there"
    );
    assert!(
        admitted(&mut vm, "probe", whole).is_some(),
        "a part of the budget is lost"
    );
}

/// Sends a request to an upstream that fails; returns the estimate of its prompt.
fn reserve_and_refund(vm: &mut Vm, prompt: &str) -> u64 {
    let (id, tokens) = admitted(vm, prompt, 16).expect("the budget covers it");
    vm.stream(id).response_headers = Some(vec![pair(":status", "503")]);
    vm.on_response_headers(id, End::Yes);
    vm.on_done(id);
    vm.delete(id);
    vm.take_events();
    tokens
}

/// The stream of a request that went upstream, and the estimate of its prompt.
fn admitted(vm: &mut Vm, prompt: &str, max_tokens: u64) -> Option<(u32, u64)> {
    let id = vm.create_stream();
    vm.stream(id).request_headers = Some(headers("shared"));
    vm.on_request_headers(id, End::No);
    vm.stream(id).request_body = Some(chat(prompt, max_tokens));
    let action = vm.on_request_body(id, End::Yes);
    let events = vm.take_events();
    let replied = events
        .iter()
        .any(|event| matches!(event, Event::Reply { .. }));
    if action == Action::Pause || replied {
        vm.on_done(id);
        vm.delete(id);
        return None;
    }
    let sent = vm.stream(id).request_headers.as_ref().expect("headers");
    let (_, tokens) = sent
        .iter()
        .find(|(name, _)| name == "x-farthing-prompt-tokens")?;
    let tokens = String::from_utf8_lossy(tokens).parse().expect("a number");
    Some((id, tokens))
}

fn ask(proxy: &mut Proxy, tenant: &str, prompt: &str, max_tokens: u64) {
    proxy.open("stream", headers(tenant), End::No);
    proxy.request_body("stream", &chat(prompt, max_tokens), End::Yes);
}

fn answer(proxy: &mut Proxy, status: u16, body: &Value) {
    let head = vec![
        pair(":status", &status.to_string()),
        pair("content-type", "application/json"),
    ];
    proxy.response_headers("stream", head, End::No);
    proxy.response_body("stream", body.to_string().as_bytes(), End::Yes);
    proxy.close("stream");
}

fn headers(tenant: &str) -> HeaderMap {
    vec![
        pair(":method", "POST"),
        pair(":path", "/v1/chat/completions"),
        pair("content-type", "application/json"),
        pair("authorization", &format!("Bearer {tenant}")),
    ]
}

fn chat(prompt: &str, max_tokens: u64) -> Vec<u8> {
    let messages = json!([{"role": "user", "content": prompt}]);
    let body = json!({"model": "small", "messages": messages, "temperature": 0,
        "max_tokens": max_tokens});
    body.to_string().into_bytes()
}

fn pair(name: &str, value: &str) -> (String, Vec<u8>) {
    (name.to_string(), value.as_bytes().to_vec())
}
