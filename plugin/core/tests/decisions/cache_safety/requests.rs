//! Chats and completions of every shape, and one change at any depth.

use serde_json::{Map, Value, json};

use super::random::Random;

/// Top-level fields that change how an answer is sent, not what it says, or that stand in the key
/// in another form.
pub const NOT_IN_KEY: [&str; 6] = [
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
];

const TEXTS: [&str; 12] = [
    "",
    "a",
    "b",
    "ab",
    "a b",
    "caf\u{e9}",
    "cafe\u{301}",
    "\u{0}",
    "\"",
    "\\n",
    "\n",
    "\u{1f600}",
];
/// Fields that no API has.
pub const NAMES: [&str; 6] = ["x_a", "x_b", "x_ab", "x_a.b", "X_a", "x_\u{e9}"];

pub fn chat(random: &mut Random) -> Map<String, Value> {
    let mut messages = Vec::new();
    for _ in 0..=random.below(3) {
        messages.push(message(random));
    }
    let mut body = object(json!({"model": "small", "messages": messages}));
    if random.one_in(3) {
        let parameters = json!({"type": "object", "properties": {"x": value(random, 2)}});
        let function = json!({"name": text(random), "parameters": parameters});
        body.insert(
            "tools".into(),
            json!([{"type": "function", "function": function}]),
        );
    }
    if random.one_in(4) {
        body.insert("response_format".into(), json!({"type": "json_object"}));
    }
    sampling(&mut body, random);
    body
}

pub fn completion(random: &mut Random) -> Map<String, Value> {
    let prompt = match random.below(4) {
        0 => json!([text(random), text(random)]),
        1 => json!([random.below(9), 7]),
        2 => json!([[random.below(9)], [1, 2]]),
        _ => json!(text(random)),
    };
    let mut body = object(json!({"model": "small", "prompt": prompt}));
    if random.one_in(3) {
        body.insert("echo".into(), random.one_in(2).into());
    }
    sampling(&mut body, random);
    body
}

fn message(random: &mut Random) -> Value {
    let role = random.pick(&["system", "user", "assistant"]);
    let content = match random.below(3) {
        0 => {
            json!([{"type": "text", "text": text(random)}, {"type": "text", "text": text(random)}])
        }
        _ => json!(text(random)),
    };
    let mut message = json!({"role": role, "content": content});
    if random.one_in(4) {
        message["name"] = json!("n");
    }
    if role == "assistant" && random.one_in(3) {
        let function = json!({"name": "f", "arguments": text(random)});
        message["tool_calls"] = json!([{"id": "c", "type": "function", "function": function}]);
    }
    message
}

fn sampling(body: &mut Map<String, Value>, random: &mut Random) {
    let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
    let tenths = |random: &mut Random| json!(random.below(10) as f64 / 10.0);
    if random.one_in(2) {
        set("temperature", tenths(random));
    }
    if random.one_in(3) {
        set("top_p", json!(0.1 + random.below(9) as f64 / 10.0));
    }
    if random.one_in(3) {
        set("seed", json!(random.below(5)));
    }
    if random.one_in(4) {
        set("presence_penalty", tenths(random));
    }
    if random.one_in(4) {
        set("stop", json!(["x", text(random) + "."]));
    }
    if random.one_in(4) {
        set("n", json!(1 + random.below(4)));
    }
    for _ in 0..random.below(4) {
        set(random.pick(&NAMES), value(random, 3));
    }
}

pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => panic!("{other} is no object"),
    }
}

pub fn text(random: &mut Random) -> String {
    let first = random.pick(&TEXTS);
    format!("{first}{}", random.pick(&TEXTS))
}

