//! What each way through the filter costs: instructions of wasm, and calls into the host. Both are
//! counts and no times, so a change that makes requests dearer fails here on any machine.
//!
//! The calls stand in `tests/cases/costs.txt`, which `FARTHING_BLESS=1` rewrites; instructions must
//! stay below the limits in here.

use super::proxy::Proxy;
use crate::wasm_host::{End, HeaderMap};
use farthing_host_tests::paths;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A way through the filter, and the instructions that it may take.
struct Way {
    name: &'static str,
    instructions_max: u64,
    go: fn(&mut Proxy, u64),
}

const WAYS: [Way; 5] = [
    Way {
        name: "miss, 4 KiB",
        instructions_max: 540_000,
        go: |proxy, number| miss(proxy, &chat(4 << 10, number, "")),
    },
    Way {
        name: "hit, 4 KiB",
        instructions_max: 90_000,
        go: |proxy, _| hit(proxy, &chat(4 << 10, 0, "")),
    },
    Way {
        name: "miss, 256 KiB",
        instructions_max: 23_000_000,
        go: |proxy, number| miss(proxy, &chat(256 << 10, number, "")),
    },
    Way {
        name: "streamed miss without events",
        instructions_max: 620_000,
        go: |proxy, number| streamed(proxy, number, 0),
    },
    Way {
        name: "streamed miss of 100 events",
        instructions_max: 1_100_000,
        go: |proxy, number| streamed(proxy, number, 100),
    },
];

/// Requests before those that are counted: pools are filled and tables are made by then.
const WARM_UP: u64 = 20;
const COUNTED: u64 = 20;

#[test]
fn every_way_stays_within_its_limits() {
    let mut found = String::new();
    let mut over = Vec::new();
    for way in &WAYS {
        let (instructions, calls) = cost(way);
        println!("{}: {instructions} instructions", way.name);
        if instructions > way.instructions_max {
            let max = way.instructions_max;
            over.push(format!("{}: {instructions}, at most {max}", way.name));
        }
        let _ = writeln!(found, "{}", way.name);
        for (import, count) in calls {
            let _ = writeln!(found, "  {import} {count}");
        }
    }
    let file = paths::workspace_root().join("host-tests/tests/cases/costs.txt");
    if std::env::var_os("FARTHING_BLESS").is_some() {
        std::fs::write(&file, &found).expect("a writable folder");
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(found, expected, "calls into the host");
    assert!(over.is_empty(), "instructions: {over:?}");
}

/// The least instructions of a request, and the calls of the last one.
fn cost(way: &Way) -> (u64, BTreeMap<&'static str, u64>) {
    let (mut proxy, accepted) = Proxy::start(configuration().to_string().as_bytes());
    assert!(accepted, "{:?}", proxy.events);
    let mut least = u64::MAX;
    let mut calls = BTreeMap::new();
    for number in 0..WARM_UP + COUNTED {
        let before = proxy.vms()[0].instructions();
        let called = proxy.vms()[0].host_calls().clone();
        (way.go)(&mut proxy, number);
        if number >= WARM_UP {
            least = least.min(proxy.vms()[0].instructions() - before);
            calls = proxy.vms()[0].host_calls().clone();
            for (import, count) in &called {
                *calls.entry(import).or_default() -= count;
            }
            calls.retain(|_, count| *count > 0);
        }
        proxy.pass_time(1);
    }
    (least, calls)
}

fn miss(proxy: &mut Proxy, body: &[u8]) {
    ask(proxy, body);
    assert!(proxy.streams["1"].to_upstream.is_some(), "a miss");
    answer(proxy);
    proxy.close("1");
}

fn hit(proxy: &mut Proxy, body: &[u8]) {
    ask(proxy, body);
    if !proxy.streams["1"].replied {
        answer(proxy);
    }
    proxy.close("1");
}

fn streamed(proxy: &mut Proxy, number: u64, events: usize) {
    let more = r#","stream":true,"stream_options":{"include_usage":true}"#;
    ask(proxy, &chat(4 << 10, number, more));
    assert!(proxy.streams["1"].to_upstream.is_some(), "a miss");
    let head = [
        (":status", "200"),
        ("content-type", "text/event-stream"),
        ("x-envoy-upstream-service-time", "3"),
    ];
    proxy.response_headers("1", headers(&head), End::No);
    let event = |delta: Value, reason: Value, more: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\
             \"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\
             \"finish_reason\":{reason}}}]{more}}}\n\n"
        )
    };
    for _ in 0..events {
        let said = event(json!({"content": " chain"}), Value::Null, ",\"usage\":null");
        proxy.response_body("1", said.as_bytes(), End::No);
    }
    let last = [
        event(json!({}), json!("stop"), ",\"usage\":null"),
        "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\
         \"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":1000,\
         \"completion_tokens\":8,\"total_tokens\":1008}}\n\n"
            .to_string(),
        "data: [DONE]\n\n".to_string(),
    ];
    for said in last {
        proxy.response_body("1", said.as_bytes(), End::No);
    }
    proxy.response_body("1", b"", End::Yes);
    proxy.close("1");
}

