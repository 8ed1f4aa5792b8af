//! One request in any spelling has one key; any other request has another.

use std::collections::HashSet;

use farthing_core::cache_key::{CacheKey, RequestHead};
use farthing_core::config::{Config, ModelIndex};
use farthing_core::exchange::Headers;
use farthing_core::tenant::TenantId;
use farthing_core::wire::{Endpoint, parse};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use crate::edge::{CONFIG, pairs};

fn key_of(tenant: u8, model: usize, max_tokens: u32, endpoint: Endpoint, body: &str) -> CacheKey {
    let config = Config::parse(CONFIG.as_bytes()).unwrap();
    let request = parse(endpoint, body.as_bytes()).unwrap_or_else(|e| panic!("{e}: {body}"));
    let model = config.model(ModelIndex(model)).unwrap();
    let head = RequestHead::default();
    CacheKey::new(
        &config.secret,
        TenantId([tenant; 32]),
        model,
        max_tokens,
        &head,
        &request,
    )
}

/// The key of one and the same question under other headers.
fn key_under(headers: &[(&str, &str)]) -> CacheKey {
    let config = Config::parse(CONFIG.as_bytes()).unwrap();
    let body = r#"{"model":"a","messages":[{"role":"user","content":"x"}]}"#;
    let request = parse(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
    let model = config.model(ModelIndex(0)).unwrap();
    let head = RequestHead::read(&Headers::new(&pairs(headers)));
    CacheKey::new(
        &config.secret,
        TenantId([1; 32]),
        model,
        100,
        &head,
        &request,
    )
}

fn chat_key(body: &str) -> CacheKey {
    key_of(1, 0, 100, Endpoint::ChatCompletions, body)
}

#[track_caller]
fn check_same(bodies: &[&str]) {
    let keys: HashSet<CacheKey> = bodies.iter().map(|body| chat_key(body)).collect();
    assert_eq!(keys.len(), 1, "{bodies:?}");
}

#[track_caller]
fn check_different(bodies: &[&str]) {
    let keys: HashSet<CacheKey> = bodies.iter().map(|body| chat_key(body)).collect();
    assert_eq!(keys.len(), bodies.len(), "{bodies:?}");
}

#[test]
fn spellings_of_one_request() {
    check_same(&[
        r#"{"model":"a","messages":[{"role":"user","content":"caf\u00e9"}],"temperature":0,"seed":1}"#,
        r#"{"seed":1.0,"temperature":-0.0,"messages":[{"content":"café","role":"user"}],"model":"b"}"#,
        r#" { "seed" : 1e0 , "temperature" : 0.0, "model":"a","user":null, "stream":true,
            "messages":[ {"role":"user","content":"caf\u00E9"} ] } "#,
        r#"{"model":"a","messages":[{"role":"user","content":"café"}],"temperature":0e5,"seed":10e-1,
            "stream":true,"stream_options":{"include_usage":true},"max_tokens":7}"#,
    ]);
}

#[test]
fn requests_that_differ() {
    check_different(&[
        r#"{"model":"a","messages":[{"role":"user","content":"x"}]}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x "}]}"#,
        r#"{"model":"a","messages":[{"role":"system","content":"x"}]}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x","name":"y"}]}"#,
        r#"{"model":"a","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"},{"role":"user","content":"x"}]}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"temperature":0}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"temperature":1}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"seed":1}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"n":1}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"stop":"1"}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"stop":["1"]}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"service_tier":"flex"}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"service_tier":"priority"}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"unknown":1}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"unknown":"1"}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"unknown":1.5}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"unknown":-1}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"unknown":true}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"unknown":[]}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"unknown":[null]}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"unknown":{}}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"unknown":{"a":null}}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"unknown":18446744073709551615}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"unknown":18446744073709551614}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"unknown":9007199254740993}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"unknown":9007199254740992}"#,
    ]);
}

#[test]
fn who_asks_whom_for_how_much_is_part_of_it() {
    let chat = r#"{"model":"a","messages":[{"role":"user","content":"x"}]}"#;
    let text = r#"{"model":"a","prompt":"x"}"#;
    let keys = [
        key_of(1, 0, 100, Endpoint::ChatCompletions, chat),
        key_of(2, 0, 100, Endpoint::ChatCompletions, chat),
        key_of(1, 1, 100, Endpoint::ChatCompletions, chat),
        key_of(1, 0, 101, Endpoint::ChatCompletions, chat),
        key_of(1, 0, 100, Endpoint::Completions, text),
    ];
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
}

