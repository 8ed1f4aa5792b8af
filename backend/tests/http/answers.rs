//! Good requests: whole, streamed, several choices and prompts, embeddings, models.

use serde_json::{Value, json};

use super::client::{Reply, get, post};
use super::server::{CHAT, EMBEDDING, Server};

#[track_caller]
fn ask(path: &str, body: &Value) -> Reply {
    let reply = Server::shared().ask(&post(path, &[], body.to_string()));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply
}

fn chat(more: Value) -> Value {
    let mut body = json!({
        "model": CHAT,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 12,
        "temperature": 0,
    });
    merge(&mut body, more);
    body
}

fn text(more: Value) -> Value {
    let mut body = json!({"model": CHAT, "prompt": "One, two,", "max_tokens": 6, "temperature": 0});
    merge(&mut body, more);
    body
}

fn merge(body: &mut Value, more: Value) {
    let Value::Object(more) = more else {
        panic!("{more} is not an object")
    };
    body.as_object_mut()
        .expect("bodies are objects")
        .extend(more);
}

/// The data of every event; the last one must be `[DONE]`.
#[track_caller]
fn events(reply: &Reply) -> Vec<Value> {
    assert_eq!(
        reply.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    let text = reply.text();
    let body = text
        .strip_suffix("data: [DONE]\n\n")
        .unwrap_or_else(|| panic!("no end: {text}"));
    body.split_terminator("\n\n")
        .map(|event| {
            event
                .strip_prefix("data: ")
                .expect("an event is one data line")
        })
        .map(|data| serde_json::from_str(data).expect("data is JSON"))
        .collect()
}

/// The text of one choice of a stream, with its finish reason.
#[track_caller]
fn streamed(events: &[Value], index: usize) -> (String, String) {
    let mut text = String::new();
    let mut reasons = Vec::new();
    for event in events {
        for choice in event["choices"].as_array().expect("an event has choices") {
            if choice["index"] == index {
                assert!(reasons.is_empty(), "{choice} comes after the end");
                let piece = choice["delta"]["content"]
                    .as_str()
                    .or(choice["text"].as_str());
                text.push_str(piece.unwrap_or_default());
                reasons.extend(choice["finish_reason"].as_str().map(str::to_owned));
            }
        }
    }
    (text, reasons.pop().expect("every choice ends"))
}

#[test]
fn a_chat_is_the_same_whole_and_streamed() {
    let whole = ask("/v1/chat/completions", &chat(json!({})));
    assert_eq!(whole.header("x-farthing-source"), Some("model"));
    assert_eq!(whole.header("x-farthing-model"), Some(CHAT));
    let json = whole.json();
    let choice = &json["choices"][0];
    let content = choice["message"]["content"]
        .as_str()
        .expect("a chat has content");
    assert!(!content.is_empty(), "{json}");
    assert_eq!(json["object"], "chat.completion");
    assert_eq!(json["model"], CHAT);
    let usage = &json["usage"];
    assert!(
        usage["prompt_tokens"]
            .as_u64()
            .is_some_and(|tokens| tokens > 10),
        "{usage}"
    );

    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let reply = ask("/v1/chat/completions", &chat(options));
    let events = events(&reply);
    assert_eq!(
        events[0]["choices"][0]["delta"]["role"], "assistant",
        "the role comes first"
    );
    let (text, reason) = streamed(&events, 0);
    assert_eq!(text, content);
    assert_eq!(choice["finish_reason"], reason.as_str());
    let last = events.last().expect("there are events");
    assert_eq!(last["choices"], json!([]));
    for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(last["usage"][count], usage[count], "{last}");
    }
}

#[test]
fn usage_is_streamed_only_when_asked() {
    let reply = ask("/v1/chat/completions", &chat(json!({"stream": true})));
    assert!(
        events(&reply)
            .iter()
            .all(|event| event.get("usage").is_none_or(Value::is_null))
    );
}

#[test]
fn every_choice_of_a_stream_starts_and_ends() {
    let reply = ask(
        "/v1/chat/completions",
        &chat(json!({"stream": true, "n": 3, "temperature": 1, "seed": 7})),
    );
    let events = events(&reply);
    for index in 0..3 {
        let starts = events.iter().filter(|event| {
            let choice = &event["choices"][0];
            choice["index"] == index && choice["delta"]["role"] == "assistant"
        });
        assert_eq!(starts.count(), 1);
        streamed(&events, index);
    }
}

#[test]
fn a_virtual_model_answers_as_the_model_behind_it() {
    let reply = ask(
        "/v1/chat/completions",
        &chat(json!({"model": "auto", "max_tokens": 1})),
    );
    assert_eq!(reply.json()["model"], CHAT);
    assert_eq!(reply.header("x-farthing-model"), Some(CHAT));
}

