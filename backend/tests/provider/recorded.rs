//! Recorded shapes (`tests/recorded`) through the translation: chats to each API's requests, its
//! answers, streams and errors to ours. Streams are cut at every byte.

use std::path::PathBuf;

use farthing_core::config::MaxTokensField;
use farthing_core::wire::provider::{
    Fault, FaultKind, ProviderApi, StreamReader, Target, UsageWish,
};
use farthing_core::wire::{AnswerHead, Endpoint, StreamCollector, parse, parse_completed};
use proptest::prelude::*;
use serde_json::{Value, json};

const APIS: [ProviderApi; 3] = [
    ProviderApi::OpenAi,
    ProviderApi::Anthropic,
    ProviderApi::Gemini,
];

fn folder(api: ProviderApi) -> PathBuf {
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded");
    PathBuf::from(recorded).join(api.as_str())
}

fn json_of(api: ProviderApi, name: &str) -> Value {
    let file = folder(api).join(name);
    let text = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn cases(api: ProviderApi, name: &str) -> Vec<Value> {
    let Value::Array(cases) = json_of(api, name) else {
        panic!("{name} is a list of cases");
    };
    cases
}

fn head() -> AnswerHead {
    AnswerHead {
        id: "chatcmpl-1".to_owned(),
        created_unix_s: 1,
        model: "m".to_owned(),
    }
}

fn endpoint(case: &Value) -> Endpoint {
    match case["endpoint"].as_str() {
        Some("completions") => Endpoint::Completions,
        _ => Endpoint::ChatCompletions,
    }
}

#[test]
fn requests_become_the_providers_own() {
    for api in APIS {
        for case in cases(api, "requests.json") {
            let name = format!("{}: {}", api.as_str(), case["name"]);
            let body = case["request"].to_string();
            let request = parse(endpoint(&case), body.as_bytes());
            let request = request.unwrap_or_else(|error| panic!("{name}: {error}"));
            let target = Target {
                model: "upstream",
                max_tokens_field: case["max_tokens_field"].as_str().map(|field| {
                    let mut known = MaxTokensField::ALL.into_iter();
                    known
                        .find(|known| known.as_str() == field)
                        .expect("a field")
                }),
                max_tokens_default: 1_024,
            };
            let written = api.request(&request, &target);
            if let Some(param) = case["refused"].as_str() {
                let error = written.expect_err(&name);
                assert_eq!(error.status(), 400, "{name}");
                assert_eq!(error.param.as_deref(), Some(param), "{name}: {error}");
                assert!(
                    error.message.contains(param) || param == "model",
                    "{name}: {error}"
                );
                continue;
            }
            let written = written.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(written.path, case["path"], "{name}");
            let sent: Value = serde_json::from_slice(&written.body).expect("JSON");
            assert_eq!(sent, case["expected"], "{name}");
        }
    }
}

#[test]
fn whole_answers_become_ours() {
    for api in APIS {
        for case in cases(api, "answers.json") {
            let name = format!("{}: {}", api.as_str(), case["name"]);
            let body = case["answer"].to_string();
            let answer = api.answer(endpoint(&case), &head(), body.as_bytes());
            if let Some(kind) = case["fault"].as_str() {
                let fault = answer.expect_err(&name);
                assert_eq!(fault.kind.as_str(), kind, "{name}");
                continue;
            }
            let answer = answer.unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
            let ours: Value = serde_json::from_slice(&answer.body).expect("JSON");
            assert_eq!(ours, case["expected"], "{name}");
            let usage = answer.usage.expect("a usage");
            let tokens = [
                usage.prompt_tokens,
                usage.completion_tokens,
                usage.cached_tokens,
            ];
            assert_eq!(json!(tokens), case["tokens"], "{name}");
            // Whole and well-formed for every other part of the system, unless it was filtered.
            let filtered = body.contains("refusal") && body.contains("stop_reason");
            let filtered = filtered || body.contains("SAFETY") || body.contains("PROHIBITED");
            let filtered = filtered && !body.contains("\"refusal\":null");
            let completed = parse_completed(endpoint(&case), &answer.body);
            assert_eq!(completed.is_some(), !filtered, "{name}");
        }
    }
}

#[test]
fn errors_mean_the_same_whoever_says_them() {
    for api in APIS {
        for case in cases(api, "faults.json") {
            let body = match &case["body"] {
                Value::String(text) => text.clone(),
                json => json.to_string(),
            };
            let status = case["status"].as_u64().expect("a status");
            let fault = api.fault(u16::try_from(status).expect("a status"), body.as_bytes());
            let name = format!("{} {status} {body}", api.as_str());
            assert_eq!(fault.kind.as_str(), case["kind"], "{name}");
            assert_eq!(fault.message.as_deref(), case["message"].as_str(), "{name}");
            assert_eq!(fault.param.as_deref(), case["param"].as_str(), "{name}");
            assert_eq!(
                fault.retry_after_ms,
                case["retry_after_ms"].as_u64(),
                "{name}"
            );
            check_error(&fault, &name);
        }
    }
}

/// What a client is told names the provider, and repeats its words only where they are about the
/// request.
fn check_error(fault: &Fault, name: &str) {
    let error = fault.error("acme");
    assert!(error.message.contains("acme"), "{name}: {error}");
    let expected = match fault.kind {
        FaultKind::Request | FaultKind::ContextLength => 400,
        FaultKind::RateLimited => 429,
        FaultKind::Overloaded => 503,
        _ => 502,
    };
    assert_eq!(error.status(), expected, "{name}");
    assert_eq!(
        error.retry_after_s.is_some(),
        matches!(expected, 429 | 503),
        "{name}"
    );
    assert!(!error.message.contains("sk-abc"), "{name}: {error}");
    assert!(error.message.chars().all(|c| !c.is_control()), "{name}");
}

/// Streams and what they become, by their names.
fn streams(api: ProviderApi) -> Vec<(String, Vec<u8>, Value)> {
    let entries = std::fs::read_dir(folder(api)).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .filter_map(|name| name.strip_suffix(".sse").map(str::to_owned))
        .collect();
    names.sort();
    let read = |name: String| {
        let bytes = std::fs::read(folder(api).join(format!("{name}.sse"))).expect("a file");
        let expected = json_of(api, &format!("{name}.json"));
        (format!("{} {name}", api.as_str()), bytes, expected)
    };
    names.into_iter().map(read).collect()
}

/// Feeds a stream in these pieces; what came of it, and the fault that ended it.
fn read<'a>(
    api: ProviderApi,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, Option<Fault>) {
    let mut reader =
        StreamReader::new(api, Endpoint::ChatCompletions, head(), UsageWish::NotWanted);
    let mut out = Vec::new();
    for piece in pieces {
        if let Err(fault) = reader.push(piece, &mut out) {
            return (out, Some(fault));
        }
    }
    if let Err(fault) = reader.finish(&mut out) {
        return (out, Some(fault));
    }
    reader.usage_event(&mut out);
    StreamReader::done(&mut out);
    (out, None)
}

