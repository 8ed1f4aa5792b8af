//! Streams: cut into events, stripped of usage, collected into whole answers, and sent again.

use crate::cases;
use farthing_core::limits::{SSE_EVENT_BYTES_MAX, STREAM_COLLECT_BYTES_MAX};
use farthing_core::wire::meter::StreamMeter;
use farthing_core::wire::sse::{self, SseDecoder, SseEvent};
use farthing_core::wire::{
    Completed, Endpoint, Json, StreamCollector, Usage, UsageEvent, UsageStripper, parse_completed,
    replay_json, replay_sse,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;

#[test]
fn collected_and_stripped_streams() {
    for case in cases("streams.json") {
        let events = case["events"].as_array().unwrap();
        let swallowed = case["swallowed"].as_array().unwrap();
        let (mut stream, mut stripped) = (Vec::new(), Vec::new());
        for (index, event) in events.iter().enumerate() {
            let data = event
                .as_str()
                .map_or_else(|| event.to_string(), str::to_owned);
            sse::event(data.as_bytes(), &mut stream);
            if !swallowed.contains(&json!(index)) {
                sse::event(data.as_bytes(), &mut stripped);
            }
        }
        check_stream(&case, &stream, &stripped);
    }
}

#[test]
fn whole_answers_that_are_not_fit_for_the_cache() {
    for case in cases("completed_refused.json") {
        let completed = parse_completed(endpoint(&case), case["body"].to_string().as_bytes());
        assert_eq!(completed, None, "case {}", case["name"]);
    }
}

#[test]
fn usage_of_whole_answers() {
    let usage = Usage {
        prompt_tokens: 3,
        completion_tokens: 2,
        cached_tokens: 1,
        ..Usage::default()
    };
    let body = r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":9}"}}],
        "usage" : {"prompt_tokens":3,"completion_tokens":2,
        "prompt_tokens_details":{"cached_tokens":1}},"x":"}{"}"#;
    assert_eq!(
        Json::parse(body.as_bytes())
            .ok()
            .and_then(|json| Usage::of_answer(&json)),
        Some(usage)
    );
    for start in 0..body.len() {
        // Once the key is out of sight there is nothing left to find.
        let expected = (start <= body.find("\"usage\" :").unwrap()).then_some(usage);
        assert_eq!(
            Usage::find_in_tail(&body.as_bytes()[start..]),
            expected,
            "from {start}"
        );
    }
    for none in [
        "",
        "\"usage\":",
        "\"usage\":null}",
        "\"usage\":{",
        "\"usage\":{\"a\":1}}",
    ] {
        assert_eq!(Usage::find_in_tail(none.as_bytes()), None, "{none}");
    }
}

#[test]
fn every_form_of_line_end() {
    let stream = "\u{feff}data: a\n\n:comment\r\ndata:b\r\ndata\r\ndata:  c\r\n\r\nid: 1\r\rdata: d\
        \revent: x\r\rdata: e\n\ndata: cut";
    check_events(stream.as_bytes(), &["a", "b\n\n c", "d", "e"]);
}

#[test]
fn events_beyond_the_limit_pass_unread() {
    let long = "x".repeat(SSE_EVENT_BYTES_MAX);
    let stream = format!("data: {long}\n\ndata: a\n\n");
    for size in [1 << 10, 100_000, usize::MAX] {
        let mut events = Vec::new();
        let mut decoder = SseDecoder::default();
        for chunk in stream.as_bytes().chunks(size) {
            decoder.push(chunk, |event| events.push(event == SseEvent::TooLong));
        }
        assert_eq!(events, [true, false], "chunks of {size}");
        assert_eq!(strip(stream.as_bytes().chunks(size)).0, stream.as_bytes());
    }
}

#[test]
fn usage_event_cut_before_its_blank_line_is_swallowed() {
    let stream = format!("data: a\n\ndata: {USAGE}");
    let (out, usage) = strip([stream.as_bytes()]);
    assert_eq!(out, b"data: a\n\n");
    assert_eq!(usage.map(|usage| usage.total_tokens()), Some(3));
}