#[test]
fn what_else_travels_upstream_is_part_of_it() {
    let path = (":path", "/v1/chat/completions");
    let keys = [
        key_under(&[path]),
        key_under(&[(":path", "/v1/chat/completions?")]),
        key_under(&[(":path", "/v1/chat/completions?api-version=1")]),
        key_under(&[(":path", "/v1/chat/completions?api-version=2")]),
        key_under(&[path, ("openai-beta", "a")]),
        key_under(&[path, ("openai-beta", "")]),
        key_under(&[path, ("openai-beta", "a"), ("openai-beta", "b")]),
        key_under(&[path, ("openai-beta", "ab")]),
        key_under(&[path, ("openai-organization", "a")]),
        key_under(&[path, ("openai-project", "a")]),
        key_under(&[path, ("anthropic-version", "2023-06-01")]),
        key_under(&[path, ("anthropic-beta", "a")]),
    ];
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
    let traced = key_under(&[path, ("user-agent", "x"), ("x-request-id", "1")]);
    assert_eq!(traced, keys[0]);
}

#[test]
fn the_key_is_the_same_on_every_machine_and_in_every_release() {
    let key =
        chat_key(r#"{"model":"a","messages":[{"role":"user","content":"x"}],"n":1,"s":-1.5}"#);
    let hex: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "fe7f13e6ba04c81b65daafdd17e08fa977058828934c4d949ee9e8fa68425dc1"
    );
}

/// Any JSON that the parser takes for a field it does not know.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        "[a-z0-9 é\"\\\\]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c]{1,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn request() -> impl Strategy<Value = Map<String, Value>> {
    let fields = prop::collection::btree_map("x_[a-d]{1,2}", value(), 0..5);
    ("[a-z ]{1,8}", fields).prop_map(|(content, fields)| {
        let mut body = Map::new();
        body.insert("model".into(), "a".into());
        body.insert(
            "messages".into(),
            json!([{"role": "user", "content": content}]),
        );
        body.extend(fields);
        body
    })
}

/// The same value in another spelling: keys in reverse, spaces, every character escaped, numbers
/// with an exponent where that is exact.
fn respell(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            out.push_str("{ ");
            for (index, (name, value)) in fields.iter().rev().enumerate() {
                out.push_str(if index > 0 { "\n,\t" } else { "" });
                respell(&Value::String(name.clone()), out);
                out.push_str(" : ");
                respell(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push_str("[ ");
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { " , " } else { "" });
                respell(item, out);
            }
            out.push(']');
        }
        Value::String(text) => {
            out.push('"');
            text.encode_utf16()
                .for_each(|unit| out.push_str(&format!("\\u{unit:04X}")));
            out.push('"');
        }
        Value::Number(number) if number.as_i64().is_some_and(|n| n.abs() < 1 << 50) => {
            out.push_str(&format!("{number}.0e0"));
        }
        other => out.push_str(&other.to_string()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn respelling_keeps_the_key(body in request()) {
        let body = Value::Object(body);
        let mut other = String::new();
        respell(&body, &mut other);
        prop_assert_eq!(chat_key(&body.to_string()), chat_key(&other), "{}", other);
    }

    #[test]
    fn changing_any_one_field_changes_the_key(
        body in request(), name in "x_[a-d]{1,2}", new in value(),
    ) {
        let before = body.get(&name).cloned().unwrap_or(Value::Null);
        prop_assume!(!equal_numbers(&before, &new));
        let mut changed = body.clone();
        changed.insert(name, new);
        let (body, changed) = (Value::Object(body).to_string(), Value::Object(changed).to_string());
        prop_assert_ne!(chat_key(&body), chat_key(&changed), "{} {}", body, changed);
    }

    #[test]
    fn no_two_tenants_share_a_key(a: u8, b: u8, body in request(), max_tokens in select(vec![1_u32, 64])) {
        prop_assume!(a != b);
        let body = Value::Object(body).to_string();
        let key = |tenant| key_of(tenant, 0, max_tokens, Endpoint::ChatCompletions, &body);
        prop_assert_ne!(key(a), key(b));
    }
}

/// serde_json tells 1 from 1.0, which are one number to us.
fn equal_numbers(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal_numbers(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(k, a)| b.get(k).is_some_and(|b| equal_numbers(a, b)))
        }
        (a, b) => a == b,
    }
}

/// Requests are hashed in runs: where one ends must not matter.
#[test]
fn long_requests_have_keys_of_their_own() {
    let body = |bytes: usize, last: char, space: &str| {
        let said = "x".repeat(bytes);
        let numbers = "7,".repeat(bytes / 8);
        format!(
            r#"{{"model":"a",{space}"logit_bias":{{}},"seeds":[{numbers}7],"messages":[{{"role":"user",{space}"content":"{said}{last}"}}]}}"#
        )
    };
    let key = |body: &str| key_of(1, 0, 9, Endpoint::ChatCompletions, body);
    let mut keys = HashSet::new();
    for run in [1, 2, 5] {
        for bytes in (run * (16 << 10) - 40..run * (16 << 10) + 40).step_by(3) {
            for last in ['x', 'y'] {
                let one = key(&body(bytes, last, ""));
                assert_eq!(one, key(&body(bytes, last, " ")), "{bytes} {last}");
                assert!(keys.insert(one), "{bytes} {last}");
            }
        }
    }
}