fn events(stream: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stream).expect("UTF-8");
    let events = text.split_terminator("\n\n");
    let data = events.map(|event| event.strip_prefix("data: ").expect("one data line"));
    let data = data.filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).expect("JSON"))
        .collect()
}

/// What each event adds: the parts of it that are not the same in all.
fn added(stream: &[u8]) -> Vec<Value> {
    let added = |event: &Value| {
        assert_eq!(event["model"], "m", "{event}");
        assert_eq!(event["object"], "chat.completion.chunk", "{event}");
        match event["choices"].get(0) {
            None => json!({"usage": event["usage"]}),
            Some(choice) => {
                assert!(event.get("usage").is_none(), "{event}");
                let mut added = json!({"delta": choice["delta"]});
                if !choice["finish_reason"].is_null() {
                    added["finish_reason"] = choice["finish_reason"].clone();
                }
                added
            }
        }
    };
    events(stream).iter().map(added).collect()
}

#[test]
fn streams_become_ours_however_they_are_cut() {
    for (api, (name, bytes, expected)) in APIS
        .into_iter()
        .flat_map(|api| streams(api).into_iter().map(move |stream| (api, stream)))
    {
        let (whole, fault) = read(api, [&bytes[..]]);
        match expected["fault"].as_str() {
            Some(kind) => {
                assert_eq!(
                    fault.as_ref().map(|fault| fault.kind.as_str()),
                    Some(kind),
                    "{name}"
                );
                assert_eq!(json!(added(&whole)), expected["before"], "{name}");
            }
            None => {
                assert_eq!(fault, None, "{name}");
                assert_eq!(json!(added(&whole)), expected, "{name}");
                let mut collector = StreamCollector::new(Endpoint::ChatCompletions);
                collector.push(&whole);
                // What was filtered is nobody else's, nor what must go back with a call.
                let unfit = ["gemini tools", "gemini unsafe", "gemini blocked"];
                let is_fit = !unfit.contains(&&*name);
                assert_eq!(collector.finish().is_some(), is_fit, "{name}");
            }
        }
        for cut in 0..=bytes.len() {
            let (before, after) = bytes.split_at(cut);
            assert_eq!(
                read(api, [before, after]),
                (whole.clone(), fault.clone()),
                "{name} {cut}"
            );
        }
        assert_eq!(
            read(api, bytes.chunks(1)),
            (whole, fault),
            "{name}, byte by byte"
        );
    }
}

