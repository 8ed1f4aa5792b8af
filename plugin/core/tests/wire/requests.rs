//! Requests: which are refused and how, and what the others are read as.

use crate::cases;
use farthing_core::error::ApiError;
use farthing_core::limits::JSON_DEPTH_MAX;
use farthing_core::wire::{
    Endpoint, Json, Message, Prompt, Request, Sampling, parse, parse_embeddings,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

#[test]
fn refused_requests() {
    for case in cases("requests_refused.json") {
        let refusal = json!({
            "status": case["status"], "code": case["code"], "param": case["param"],
        });
        check(&case, Err(refusal));
    }
}

#[test]
fn accepted_requests() {
    for case in cases("requests_accepted.json") {
        check(&case, Ok(case["request"].clone()));
    }
}

#[test]
fn deepest_json_that_is_read() {
    for (depth, read) in [(JSON_DEPTH_MAX, true), (JSON_DEPTH_MAX + 1, false)] {
        let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(Json::parse(text.as_bytes()).is_ok(), read, "{depth} levels");
    }
}

#[test]
fn error_messages_repeat_little_of_a_request() {
    let role = "\u{1b}[31m".repeat(1_000);
    let messages = json!([{"role": role, "content": "secret"}]);
    let body = json!({"model": "m", "messages": messages}).to_string();
    let message = parse(Endpoint::ChatCompletions, body.as_bytes())
        .unwrap_err()
        .message;
    assert!(
        message.len() < 512 && !message.contains('\u{1b}'),
        "{message}"
    );
}

#[test]
fn written_json_is_minimal_and_exact() {
    let text = r#" { "b" : [ 1 , -2, 1.50, 1e3, -0, 18446744073709551615, -9223372036854775808 ],
        "a" : "\u00e9\/\ud83d\ude00\n\u0000\"" , "c":{ }, "d":[ ], "e":null,"f":true } "#;
    let written = Json::parse(text.as_bytes()).unwrap().to_bytes();
    let expected = "{\"b\":[1,-2,1.5,1000.0,-0.0,18446744073709551615,-9223372036854775808],\
        \"a\":\"é/😀\\n\\u0000\\\"\",\"c\":{},\"d\":[],\"e\":null,\"f\":true}";
    assert_eq!(String::from_utf8(written).unwrap(), expected);
}

/// The single place that reads a request of a case.
#[track_caller]
fn check(case: &Value, expected: Result<Value, Value>) {
    let body = body(case);
    let read = match case["endpoint"].as_str().unwrap() {
        "served embeddings" => parse_embeddings(&body).map(|request| {
            json!({
                "model": request.model, "input": request.input, "dimensions": request.dimensions,
                "encoding_format": format!("{:?}", request.encoding_format),
            })
        }),
        name => parse(crate::endpoint(name), &body).map(|request| describe(&request)),
    };
    assert_eq!(
        read.map_err(|error| describe_refusal(&error)),
        expected,
        "case {}",
        case["name"]
    );
}

/// The bytes of a case: as JSON, as fields added to the smallest request, as text, in hexadecimal,
/// or as a text repeated.
fn body(case: &Value) -> Vec<u8> {
    if let Some(with) = case["with"].as_object() {
        let mut body = match case["endpoint"].as_str() {
            Some("chat") => json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}),
            Some("messages") => json!({"model": "m", "max_tokens": 9,
                "messages": [{"role": "user", "content": "hi"}]}),
            Some("responses" | "embeddings") => json!({"model": "m", "input": "hi"}),
            _ => json!({"model": "m", "prompt": "hi"}),
        };
        body.as_object_mut().unwrap().extend(with.clone());
        return body.to_string().into_bytes();
    }
    if let Some(text) = case["text"].as_str() {
        return text.into();
    }
    if let Some(hex) = case["hex"].as_str() {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        return (0..hex.len()).step_by(2).map(byte).collect();
    }
    if let Some(repeat) = case["repeat"].as_str() {
        let times = usize::try_from(case["times"].as_u64().unwrap()).unwrap();
        let part = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
        return (part("before") + &repeat.repeat(times) + &part("after")).into_bytes();
    }
    case["body"].to_string().into_bytes()
}

fn describe_refusal(error: &ApiError) -> Value {
    let body: Value = serde_json::from_slice(&error.body()).unwrap();
    assert!(!error.message.is_empty());
    assert_eq!(body["error"]["message"], error.message);
    let (code, param) = (&body["error"]["code"], &body["error"]["param"]);
    json!({"status": error.status(), "code": code, "param": param})
}