#[test]
fn streams_beyond_the_limit_are_not_collected() {
    let text = "x".repeat(STREAM_COLLECT_BYTES_MAX / 8);
    let event = json!({"id": "c", "object": "text_completion", "model": "m",
        "choices": [{"index": 0, "text": text, "finish_reason": "stop"}]});
    for (events, collected) in [(8, true), (9, false)] {
        let mut stream = Vec::new();
        (0..events).for_each(|_| sse::event(event.to_string().as_bytes(), &mut stream));
        stream.extend_from_slice(sse::DONE);
        let completed = collect(Endpoint::Completions, [stream.as_slice()]);
        assert_eq!(completed.is_some(), collected, "{events} events");
    }
}

#[test]
fn replayed_text_comes_in_several_events() {
    let text = "grüße an alle ".repeat(200);
    let body = json!({"id": "t", "object": "text_completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": "stop"}]});
    let completed = parse_completed(Endpoint::Completions, body.to_string().as_bytes()).unwrap();
    let events = events([replay_sse(&completed, UsageEvent::Include).as_slice()]);
    assert!(events.len() > 10, "{}", events.len());
}

/// The single place that runs a stream through everything that reads streams.
#[track_caller]
fn check_stream(case: &Value, stream: &[u8], stripped: &[u8]) {
    let (name, endpoint) = (&case["name"], endpoint(case));
    for size in [1, 7, stream.len()] {
        let completed = collect(endpoint, stream.chunks(size));
        let json = completed.as_ref().map_or(Value::Null, whole);
        assert_eq!(json, case["completed"], "case {name}, chunks of {size}");
        let (out, usage) = strip(stream.chunks(size));
        let usage = usage.map(|it| [it.prompt_tokens, it.completion_tokens, it.cached_tokens]);
        assert_eq!(text(&out), text(stripped), "case {name}, chunks of {size}");
        assert_eq!(json!(usage), case["usage"], "case {name}, chunks of {size}");
        check_meter(case, stream.chunks(size));
        if let Some(completed) = &completed {
            check_replay(name, completed);
        }
    }
}

/// An answer that is sent again as a stream adds up to itself.
#[track_caller]
fn check_meter<'a>(case: &Value, chunks: impl IntoIterator<Item = &'a [u8]>) {
    let mut meter = StreamMeter::new(endpoint(case));
    chunks.into_iter().for_each(|chunk| meter.push(chunk));
    let usage = meter
        .usage()
        .map(|it| [it.prompt_tokens, it.completion_tokens, it.cached_tokens]);
    assert_eq!(json!(usage), case["usage"], "case {}", case["name"]);
    if !case["completed"].is_null() {
        assert!(meter.is_done(), "case {}", case["name"]);
    }
}

#[track_caller]
fn check_replay(name: &Value, completed: &Completed) {
    let endpoint = completed.endpoint();
    assert_eq!(
        parse_completed(endpoint, &replay_json(completed)).as_ref(),
        Some(completed)
    );
    for usage_event in [UsageEvent::Include, UsageEvent::Omit] {
        let stream = replay_sse(completed, usage_event);
        let mut expected = whole(completed);
        if usage_event == UsageEvent::Omit && endpoint.has_usage_option() {
            expected.as_object_mut().unwrap().remove("usage");
        }
        let again = collect(endpoint, [stream.as_slice()]).expect("a replay is complete");
        assert_eq!(whole(&again), expected, "case {name}");
    }
}

#[track_caller]
fn check_events(stream: &[u8], expected: &[&str]) {
    for size in 1..=stream.len() {
        assert_eq!(events(stream.chunks(size)), expected, "chunks of {size}");
    }
}

fn events<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut decoder = SseDecoder::default();
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(chunk, |event| match event {
            SseEvent::Data(data) => events.push(text(data)),
            SseEvent::TooLong => panic!("an event is too long"),
        });
    }
    events
}

fn strip<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Option<Usage>) {
    let mut stripper = UsageStripper::default();
    let mut out = Vec::new();
    chunks
        .into_iter()
        .for_each(|chunk| stripper.push(chunk, &mut out));
    stripper.finish(&mut out);
    (out, stripper.usage())
}

fn collect<'a>(
    endpoint: Endpoint,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Option<Completed> {
    let mut collector = StreamCollector::new(endpoint);
    chunks.into_iter().for_each(|chunk| collector.push(chunk));
    collector.finish()
}

fn endpoint(case: &Value) -> Endpoint {
    crate::endpoint(case["endpoint"].as_str().unwrap())
}