#[test]
fn streams_that_end_too_early_are_never_whole() {
    for api in APIS {
        for (name, bytes, expected) in streams(api) {
            if expected.get("fault").is_some() {
                continue;
            }
            let (whole, _) = read(api, [&bytes[..]]);
            for cut in 0..bytes.len() {
                let (out, fault) = read(api, [&bytes[..cut]]);
                if fault.is_none() {
                    // What is missing then says nothing: `[DONE]`, a blank line, or the usage.
                    let added = added(&out);
                    let last = added.iter().rfind(|event| event.get("usage").is_none());
                    let last = last.expect("an event");
                    assert!(
                        last.get("finish_reason").is_some(),
                        "{name} cut at {cut}: {added:?}"
                    );
                } else {
                    assert!(whole.starts_with(&out), "{name} cut at {cut}");
                }
            }
        }
    }
}

#[test]
fn a_stream_keeps_the_usage_for_who_asks() {
    let (_, bytes, _) = streams(ProviderApi::OpenAi)
        .into_iter()
        .find(|(name, ..)| name.contains("tools"))
        .expect("a stream");
    let wish = UsageWish::Wanted;
    let mut reader =
        StreamReader::new(ProviderApi::OpenAi, Endpoint::ChatCompletions, head(), wish);
    let mut out = Vec::new();
    reader.push(&bytes, &mut out).expect("it is whole");
    assert_eq!(reader.usage().map(|usage| usage.total_tokens()), Some(78));
    // OpenAI says null in every other event to who asks; so do we then.
    assert!(events(&out).iter().all(|event| event["usage"].is_null()));
    assert!(
        events(&out)
            .iter()
            .all(|event| event.get("usage").is_some())
    );
    let mut usage = Vec::new();
    reader.usage_event(&mut usage);
    assert_eq!(events(&usage)[0]["id"], "chatcmpl-9");
    assert_eq!(events(&usage)[0]["usage"]["total_tokens"], 78);
}

proptest! {
    /// Whatever a provider sends, nothing panics, and what comes out is events.
    #[test]
    fn no_stream_is_too_strange(
        api in 0..3usize,
        name in 0..3usize,
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..12),
        size in 1..40usize,
    ) {
        let api = APIS[api];
        let streams = streams(api);
        let (_, stream, _) = &streams[name % streams.len()];
        let mut changed = stream.clone();
        let at = at.index(changed.len());
        let end = (at + bytes.len()).min(changed.len());
        let _: Vec<u8> = changed.splice(at..end, bytes).collect();
        let (out, fault) = read(api, changed.chunks(size));
        let out = String::from_utf8_lossy(&out);
        prop_assert!(out.is_empty() || out.ends_with("\n\n"));
        prop_assert_eq!(fault.is_none(), out.ends_with("data: [DONE]\n\n"));
    }

    /// Nor does any body.
    #[test]
    fn no_body_is_too_strange(
        api in 0..3usize,
        status in 100..600u16,
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let api = APIS[api];
        let error = api.fault(status, &body).error("acme");
        prop_assert!((400..600).contains(&error.status()));
        prop_assert!(api.answer(Endpoint::ChatCompletions, &head(), &body).is_err());
    }
}
