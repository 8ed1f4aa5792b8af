//! Requests and answers as OpenAI's API spells them.

use farthing_host_tests::stub::Answer;
use serde_json::{Value, json};

/// A chat request that may be cached.
pub fn chat(model: &str, prompt: &str) -> Value {
    let messages = json!([{"role": "user", "content": prompt}]);
    json!({"model": model, "messages": messages, "temperature": 0, "max_tokens": 32})
}

/// The same request, streamed, with usage.
pub fn streamed(mut request: Value) -> Value {
    request["stream"] = true.into();
    request["stream_options"] = json!({"include_usage": true});
    request
}

/// A whole chat completion.
pub fn completion(content: &str) -> Answer {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_767_225_600, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content},
            "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30},
    });
    Answer::json(200, body.to_string())
}

/// The bytes of a streamed chat completion with usage, one event a word.
pub fn event_stream(words: &[&str]) -> String {
    let mut deltas: Vec<Value> = words.iter().map(|word| json!({"content": word})).collect();
    deltas.insert(0, json!({"role": "assistant", "content": ""}));
    let mut stream = String::new();
    for delta in deltas {
        stream.push_str(&event(
            json!([{"index": 0, "delta": delta, "finish_reason": null}]),
        ));
    }
    stream.push_str(&event(
        json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]),
    ));
    stream.push_str(&usage_event(words.len()));
    stream.push_str("data: [DONE]\n\n");
    stream
}

/// The event with the usage of such a stream.
pub fn usage_event(completion_tokens: usize) -> String {
    let mut chunk = chunk(json!([]));
    chunk["usage"] = json!({"prompt_tokens": 20, "completion_tokens": completion_tokens,
        "total_tokens": 20 + completion_tokens});
    format!("data: {chunk}\n\n")
}

fn event(choices: Value) -> String {
    format!("data: {}\n\n", chunk(choices))
}

fn chunk(choices: Value) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_767_225_600,
        "model": "m", "choices": choices})
}

/// The words of a streamed answer; panics on anything that is not a well-formed event stream.
pub fn words_of(stream: &str) -> String {
    let (events, rest) = stream
        .rsplit_once("data: [DONE]\n\n")
        .expect("a final [DONE]");
    assert_eq!(rest, "");
    let mut text = String::new();
    for event in events.split("\n\n").filter(|event| !event.is_empty()) {
        let data = event.strip_prefix("data: ").expect("events have only data");
        let chunk: Value = serde_json::from_str(data).expect("data is JSON");
        text.push_str(
            chunk
                .pointer("/choices/0/delta/content")
                .and_then(Value::as_str)
                .unwrap_or(""),
        );
    }
    text
}