#[test]
fn max_tokens_ends_with_length_and_stop_strings_with_stop() {
    let json = ask("/v1/chat/completions", &chat(json!({"max_tokens": 2}))).json();
    assert_eq!(json["choices"][0]["finish_reason"], "length");
    assert_eq!(json["usage"]["completion_tokens"], 2);
    // Greedy decoding says the same again, so some of the middle of an answer comes up again.
    let whole = content(&ask("/v1/chat/completions", &chat(json!({}))));
    let stop: String = whole.chars().skip(4).take(5).collect();
    let reply = ask("/v1/chat/completions", &chat(json!({"stop": stop})));
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "stop");
    let stopped = content(&reply);
    assert!(
        whole.starts_with(&stopped) && !stopped.contains(&stop),
        "{stopped:?} of {whole:?}"
    );
}

#[track_caller]
fn content(reply: &Reply) -> String {
    let json = reply.json();
    let content = json["choices"][0]["message"]["content"].as_str();
    content.expect("a chat's answer has content").to_owned()
}

#[test]
fn log_probabilities_come_in_both_shapes() {
    let more = json!({"max_tokens": 3, "logprobs": true, "top_logprobs": 2});
    let json = ask("/v1/chat/completions", &chat(more)).json();
    let content = json["choices"][0]["logprobs"]["content"]
        .as_array()
        .expect("logprobs");
    assert_eq!(content.len(), 3);
    assert!(
        content
            .iter()
            .all(|token| token["top_logprobs"].as_array().map(Vec::len) == Some(2))
    );
    let json = ask(
        "/v1/completions",
        &text(json!({"max_tokens": 3, "logprobs": 2})),
    )
    .json();
    let logprobs = &json["choices"][0]["logprobs"];
    for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(
            logprobs[list].as_array().map(Vec::len),
            Some(3),
            "{list} of {logprobs}"
        );
    }
}

#[test]
fn prompts_times_choices_are_numbered_as_openai_does() {
    let prompts = json!(["One, two,", "Red, green,"]);
    let single = |prompt: &Value| {
        let json = ask("/v1/completions", &text(json!({"prompt": prompt}))).json();
        json["choices"][0]["text"]
            .as_str()
            .expect("text")
            .to_owned()
    };
    let expected: Vec<_> = [0, 0, 1, 1]
        .map(|prompt: usize| single(&prompts[prompt]))
        .into_iter()
        .collect();
    let more = json!({"prompt": prompts, "n": 2});
    let json = ask("/v1/completions", &text(more.clone())).json();
    assert_eq!(json["object"], "text_completion");
    let choices = json["choices"].as_array().expect("choices");
    let found: Vec<_> = choices
        .iter()
        .map(|choice| choice["text"].as_str().expect("text"))
        .collect();
    assert_eq!(found, expected);
    let mut more = more;
    merge(&mut more, json!({"stream": true}));
    let events = events(&ask("/v1/completions", &text(more)));
    let found: Vec<_> = (0..4).map(|index| streamed(&events, index).0).collect();
    assert_eq!(found, expected);
}

#[test]
fn echo_repeats_the_prompt() {
    let plain = ask("/v1/completions", &text(json!({}))).json();
    let expected = format!(
        "One, two,{}",
        plain["choices"][0]["text"].as_str().expect("text")
    );
    let json = ask("/v1/completions", &text(json!({"echo": true}))).json();
    assert_eq!(json["choices"][0]["text"], expected.as_str());
    let reply = ask(
        "/v1/completions",
        &text(json!({"echo": true, "stream": true})),
    );
    assert_eq!(streamed(&events(&reply), 0).0, expected);
}

