//! Answers as the backend sends them, byte for byte, and error bodies.

use crate::golden;
use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::wire::embeddings::{EncodingFormat, embeddings_list};
use farthing_core::wire::models::{ModelEntry, model, models_list};
use farthing_core::wire::response::answer;
use farthing_core::wire::stream::StreamWriter;
use farthing_core::wire::{
    AnswerHead, Choice, Endpoint, FinishReason, TokenLogprob, Usage, parse_completed,
};
use serde_json::Value;

#[test]
fn whole_answers() {
    let usage = Usage {
        prompt_tokens: 12,
        completion_tokens: 5,
        cached_tokens: 8,
        ..Usage::default()
    };
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Completions] {
        let body = answer(endpoint, &head(), &choices(), &usage);
        let completed = parse_completed(endpoint, &body).expect("our own answers are complete");
        assert_eq!(completed.usage(), Some(usage));
        check(&format!("answer_{}.json", name(endpoint)), &body);
    }
}

#[test]
fn streamed_answers() {
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Completions] {
        let mut out = Vec::new();
        let mut writer = StreamWriter::new(endpoint, head(), choices().len());
        for (index, choice) in choices().iter().enumerate() {
            writer.start(index, &mut out);
            writer.delta(index, &choice.text, choice.logprobs.as_deref(), &mut out);
            writer.delta(index, " again", Some(&tokens()), &mut out);
            writer.finish(index, choice.finish_reason, &mut out);
        }
        let usage = Usage {
            prompt_tokens: 12,
            completion_tokens: 5,
            ..Usage::default()
        };
        writer.usage(&usage, &mut out);
        StreamWriter::done(&mut out);
        check(&format!("stream_{}.txt", name(endpoint)), &out);
    }
}

#[test]
fn stream_that_fails_midway() {
    let mut out = Vec::new();
    StreamWriter::error(&ApiError::new(ErrorKind::Unavailable, "stopping"), &mut out);
    check("stream_error.txt", &out);
}

#[test]
fn embeddings() {
    let vectors = [
        vec![0.5, -1.0],
        vec![f32::MIN_POSITIVE],
        vec![0.1, 0.2, 0.3],
    ];
    for (format, name) in [
        (EncodingFormat::Float, "float"),
        (EncodingFormat::Base64, "base64"),
    ] {
        let body = embeddings_list("all-MiniLM-L6-v2", &vectors, format, 9);
        check(&format!("embeddings_{name}.json"), &body);
    }
}

#[test]
fn models() {
    let small = ModelEntry {
        id: "small",
        created_unix_s: 1_700_000_000,
    };
    let auto = ModelEntry {
        id: "auto",
        created_unix_s: 1_700_000_001,
    };
    check("model.json", &model(&small));
    check("models.json", &models_list(&[small, auto]));
}

/// One line for each kind: status, body, and `retry-after` if it is known.
#[test]
fn errors() {
    use ErrorKind::*;
    let kinds = [
        InvalidJson,
        DuplicateKey,
        TooDeep,
        InvalidType,
        InvalidValue,
        MissingField,
        ContextLengthExceeded,
        ModelNotFound,
        NotFound,
        MethodNotAllowed,
        BodyTooLarge,
        UnsupportedMediaType,
        UnsupportedEncoding,
        BudgetExhausted,
        Overloaded,
        Unavailable,
        Internal,
    ];
    let mut lines = Vec::new();
    for kind in kinds {
        let error = ApiError::new(kind, "say \"why\"").param("messages[0]");
        lines.extend(format!("{} ", error.status()).bytes());
        lines.extend(error.body());
        lines.push(b'\n');
    }
    let error = ApiError::new(Overloaded, "full").retry_after_s(2);
    assert_eq!(error.retry_after_s, Some(2));
    lines.extend(error.body());
    check("errors.txt", &lines);
}

/// The single place that compares bytes with what is stored.
#[track_caller]
fn check(name: &str, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap();
    assert_eq!(
        text.trim_end(),
        golden(&format!("answers/{name}")).trim_end(),
        "{name}"
    );
    if name.ends_with(".json") {
        serde_json::from_str::<Value>(text).unwrap();
    }
}

fn name(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::ChatCompletions => "chat",
        _ => "completions",
    }
}

fn head() -> AnswerHead {
    let (id, model) = ("chatcmpl-1".to_owned(), "small".to_owned());
    AnswerHead {
        id,
        created_unix_s: 1_700_000_000,
        model,
    }
}

/// Two tokens that look alike once their bytes are replaced, one of them impossible.
fn tokens() -> Vec<TokenLogprob> {
    let alike = |byte, logprob| ("\u{fffd}".to_owned(), vec![byte], logprob);
    let first = TokenLogprob {
        token: "é\"".to_owned(),
        bytes: "é\"".into(),
        logprob: -0.25,
        confidence: None,
        top: vec![
            ("é\"".to_owned(), "é\"".into(), -0.25),
            alike(0xe2, -1.5),
            alike(0xe3, -2.0),
        ],
    };
    let impossible = f32::NEG_INFINITY;
    let second = TokenLogprob {
        token: "\u{fffd}".into(),
        bytes: vec![0xe2],
        logprob: impossible,
        confidence: None,
        top: vec![],
    };
    vec![first, second]
}

fn choices() -> Vec<Choice> {
    let text = |text: &str| text.to_owned();
    let (plain, with) = (text("line\nline"), text("é\"\u{fffd}"));
    vec![
        Choice {
            text: plain,
            finish_reason: FinishReason::Stop,
            logprobs: None,
        },
        Choice {
            text: with,
            finish_reason: FinishReason::Length,
            logprobs: Some(tokens()),
        },
    ]
}
