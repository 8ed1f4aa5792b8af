//! One request of any endpoint in any spelling: one key.

use std::fmt::Write;

use farthing_core::config::Config;
use serde_json::{Map, Value, json};

use super::keys::Asked;
use super::random::Random;
use super::requests::NOT_IN_KEY;
use crate::edge::CONFIG;

const CASES: usize = 1_000_000;
const THREADS: usize = 4;
const SPELLINGS_A_REQUEST: usize = 50;
/// Of which each thread has its own, from here on.
const FIRST_SEED: u64 = 0x5be11;

/// The same request: nulls at the top, fields that are not in the key, and another spelling.
fn respelled(body: &Map<String, Value>, random: &mut Random) -> String {
    let mut body = body.clone();
    for name in ["user", "logit_bias", "x_null", "metadata", "stop"] {
        if random.one_in(3) {
            body.entry(name).or_insert(Value::Null);
        }
    }
    if random.one_in(2) {
        body.insert("model".into(), json!("another"));
        body.insert("stream".into(), json!(true));
        body.insert("stream_options".into(), json!({"include_usage": true}));
        body.insert("max_tokens".into(), json!(1 + random.below(99)));
        body.insert("max_output_tokens".into(), json!(1 + random.below(99)));
    }
    assert!(NOT_IN_KEY.contains(&"max_tokens"));
    let mut text = String::new();
    spell(&Value::Object(body), random, &mut text);
    text
}

fn spell(value: &Value, random: &mut Random, out: &mut String) {
    space(random, out);
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            random.shuffle(&mut fields);
            out.push('{');
            for (index, (name, value)) in fields.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                space(random, out);
                spell_text(name, random, out);
                space(random, out);
                out.push(':');
                spell(value, random, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                spell(item, random, out);
            }
            out.push(']');
        }
        Value::String(text) => spell_text(text, random, out),
        Value::Number(number) => spell_number(number, random, out),
        other => out.push_str(&other.to_string()),
    }
    space(random, out);
}

fn space(random: &mut Random, out: &mut String) {
    for _ in 0..random.below(6).saturating_sub(3) {
        out.push(random.pick(&[' ', '\n', '\t', '\r']));
    }
}

/// Each character as itself or in one of its escapes.
fn spell_text(text: &str, random: &mut Random, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        let must = c < ' ' || c == '"' || c == '\\';
        match (c, random.below(3)) {
            ('"' | '\\' | '/', 0) => out.extend(['\\', c]),
            ('\n', 0) => out.push_str("\\n"),
            (_, 1) => escape(c, random, out),
            _ if must => escape(c, random, out),
            _ => out.push(c),
        }
    }
    out.push('"');
}

fn escape(c: char, random: &mut Random, out: &mut String) {
    let upper = random.one_in(2);
    for unit in c.encode_utf16(&mut [0; 2]) {
        let _ = if upper {
            write!(out, "\\u{unit:04X}")
        } else {
            write!(out, "\\u{unit:04x}")
        };
    }
}

/// A number with a fraction or an exponent more, where a double is exact.
fn spell_number(number: &serde_json::Number, random: &mut Random, out: &mut String) {
    let plain = number.to_string();
    let small = number.as_f64().is_some_and(|value| value.abs() < 1e15);
    let integer = number.is_u64() || number.is_i64();
    let _ = match random.below(5) {
        0 if small && integer => write!(out, "{plain}.0"),
        1 if small && integer => write!(out, "{plain}e0"),
        2 if small && integer && plain != "0" => write!(out, "{plain}0E-1"),
        3 if small && integer && plain == "0" => write!(out, "-0"),
        4 if small && !integer && !plain.contains('e') => write!(out, "{plain}00e+0"),
        _ => write!(out, "{plain}"),
    };
}

#[test]
fn a_million_spellings_have_the_keys_of_their_requests() {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let seed = FIRST_SEED + thread as u64;
            scope.spawn(move || spell_many(CASES / THREADS, seed));
        }
    });
}

fn spell_many(cases: usize, seed: u64) {
    let config = Config::parse(CONFIG.as_bytes()).unwrap();
    let mut random = Random(seed);
    for _ in 0..cases / SPELLINGS_A_REQUEST {
        let asked = Asked::random(&mut random);
        let plain = Value::Object(asked.body.clone()).to_string();
        let key = asked.key(&config, &plain);
        assert!(key.is_some(), "seed {seed:#x}: {plain}");
        for _ in 0..SPELLINGS_A_REQUEST {
            let other = respelled(&asked.body, &mut random);
            assert!(
                asked.key(&config, &other) == key,
                "seed {seed:#x}: two keys for\n{plain}\n{other}"
            );
        }
    }
}
