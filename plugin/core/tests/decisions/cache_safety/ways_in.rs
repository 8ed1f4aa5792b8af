//! Requests of the endpoints beside chat and completions, of every shape.

use farthing_core::wire::Endpoint;
use serde_json::{Map, Value, json};

use super::random::Random;
use super::requests::{NAMES, chat, completion, object, text, value};

/// A request of any endpoint, and of which.
pub fn request(random: &mut Random) -> (Endpoint, Map<String, Value>) {
    let endpoint = random.pick(&Endpoint::ALL);
    let body = match endpoint {
        Endpoint::ChatCompletions => chat(random),
        Endpoint::Completions => completion(random),
        Endpoint::Embeddings => embedding(random),
        Endpoint::Responses => response(random),
        Endpoint::Messages => message(random),
    };
    (endpoint, body)
}

fn embedding(random: &mut Random) -> Map<String, Value> {
    let input = match random.below(4) {
        0 => json!([text(random) + ".", text(random) + "."]),
        1 => json!([random.below(9), 7]),
        2 => json!([[random.below(9)], [1, 2]]),
        _ => json!(text(random) + "."),
    };
    let mut body = object(json!({"model": "small", "input": input}));
    maybe(&mut body, random, "encoding_format", |random| {
        json!(random.pick(&["float", "base64"]))
    });
    maybe(&mut body, random, "dimensions", |random| {
        json!(1 + random.below(9))
    });
    unknown(&mut body, random);
    body
}

fn response(random: &mut Random) -> Map<String, Value> {
    let input = match random.below(3) {
        0 => json!(text(random)),
        _ => (0..=random.below(3)).map(|_| item(random)).collect(),
    };
    let mut body = object(json!({"model": "small", "input": input, "store": false}));
    maybe(&mut body, random, "instructions", |random| {
        json!(text(random))
    });
    maybe(&mut body, random, "previous_response_id", |random| {
        json!(text(random))
    });
    maybe(&mut body, random, "max_output_tokens", |random| {
        json!(1 + random.below(9))
    });
    maybe(
        &mut body,
        random,
        "text",
        |random| json!({"format": {"type": "json_schema", "name": "n", "schema": value(random, 2)}}),
    );
    maybe(&mut body, random, "tools", |random| {
        let parameters = json!({"type": "object", "properties": {"x": value(random, 2)}});
        json!([{"type": "function", "name": text(random), "parameters": parameters}])
    });
    sampling(&mut body, random);
    body
}

fn item(random: &mut Random) -> Value {
    match random.below(5) {
        0 => json!({"type": "function_call", "call_id": "c", "name": "f",
            "arguments": text(random)}),
        1 => json!({"type": "function_call_output", "call_id": "c", "output": text(random)}),
        2 => json!({"type": "message", "role": "user", "content":
            [{"type": "input_text", "text": text(random)}]}),
        _ => {
            let role = random.pick(&["system", "developer", "user", "assistant"]);
            json!({"role": role, "content": text(random)})
        }
    }
}

fn message(random: &mut Random) -> Map<String, Value> {
    let messages: Value = (0..=random.below(3)).map(|_| turn(random)).collect();
    let mut body = object(json!({"model": "small", "max_tokens": 9, "messages": messages}));
    maybe(&mut body, random, "system", |random| {
        match random.below(2) {
            0 => json!(text(random)),
            _ => json!([{"type": "text", "text": text(random)}]),
        }
    });
    maybe(&mut body, random, "stop_sequences", |random| {
        json!(["x", text(random) + "."])
    });
    maybe(&mut body, random, "top_k", |random| json!(random.below(9)));
    maybe(
        &mut body,
        random,
        "tools",
        |random| json!([{"name": text(random), "input_schema": {"x": value(random, 2)}}]),
    );
    sampling(&mut body, random);
    body
}

fn turn(random: &mut Random) -> Value {
    let content = match random.below(4) {
        0 => json!([{"type": "text", "text": text(random)},
            {"type": "text", "text": text(random), "cache_control": {"type": "ephemeral"}}]),
        1 => {
            json!([{"type": "tool_use", "id": "u", "name": "f", "input": {"x": value(random, 1)}}])
        }
        2 => json!([{"type": "tool_result", "tool_use_id": "u", "content": text(random)}]),
        _ => json!(text(random)),
    };
    json!({"role": random.pick(&["user", "assistant"]), "content": content})
}

/// What both of the newer APIs have, at the values that both allow.
fn sampling(body: &mut Map<String, Value>, random: &mut Random) {
    maybe(body, random, "temperature", |random| {
        json!(random.below(10) as f64 / 10.0)
    });
    maybe(body, random, "top_p", |random| {
        json!(0.1 + random.below(9) as f64 / 10.0)
    });
    maybe(
        body,
        random,
        "metadata",
        |random| json!({"x": text(random)}),
    );
    unknown(body, random);
}

fn unknown(body: &mut Map<String, Value>, random: &mut Random) {
    for _ in 0..random.below(4) {
        let name = random.pick(&NAMES).to_owned();
        body.insert(name, value(random, 3));
    }
}

fn maybe(
    body: &mut Map<String, Value>,
    random: &mut Random,
    name: &str,
    value: impl FnOnce(&mut Random) -> Value,
) {
    if random.one_in(3) {
        body.insert(name.to_owned(), value(random));
    }
}