#[test]
fn prompts_may_be_tokens() {
    let more = json!({"prompt": [[504, 3575], [504]], "max_tokens": 1});
    let json = ask("/v1/completions", &text(more)).json();
    assert_eq!(json["choices"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["usage"]["prompt_tokens"], 3);
}

#[test]
fn embeddings_keep_their_order_in_both_formats() {
    let embed = |input: Value, format: &str| {
        let body = json!({"model": EMBEDDING, "input": input, "encoding_format": format});
        ask("/v1/embeddings", &body).json()
    };
    let both = embed(json!(["a cat", "the stock market fell"]), "float");
    for (index, input) in ["a cat", "the stock market fell"].into_iter().enumerate() {
        let alone = floats(&embed(json!(input), "float")["data"][0]["embedding"]);
        let beside = floats(&both["data"][index]["embedding"]);
        assert_eq!(alone.len(), 384);
        let dot: f64 = alone.iter().zip(&beside).map(|(a, b)| a * b).sum();
        assert!(
            dot > 0.999,
            "the same text has the same vector, whatever it is sent with: {dot}"
        );
        assert_eq!(both["data"][index]["index"], index);
    }
    assert!(
        both["usage"]["prompt_tokens"]
            .as_u64()
            .is_some_and(|tokens| tokens >= 8),
        "{both}"
    );
    // 384 floats of four bytes in base64.
    let encoded = embed(json!("a cat"), "base64")["data"][0]["embedding"].clone();
    assert_eq!(encoded.as_str().map(str::len), Some(2048));
}

fn floats(vector: &Value) -> Vec<f64> {
    let numbers = vector.as_array().expect("an embedding is a list");
    numbers
        .iter()
        .map(|number| number.as_f64().expect("of numbers"))
        .collect()
}

#[test]
fn models_are_listed_chat_first_then_virtual_then_embedding() {
    let json = Server::shared().ask(&get("/v1/models")).json();
    let ids: Vec<_> = json["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|m| &m["id"])
        .collect();
    assert_eq!(ids, [CHAT, "auto", EMBEDDING]);
    let one = Server::shared()
        .ask(&get(&format!("/v1/models/{EMBEDDING}")))
        .json();
    assert_eq!(one["id"], EMBEDDING);
    assert_eq!(one["object"], "model");
}

#[test]
fn health_and_metrics() {
    assert_eq!(Server::shared().ask(&get("/healthz")).status, 200);
    assert_eq!(Server::shared().ask(&get("/readyz")).status, 200);
    ask("/v1/chat/completions", &chat(json!({"max_tokens": 1})));
    let page = Server::shared().ask(&get("/metrics")).text();
    for name in [
        "gen_ai_server_request_duration_seconds_count",
        "gen_ai_server_time_to_first_token_seconds_bucket",
        "gen_ai_client_token_usage_total",
        "farthing_engine_blocks_total",
        "farthing_http_requests_total",
    ] {
        assert!(
            page.lines().any(|line| line.starts_with(name)),
            "{name} is missing from {page}"
        );
    }
}

#[test]
fn sane_request_ids_are_echoed() {
    let with_id = |id: &str| {
        let request = post("/v1/models/x", &[("x-farthing-request-id", id)], "");
        Server::shared()
            .ask(&request)
            .header("x-farthing-request-id")
            .map(str::to_owned)
    };
    assert_eq!(with_id("r-1").as_deref(), Some("r-1"));
    assert_eq!(with_id(&"x".repeat(129)), None);
    assert_eq!(with_id("two words"), None);
}

#[test]
fn answers_have_the_form_that_was_asked_for() {
    let schema = json!({"type": "object", "properties": {"capital": {"type": "string",
        "maxLength": 12}, "in_europe": {"type": "boolean"}},
        "required": ["capital", "in_europe"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
    let body = chat(json!({"max_tokens": 60, "n": 2, "response_format": format}));
    let whole = ask("/v1/chat/completions", &body).json();
    for choice in whole["choices"].as_array().expect("choices") {
        assert_eq!(choice["finish_reason"], "stop", "{choice}");
        let content = choice["message"]["content"].as_str().expect("a text");
        let content: Value = serde_json::from_str(content).expect("JSON");
        assert!(content["capital"].is_string() && content["in_europe"].is_boolean());
        assert_eq!(content.as_object().map(|fields| fields.len()), Some(2));
    }
    let body = text(json!({"structured_outputs": {"choice": [" three", " 3"]}, "stream": true}));
    let streamed = events(&ask("/v1/completions", &body));
    let texts = streamed
        .iter()
        .map(|event| event["choices"][0]["text"].as_str());
    assert_eq!(texts.flatten().collect::<String>(), " three");
}

#[test]
fn confidence_comes_beside_log_probabilities() {
    let form = json!({"choice": ["Paris is the capital of France."]});
    for (more, forced) in [
        (json!({}), false),
        (json!({"structured_outputs": form}), true),
    ] {
        let mut body = chat(json!({"logprobs": true, "farthing": {"confidence": true}}));
        merge(&mut body, more);
        let json = ask("/v1/chat/completions", &body).json();
        let tokens = json["choices"][0]["logprobs"]["content"]
            .as_array()
            .expect("tokens");
        assert!(tokens.len() > 3, "{json}");
        for token in tokens {
            let confidence = &token["farthing"];
            let measured = confidence["entropy_nats"]
                .as_f64()
                .zip(confidence["margin"].as_f64());
            let sound = measured.is_some_and(|(entropy, margin)| {
                (0.0..12.0).contains(&entropy) && (0.0..=1.0).contains(&margin)
            });
            assert_eq!(
                (sound, confidence["forced"] == true),
                (!forced, forced),
                "{token}"
            );
        }
    }
    let json = ask("/v1/chat/completions", &chat(json!({"logprobs": true}))).json();
    let token = &json["choices"][0]["logprobs"]["content"][0];
    assert!(
        token["logprob"].is_number() && token.get("farthing").is_none(),
        "{token}"
    );
}

#[test]
fn an_answer_is_not_ended_before_its_minimum() {
    let question = json!([{"role": "user", "content": "Hi"}]);
    let tokens = |more: Value| {
        let mut body = chat(json!({"messages": question, "max_tokens": 40}));
        merge(&mut body, more);
        let usage = ask("/v1/chat/completions", &body).json()["usage"].clone();
        usage["completion_tokens"].as_u64().expect("a number")
    };
    let short = tokens(json!({}));
    assert!(short < 30, "{short}");
    assert!(tokens(json!({"min_tokens": 35})) >= 35);
    assert_eq!(tokens(json!({"ignore_eos": true})), 40);
}