/// Any JSON, at most so deep.
pub fn value(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth == 0 { 7 } else { 11 }) {
        0 => Value::Null,
        1 => random.one_in(2).into(),
        2 => (random.next() >> random.below(64)).into(),
        3 => (-(random.below(1 << 40) as i64)).into(),
        4 => json!(random.below(1_000) as f64 / 8.0),
        5 | 6 => text(random).into(),
        7 | 8 => (0..random.below(4))
            .map(|_| value(random, depth - 1))
            .collect(),
        _ => (0..random.below(4))
            .map(|_| (random.pick(&NAMES).to_owned(), value(random, depth - 1)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

/// Changes one thing somewhere inside; may by chance change nothing that counts.
pub fn change(value: &mut Value, random: &mut Random) {
    let inside = match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    if inside > 0 && !random.one_in(4) {
        let chosen = random.below(inside);
        let child = match value {
            Value::Array(items) => items.get_mut(chosen),
            Value::Object(fields) => fields.values_mut().nth(chosen),
            _ => None,
        };
        return change(child.expect("it has so many"), random);
    }
    match value {
        Value::Array(items) if random.one_in(2) => change_list(items, random),
        Value::Object(fields) if random.one_in(2) => change_fields(fields, random),
        Value::String(text) if random.one_in(2) => change_text(text, random),
        Value::Number(_) if random.one_in(4) => *value = Value::String(value.to_string()),
        other if random.one_in(8) => *other = json!([other.clone()]),
        other => *other = self::value(random, 1),
    }
}

fn change_list(items: &mut Vec<Value>, random: &mut Random) {
    let at = random.below(items.len());
    match random.below(4) {
        0 if !items.is_empty() => drop(items.remove(at)),
        1 if !items.is_empty() => items.insert(at, items[at].clone()),
        2 if items.len() > 1 => {
            let last = items.len() - 1;
            items.swap(0, 1 + random.below(last));
        }
        _ => items.push(value(random, 1)),
    }
}

fn change_fields(fields: &mut Map<String, Value>, random: &mut Random) {
    let name = fields.keys().nth(random.below(fields.len())).cloned();
    match (random.below(3), name) {
        (0, Some(name)) => drop(fields.remove(&name)),
        (1, Some(name)) => {
            let moved = fields.remove(&name).expect("it is one of them");
            fields.insert(name + "_", moved);
        }
        _ => drop(fields.insert("x_new".to_owned(), value(random, 1))),
    }
}

fn change_text(text: &mut String, random: &mut Random) {
    let at = text
        .char_indices()
        .nth(random.below(text.chars().count()))
        .map_or(0, |(at, _)| at);
    match random.below(3) {
        0 if !text.is_empty() => drop(text.remove(at)),
        1 => text.insert(at, random.pick(&['a', ' ', '\u{0}', '\u{301}', '"'])),
        _ => text.push_str(random.pick(&TEXTS)),
    }
}

/// Do two requests ask for the same, whatever their spelling?
pub fn ask_the_same(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    let counts = |(name, value): &(&String, &Value)| {
        !NOT_IN_KEY.contains(&name.as_str()) && !value.is_null()
    };
    let fields = |of: &Map<String, Value>| of.iter().filter(counts).count();
    fields(a) == fields(b)
        && (a.iter().filter(counts))
            .all(|(name, value)| b.get(name).is_some_and(|b| same(value, b)))
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let found = |(name, a): (&String, &Value)| b.get(name).is_some_and(|b| same(a, b));
            a.len() == b.len() && a.iter().all(found)
        }
        (Value::Number(a), Value::Number(b)) => match (integer(a), integer(b)) {
            (None, None) => a.as_f64() == b.as_f64(),
            (a, b) => a == b,
        },
        (a, b) => a == b,
    }
}

/// The number as an integer, however it is written.
fn integer(number: &serde_json::Number) -> Option<i128> {
    let whole = |value: f64| (value.fract() == 0.0).then_some(value as i128);
    (number.as_u64().map(i128::from))
        .or_else(|| number.as_i64().map(i128::from))
        .or_else(|| number.as_f64().and_then(whole))
}
