//! What is counted of requests, with OpenAI's rule for chats.

use super::vocabulary;
use farthing_core::bpe::{Scratch, Specials};
use farthing_core::vocabulary::{CountScratch, Counted};
use farthing_core::wire::{Endpoint, parse};

#[track_caller]
fn check(endpoint: Endpoint, body: &str, limit: u64, expected: Counted) {
    let request = parse(endpoint, body.as_bytes()).unwrap();
    let counted = vocabulary("o200k_base").count(&request, limit, &mut CountScratch::default());
    assert_eq!(counted, expected, "{body}");
}

const CHAT: Endpoint = Endpoint::ChatCompletions;
const TEXT: Endpoint = Endpoint::Completions;
const ALL: u64 = 1_000;

#[test]
fn openais_example_has_the_tokens_that_they_count() {
    // From the notebook that documents the rule: gpt-4o counts 124 for these messages.
    let body = r#"{"model": "m", "messages": [
        {"role": "system", "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."},
        {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
        {"role": "system", "name": "example_assistant", "content": "Things working well together will increase revenue."},
        {"role": "system", "name": "example_user", "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."},
        {"role": "system", "name": "example_assistant", "content": "Let's talk later when we're less busy about how to do better."},
        {"role": "user", "content": "This late pivot means we don't have time to boil the ocean for the client deliverable."}]}"#;
    check(CHAT, body, ALL, Counted::Exactly(124));
    check(CHAT, body, 124, Counted::Exactly(124));
    check(CHAT, body, 123, Counted::Over);
    check(CHAT, body, 0, Counted::Over);
}

#[test]
fn bare_prompts_are_counted_as_they_are() {
    check(
        TEXT,
        r#"{"model": "m", "prompt": "Hello world"}"#,
        ALL,
        Counted::Exactly(2),
    );
    check(
        TEXT,
        r#"{"model": "m", "prompt": ["Hello world", "Hello"]}"#,
        ALL,
        Counted::Exactly(3),
    );
    check(
        TEXT,
        r#"{"model": "m", "prompt": [1, 2, 3]}"#,
        ALL,
        Counted::Exactly(3),
    );
    check(
        TEXT,
        r#"{"model": "m", "prompt": [1, 2, 3]}"#,
        2,
        Counted::Over,
    );
    check(
        TEXT,
        r#"{"model": "m", "prompt": "<|endoftext|>"}"#,
        ALL,
        Counted::Exactly(1),
    );
}

#[test]
fn what_models_read_in_ways_of_their_own_is_not_counted() {
    let with = |field: &str| {
        format!(r#"{{"model": "m", "messages": [{{"role": "user", "content": "Hi"}}], {field}}}"#)
    };
    let tools = with(r#""tools": [{"type": "function", "function": {"name": "f"}}]"#);
    check(CHAT, &tools, ALL, Counted::Unknown);
    let format = with(r#""response_format": {"type": "json_object"}"#);
    check(CHAT, &format, ALL, Counted::Unknown);
    check(
        CHAT,
        &with(r#""tools": null, "temperature": 0"#),
        ALL,
        Counted::Exactly(8),
    );
    let answered = r#"{"model": "m", "messages": [
        {"role": "tool", "tool_call_id": "a", "content": "1"}]}"#;
    check(CHAT, answered, ALL, Counted::Unknown);
    let anthropic = r#"{"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "Hi"}]}"#;
    check(Endpoint::Messages, anthropic, ALL, Counted::Unknown);
}

#[test]
fn inputs_of_embeddings_are_counted_each() {
    let check = |input: &str, expected: Counted| {
        let body = format!(r#"{{"model": "m", "input": {input}}}"#);
        check(Endpoint::Embeddings, &body, ALL, expected);
    };
    check(r#""Hello world""#, Counted::Exactly(2));
    check(r#"["Hello world", "Hello"]"#, Counted::Exactly(3));
    check("[[1, 2, 3], [4]]", Counted::Exactly(4));
    // Nobody says what such a model makes of it.
    check(r#"["Hello", "a<|endoftext|>"]"#, Counted::Unknown);
}

#[test]
fn responses_are_counted_as_the_chats_that_they_are() {
    let check = |fields: &str, expected: Counted| {
        let body = format!(r#"{{"model": "m", {fields}}}"#);
        check(Endpoint::Responses, &body, ALL, expected);
    };
    check(r#""input": "Hi""#, Counted::Exactly(8));
    check(
        r#""instructions": "Be brief.", "input": "Hi""#,
        Counted::Exactly(15),
    );
    let items = |more: &str| {
        format!(
            r#""input": [{{"role": "user", "content": "Hi"}}, {{"type": "message",
                "role": "assistant", "content": [{{"type": "output_text", "text": "Hi"}}]}}{more}]"#
        )
    };
    check(&items(""), Counted::Exactly(13));
    let call = r#", {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}"#;
    check(&items(call), Counted::Unknown);
    let parts = r#", {"role": "user", "content": [{"type": "input_text", "text": "a"},
        {"type": "input_text", "text": "b"}]}"#;
    check(&items(parts), Counted::Unknown);
    check(
        r#""input": "Hi", "previous_response_id": "r""#,
        Counted::Unknown,
    );
    check(
        r#""input": "Hi", "text": {"verbosity": "low"}"#,
        Counted::Unknown,
    );
}

#[test]
fn counting_stops_soon_after_its_limit() {
    // A hundred mebibytes: counting all of them for each limit would take a minute.
    let text = "many words of text ".repeat(5 << 20);
    let (vocabulary, mut scratch) = (vocabulary("o200k_base"), Scratch::default());
    let bpe = vocabulary.bpe();
    for limit in 0..2_000 {
        let counted = bpe.count_until(&text, Specials::Plain, limit, &mut scratch);
        assert_eq!(counted, None, "{limit}");
    }
}