fn whole(completed: &Completed) -> Value {
    serde_json::from_slice(&replay_json(completed)).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A stream of every kind of event, line end and noise, and where to cut it.
fn any_stream() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r")];
    let event = prop_oneof![
        Just(format!("data: {USAGE}")),
        Just("data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":7}}".to_owned()),
        Just("data: [DONE]".to_owned()),
        Just(": comment".to_owned()),
        Just(String::new()),
        "[a-z:\" {}]{0,20}",
    ];
    let part = (
        event,
        end.clone(),
        prop_oneof![2 => end.prop_map(Some), 1 => Just(None)],
    );
    let stream = prop::collection::vec(part, 0..12).prop_map(|parts| {
        let part = |(event, end, blank): (String, &str, Option<&str>)| {
            event + end + blank.unwrap_or_default()
        };
        parts.into_iter().map(part).collect::<String>().into_bytes()
    });
    (stream, prop::collection::vec(0_usize..600, 0..40))
}

/// `bytes`, cut at `cuts`.
fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(bytes.len())).collect();
    cuts.sort_unstable();
    let starts = std::iter::once(0).chain(cuts.clone());
    starts
        .zip(cuts.iter().copied().chain([bytes.len()]))
        .map(|(from, to)| &bytes[from..to])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn where_a_stream_is_cut_does_not_matter((stream, cuts) in any_stream()) {
        let pieces = cut(&stream, &cuts);
        prop_assert_eq!(pieces.concat(), stream.clone());
        prop_assert_eq!(strip(pieces.clone()), strip([stream.as_slice()]));
        prop_assert_eq!(events(pieces), events([stream.as_slice()]));
    }

    #[test]
    fn stripping_removes_whole_usage_events_only((stream, cuts) in any_stream()) {
        let (out, _) = strip(cut(&stream, &cuts));
        prop_assert!(events([out.as_slice(), b"\n\n"]).iter().all(|data| data != USAGE));
        let kept: Vec<String> =
            events([stream.as_slice()]).into_iter().filter(|data| data != USAGE).collect();
        let out = events([out.as_slice()]);
        prop_assert!(out.len() >= kept.len());
        prop_assert_eq!(&out[..kept.len()], &kept[..]);
    }

    #[test]
    fn any_answer_survives_a_replay(
        texts in prop::collection::vec(".{0,600}", 1..4),
        reason in prop_oneof![Just("stop"), Just("length")],
        chat in any::<bool>(),
    ) {
        let (endpoint, object) = match chat {
            true => (Endpoint::ChatCompletions, "chat.completion"),
            false => (Endpoint::Completions, "text_completion"),
        };
        let choice = |(index, text): (usize, &String)| match chat {
            true => json!({"index": index, "message": {"role": "assistant", "content": text},
                "logprobs": null, "finish_reason": reason}),
            false => json!({"index": index, "text": text, "logprobs": null,
                "finish_reason": reason}),
        };
        let choices: Vec<Value> = texts.iter().enumerate().map(choice).collect();
        let body = json!({"id": "1", "object": object, "created": 1, "model": "m",
            "choices": choices, "usage": {"prompt_tokens": 1, "completion_tokens": 2}});
        let completed = parse_completed(endpoint, body.to_string().as_bytes()).unwrap();
        check_replay(&json!("any"), &completed);
    }

    #[test]
    fn a_stream_that_was_cut_or_damaged_is_never_taken_for_another_answer(
        text in ".{1,40}",
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
    ) {
        let body = json!({"id": "1", "object": "text_completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": "stop"}]});
        let body = body.to_string();
        let completed = parse_completed(Endpoint::Completions, body.as_bytes()).unwrap();
        let mut stream = replay_sse(&completed, UsageEvent::Include);
        // Without the last line end the last event is not complete.
        let cut = &stream[..at.index(stream.len() - 1)];
        prop_assert_eq!(collect(Endpoint::Completions, [cut]), None);
        let at = at.index(stream.len());
        stream[at] = with;
        if let Some(other) = collect(Endpoint::Completions, [stream.as_slice()]) {
            prop_assert_eq!(other.json().get("object"), completed.json().get("object"));
            prop_assert_eq!(whole(&other)["choices"][0]["finish_reason"].is_string(), true);
        }
    }
}