fn ask(proxy: &mut Proxy, body: &[u8]) {
    let length = body.len().to_string();
    let head = [
        (":authority", "gateway.test"),
        (":path", "/v1/chat/completions"),
        (":method", "POST"),
        (":scheme", "http"),
        ("content-type", "application/json"),
        ("content-length", &length),
        ("authorization", "Bearer costs"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", "0a0d4bd4-c5bd-4e6a-a2bb-d1d35ad4a8a8"),
    ];
    proxy.open("1", headers(&head), End::No);
    proxy.request_body("1", body, End::Yes);
}

fn answer(proxy: &mut Proxy) {
    let answer = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": "It needs a chain oil."},
            "logprobs": null,
            "finish_reason": "stop",
        }],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 8, "total_tokens": 1008},
    });
    let answer = answer.to_string();
    let length = answer.len().to_string();
    let head = [
        (":status", "200"),
        ("content-type", "application/json"),
        ("content-length", &length),
        ("x-envoy-upstream-service-time", "3"),
    ];
    proxy.response_headers("1", headers(&head), End::No);
    proxy.response_body("1", answer.as_bytes(), End::Yes);
}

/// A chat of about so many bytes, another for each number.
fn chat(bytes: usize, number: u64, more: &str) -> Vec<u8> {
    const SYSTEM: &str = "You are the assistant of an online shop for garden tools. Answer in short \
        sentences, name the article number where you know it, and say so when you do not know.";
    const USER: &str = "Hello! My hedge trimmer (art. 40-7712) stops after a minute or two.";
    const ASSISTANT: &str = "That is often the thermal switch.\\n\\n1. Let it cool for ten \
        minutes.\\n2. Clean the vents with a dry brush.\\n3. Check the cable: at 25 m you need \
        1.5 mm\\u00b2.\\n\\nIf it still stops, send us the number under the handle, such as \
        \\\"HT-2231-B\\\".";
    let mut body = format!(
        r#"{{"model":"auto","temperature":0,"max_tokens":64{more},"messages":[{{"role":"system","content":"{SYSTEM}"}}"#
    );
    while body.len() < bytes.saturating_sub(600) {
        let _ = write!(
            body,
            r#",{{"role":"user","content":"{USER}"}},{{"role":"assistant","content":"{ASSISTANT}"}}"#
        );
    }
    let _ = write!(
        body,
        r#",{{"role":"user","content":"Question {number:09}: and which oil does it need?"}}]}}"#
    );
    body.into_bytes()
}

/// Routing among two models, the cache, budgets and the cap on `max_tokens`, as `envoy/demo.yaml`
/// has them.
fn configuration() -> Value {
    let model = |id: &str, tier: &str, input: f64, output: f64| {
        json!({
            "id": id, "tier": tier, "cluster": "backend", "context_tokens": 1 << 20,
            "price": {"input_usd_per_mtok": input, "output_usd_per_mtok": output},
        })
    };
    json!({
        "models": [
            model("smollm2-135m-instruct", "small", 0.02, 0.04),
            model("qwen2.5-coder-0.5b-instruct", "large", 0.15, 0.60),
        ],
        "virtual_models": {"auto": ["smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct"]},
        "budget": {"window_s": 3_600, "usd": 1_000_000},
        "cache": {"ttl_s": 3_600},
        "max_tokens": {"default": 256, "cap": 1_024},
    })
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let own = |&(name, value): &(&str, &str)| (name.to_string(), value.as_bytes().to_vec());
    pairs.iter().map(own).collect()
}