/// A request as JSON, leaving out what has its default.
fn describe(request: &Request) -> Value {
    let mut out = Map::new();
    out.insert("model".into(), json!(request.model));
    match &request.prompt {
        Prompt::Messages(messages) => {
            let messages: Vec<Value> = messages.iter().map(describe_message).collect();
            out.insert("messages".into(), json!(messages));
        }
        Prompt::Text(texts) => drop(out.insert("prompt".into(), json!(texts))),
        Prompt::Tokens(tokens) => drop(out.insert("prompt_tokens".into(), json!(tokens))),
    }
    let mut keep = |key: &str, value: Value, default: Value| {
        if value != default {
            out.insert(key.into(), value);
        }
    };
    let (is, not) = (&request.sampling, Sampling::default());
    keep("max_tokens", json!(request.max_tokens), Value::Null);
    keep("stream", json!(request.stream), json!(false));
    keep("include_usage", json!(request.include_usage), json!(false));
    keep("tools", json!(request.tools), json!(false));
    keep("echo", json!(request.echo), json!(false));
    keep("images", json!(request.images.count), json!(0));
    keep("image_at", json!(request.images.first), Value::Null);
    keep(
        "extent",
        json!(format!("{:?}", request.extent)),
        json!("Whole"),
    );
    keep("reusable", json!(request.is_reusable()), json!(true));
    keep(
        "response_format",
        request.response_format.as_ref().map_or(Value::Null, value),
        Value::Null,
    );
    keep("temperature", json!(is.temperature), json!(not.temperature));
    keep("top_p", json!(is.top_p), json!(not.top_p));
    keep("top_k", json!(is.top_k), json!(not.top_k));
    keep("min_p", json!(is.min_p), json!(not.min_p));
    keep("seed", json!(is.seed), json!(not.seed));
    keep(
        "presence_penalty",
        json!(is.presence_penalty),
        json!(not.presence_penalty),
    );
    keep(
        "frequency_penalty",
        json!(is.frequency_penalty),
        json!(not.frequency_penalty),
    );
    keep(
        "repetition_penalty",
        json!(is.repetition_penalty),
        json!(not.repetition_penalty),
    );
    keep("n", json!(is.n), json!(not.n));
    keep("logprobs", json!(is.logprobs), json!(not.logprobs));
    keep("confidence", json!(is.confidence), json!(not.confidence));
    keep("stop", json!(is.stop), json!(not.stop));
    Value::Object(out)
}

fn describe_message(message: &Message) -> Value {
    let mut out = json!({"role": message.role.as_str(), "content": message.content});
    if let Some(name) = &message.name {
        out["name"] = json!(name);
    }
    if let Some(id) = &message.tool_call_id {
        out["tool_call_id"] = json!(id);
    }
    if let Some(calls) = &message.tool_calls {
        out["tool_calls"] = value(calls);
    }
    out
}

fn value(json: &Json) -> Value {
    serde_json::from_slice(&json.to_bytes()).unwrap()
}

/// Any JSON value; fractions have no more digits than serde_json reads exactly.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| json!(f64::from(number) / 1000.0)),
        // Every double that 64 bits could have held, to the last of its digits.
        any::<f64>().prop_filter_map("beyond 64 bits", |number| {
            (number.abs() < 9.0e18).then(|| json!(number))
        }),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 24, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..24).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..24)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_is_what_serde_json_reads(value in any_json()) {
        let read = Json::parse(value.to_string().as_bytes()).unwrap().to_bytes();
        let again: Value = serde_json::from_slice(&read).unwrap();
        prop_assert_eq!(&again, &value);
        let twice = Json::parse(&read).unwrap().to_bytes();
        prop_assert_eq!(twice, read);
    }

    #[test]
    fn damaged_requests_never_panic(at in 0_usize..400, with in any::<u8>(), cut in 0_usize..400) {
        let mut body = br#"{"model":"m","messages":[{"role":"user","content":[{"type":"text",
            "text":"h\u00e9"}]},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":
            "function","function":{"name":"f","arguments":"{}"}}]}],"n":2,"stop":["a"],"seed":-3,
            "stream":true,"stream_options":{"include_usage":true},"logprobs":true}"#.to_vec();
        let end = body.len() - 1;
        body[at.min(end)] = with;
        body.truncate(cut.max(1));
        for endpoint in Endpoint::ALL {
            if let Err(error) = parse(endpoint, &body) {
                prop_assert_eq!(error.status(), 400);
            }
        }
        let _ = parse_embeddings(&body);
    }
}
