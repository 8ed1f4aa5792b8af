//! The engine with a tiny model of random weights: batching, chunks, preemption, prefixes, choices,
//! stop strings, and every way in which a request can end.

mod gguf_writer;

use std::time::Duration;

use farthing_backend::engine::{
    Confidence, EngineConfig, EngineEvent, EngineHandle, FinishReason, GenerateRequest,
    ModelMetrics, start,
};
use farthing_backend::model::gguf::Gguf;
use farthing_backend::model::{LoadedModel, ModelOptions};
use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::price::ServiceTier;
use farthing_core::wire::{Sampling, Usage};
use gguf_writer::tiny_model;
use tokio::sync::mpsc::UnboundedReceiver;

/// Room for an answer that takes far longer than any test waits.
const ROOMY: ModelOptions = ModelOptions {
    context_tokens: Some(60_000),
    kv_tokens: Some(65_536),
    kv_dtype: farthing_kernels::KvDtype::F16,
};

/// Tokens of an answer that never ends while a test looks.
const ENDLESS: usize = 50_000;

/// Everything that one request was told.
#[derive(Debug, Clone, Default, PartialEq)]
struct Answer {
    texts: Vec<String>,
    reasons: Vec<Option<FinishReason>>,
    usage: Usage,
    logprobs: usize,
}

fn engine(options: ModelOptions, config: EngineConfig) -> EngineHandle {
    let models = ["llama", "qwen2"].map(|architecture| {
        let file = Gguf::from_bytes(tiny_model(architecture).bytes()).expect("valid");
        LoadedModel::from_gguf(architecture, file, 0, options).expect("valid")
    });
    start(models.into(), config)
}

fn default_engine() -> EngineHandle {
    engine(ROOMY, EngineConfig::default())
}

fn request(prompt: &str, max_tokens: usize) -> GenerateRequest {
    GenerateRequest {
        model: "llama".to_owned(),
        prompt: prompt.bytes().map(u32::from).collect(),
        sampling: Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        tier: ServiceTier::Standard,
        grammar: None,
        confidence: Confidence::Skip,
        max_tokens,
        min_tokens: 0,
        cache_salt: [0; 32],
    }
}

/// Submits and returns the way to the answer.
fn submit(engine: &EngineHandle, request: GenerateRequest) -> UnboundedReceiver<EngineEvent> {
    engine.submit(request).expect("accepted")
}

/// Waits for the whole answer and checks the order of events.
fn answer(mut events: UnboundedReceiver<EngineEvent>) -> Result<Answer, ApiError> {
    let mut answer = Answer::default();
    let mut prefilled = None;
    loop {
        match events
            .blocking_recv()
            .expect("the last event is Done or Failed")
        {
            EngineEvent::Prefilled { cached_tokens } => {
                assert!(prefilled.replace(cached_tokens).is_none());
            }
            EngineEvent::Delta {
                choice,
                text,
                logprobs,
                ..
            } => {
                assert!(prefilled.is_some() && answer.reasons.get(choice) != Some(&None));
                answer
                    .texts
                    .resize(answer.texts.len().max(choice + 1), String::new());
                answer.texts[choice].push_str(&text);
                answer.logprobs += logprobs.len();
            }
            EngineEvent::Finished { choice, reason } => {
                let choices = answer.reasons.len().max(choice + 1);
                answer.reasons.resize(choices, None);
                assert!(answer.reasons[choice].replace(reason).is_none());
            }
            EngineEvent::Done { usage } => {
                assert_eq!(prefilled, Some(usage.cached_tokens as usize));
                assert!(events.blocking_recv().is_none(), "Done is the last event");
                return Ok(Answer { usage, ..answer });
            }
            EngineEvent::Failed(error) => return Err(error),
        }
    }
}

fn run(engine: &EngineHandle, request: GenerateRequest) -> Answer {
    answer(submit(engine, request)).expect("no error")
}

fn text(engine: &EngineHandle, request: GenerateRequest) -> String {
    run(engine, request).texts.concat()
}

fn metrics(engine: &EngineHandle) -> ModelMetrics {
    engine.snapshot().models.swap_remove(0)
}

/// Prompts of 1 to 300 tokens that share nothing.
fn prompts() -> Vec<String> {
    let lengths = [1usize, 2, 15, 16, 17, 90, 130, 300];
    let prompt = |(index, length): (usize, &usize)| {
        (0..*length)
            .map(|at| char::from(b'a' + ((at * 7 + index * 3) % 26) as u8))
            .collect()
    };
    lengths.iter().enumerate().map(prompt).collect()
}

#[test]
fn alone_in_a_batch_in_chunks_and_with_few_blocks_the_answer_is_the_same() {
    let alone = default_engine();
    let expected: Vec<_> = prompts()
        .iter()
        .map(|prompt| text(&alone, request(prompt, 60)))
        .collect();
    for (name, kv_tokens, step_tokens, threads) in [
        ("batched", 16_384, 1_024, 2),
        ("chunked", 16_384, 14, 2),
        ("three threads", 16_384, 128, 3),
        ("few blocks", 384, 128, 2),
    ] {
        let options = ModelOptions {
            kv_tokens: Some(kv_tokens),
            ..ROOMY
        };
        let config = EngineConfig {
            step_tokens,
            threads,
            ..EngineConfig::default()
        };
        let engine = engine(options, config);
        let submitted: Vec<_> = prompts()
            .iter()
            .map(|prompt| submit(&engine, request(prompt, 60)))
            .collect();
        for (events, expected) in submitted.into_iter().zip(&expected) {
            let answer = answer(events).expect("no error");
            assert_eq!(&answer.texts.concat(), expected, "{name}");
        }
        let metrics = metrics(&engine);
        let left = (metrics.finished, metrics.blocks_used, metrics.running);
        assert_eq!(left, (8, 0, 0), "{name}");
    }
}

#[test]
fn a_known_prefix_is_not_computed_again_within_a_tenant() {
    let engine = default_engine();
    let first = run(&engine, request(&"prefix ".repeat(40), 10));
    let again = run(&engine, request(&"prefix ".repeat(40), 10));
    let other = GenerateRequest {
        cache_salt: [1; 32],
        ..request(&"prefix ".repeat(40), 10)
    };
    let other = run(&engine, other);
    assert_eq!(
        (first.usage.cached_tokens, other.usage.cached_tokens),
        (0, 0)
    );
    // 280 tokens are 17 whole blocks and a half.
    assert_eq!(again.usage.cached_tokens, 272);
    assert_eq!(again.texts, first.texts);
    assert_eq!(other.texts, first.texts);
    assert_eq!(
        (280, 10),
        (again.usage.prompt_tokens, again.usage.completion_tokens)
    );
    assert_eq!(metrics(&engine).cached_tokens, 272);
}

#[test]
fn choices_share_the_prompt_and_differ() {
    let engine = default_engine();
    let sampling = |n| Sampling {
        n,
        seed: Some(3),
        ..Sampling::default()
    };
    let with = |n| GenerateRequest {
        sampling: sampling(n),
        ..request(&"x".repeat(100), 12)
    };
    let answer = run(&engine, with(8));
    assert_eq!(answer.reasons, [Some(FinishReason::Length); 8]);
    assert_eq!(
        (100, 96),
        (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    );
    let mut texts = answer.texts.clone();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 8, "{:?}", answer.texts);
    // The prompt is computed once: 100, then at most the unshared tail of 4 for each other choice.
    assert!(metrics(&engine).computed_tokens <= 100 + 7 * 4 + 8 * 11);
    assert_eq!(run(&engine, with(8)).texts, answer.texts);
    assert_eq!(run(&engine, with(1)).texts, answer.texts[..1]);
}

#[test]
fn preemption_does_not_change_an_answer() {
    let sampling = Sampling {
        n: 8,
        seed: Some(9),
        ..Sampling::default()
    };
    let request = || GenerateRequest {
        sampling: sampling.clone(),
        ..request(&"p".repeat(20), 80)
    };
    let expected = run(&default_engine(), request());
    // Eight times a hundred tokens grow side by side where there is room for 384.
    let scarce = ModelOptions {
        kv_tokens: Some(384),
        ..ROOMY
    };
    let engine = engine(scarce, EngineConfig::default());
    assert_eq!(run(&engine, request()).texts, expected.texts);
    let metrics = metrics(&engine);
    assert!(metrics.preemptions > 0, "{metrics:?}");
    assert_eq!(metrics.blocks_used, 0);
}

#[test]
fn a_stop_string_ends_the_answer_before_it() {
    let engine = default_engine();
    let whole = text(&engine, request("once", 40));
    let characters: Vec<(usize, char)> = whole.char_indices().collect();
    let (from, to) = (characters[5].0, characters[8].0);
    let stop = whole[from..to].to_owned();
    let first = whole.find(&stop).expect("it was cut out of the text");
    let sampling = Sampling {
        stop: vec![stop],
        ..request("", 0).sampling
    };
    let stopped = run(
        &engine,
        GenerateRequest {
            sampling,
            ..request("once", 40)
        },
    );
    assert_eq!(stopped.texts.concat(), whole[..first]);
    assert_eq!(stopped.reasons, [Some(FinishReason::Stop)]);
    assert!(stopped.usage.completion_tokens < 40);
}

#[test]
fn log_probabilities_come_with_every_token() {
    let engine = default_engine();
    let sampling = Sampling {
        logprobs: Some(2),
        ..request("", 0).sampling
    };
    let mut events = submit(
        &engine,
        GenerateRequest {
            sampling,
            ..request("abc", 5)
        },
    );
    let mut tokens = 0;
    while let Some(event) = events.blocking_recv() {
        let EngineEvent::Delta { logprobs, .. } = event else {
            continue;
        };
        for token in logprobs {
            assert_eq!(token.top.len(), 2);
            assert_eq!(
                (&token.bytes, token.logprob),
                (&token.top[0].1, token.top[0].2)
            );
            assert!(token.logprob < 0.0 && token.top[1].2 <= token.logprob);
            tokens += 1;
        }
    }
    assert_eq!(tokens, 5);
}

#[test]
fn an_answer_ends_with_the_context() {
    let engine = engine(
        ModelOptions {
            context_tokens: Some(50),
            kv_tokens: None,
            kv_dtype: farthing_kernels::KvDtype::F16,
        },
        EngineConfig::default(),
    );
    let answer = run(&engine, request(&"y".repeat(30), 1_000));
    assert_eq!(answer.reasons, [Some(FinishReason::Length)]);
    assert_eq!(answer.usage.completion_tokens, 20);
}

#[test]
fn what_cannot_run_is_refused_at_once() {
    let engine = engine(
        ModelOptions {
            context_tokens: None,
            kv_tokens: Some(64),
            kv_dtype: farthing_kernels::KvDtype::F16,
        },
        EngineConfig::default(),
    );
    let check = |request: GenerateRequest, kind: ErrorKind| {
        let error = engine.submit(request).expect_err("refused");
        assert_eq!(error.kind, kind, "{error:?}");
    };
    // The KV cache holds 64 tokens, however long the model's context is.
    check(
        request(&"z".repeat(64), 1),
        ErrorKind::ContextLengthExceeded,
    );
    assert_eq!(
        run(&engine, request(&"z".repeat(63), 9))
            .usage
            .completion_tokens,
        1
    );
    check(request("", 1), ErrorKind::InvalidValue);
    let unknown = GenerateRequest {
        model: "gpt-4o".to_owned(),
        ..request("a", 1)
    };
    check(unknown, ErrorKind::ModelNotFound);
    check(
        GenerateRequest {
            prompt: vec![256],
            ..request("", 1)
        },
        ErrorKind::InvalidValue,
    );
}

#[test]
fn a_full_queue_refuses_and_a_client_that_leaves_makes_room() {
    let config = EngineConfig {
        running_max: 1,
        queue_max: 1,
        ..EngineConfig::default()
    };
    let engine = engine(ROOMY, config);
    let mut running = submit(&engine, request("a", ENDLESS));
    assert!(matches!(
        running.blocking_recv(),
        Some(EngineEvent::Prefilled { .. })
    ));
    let waiting = submit(&engine, request("b", 4));
    let error = engine
        .submit(request("c", 1))
        .expect_err("the queue is full");
    assert_eq!(
        (error.kind, error.retry_after_s),
        (ErrorKind::Overloaded, Some(1))
    );
    assert_eq!(engine.snapshot().queued, 1);
    // The client of the running request leaves: the waiting one starts and ends.
    drop(running);
    assert_eq!(
        answer(waiting).expect("no error").usage.completion_tokens,
        4
    );
    let metrics = metrics(&engine);
    assert_eq!(
        (metrics.aborted, metrics.finished, metrics.blocks_used),
        (1, 1, 0)
    );
}

#[test]
fn requests_that_can_wait_are_refused_before_the_queue_is_full() {
    let config = EngineConfig {
        running_max: 1,
        queue_max: 8,
        ..EngineConfig::default()
    };
    let engine = engine(ROOMY, config);
    let of = |tier| GenerateRequest {
        tier,
        ..request("a", ENDLESS)
    };
    let mut running = submit(&engine, of(ServiceTier::Standard));
    assert!(running.blocking_recv().is_some());
    let mut waiting: Vec<_> = (0..6)
        .map(|_| submit(&engine, of(ServiceTier::Batch)))
        .collect();
    for tier in [ServiceTier::Flex, ServiceTier::Batch] {
        let error = engine.submit(of(tier)).expect_err("the rest is reserved");
        assert_eq!(error.kind, ErrorKind::Overloaded);
    }
    // Of the same tier as who runs, so that it waits too.
    for _ in 0..2 {
        waiting.push(submit(&engine, of(ServiceTier::Standard)));
    }
    let error = engine
        .submit(of(ServiceTier::Priority))
        .expect_err("it is full");
    assert_eq!(error.kind, ErrorKind::Overloaded);
}

#[test]
fn a_client_that_leaves_while_it_waits_is_forgotten() {
    let config = EngineConfig {
        running_max: 1,
        ..EngineConfig::default()
    };
    let engine = engine(ROOMY, config);
    let mut running = submit(&engine, request("a", 200));
    drop(submit(&engine, request("b", ENDLESS)));
    let last = submit(&engine, request("c", 4));
    while running.blocking_recv().is_some() {}
    answer(last).expect("no error");
    let metrics = metrics(&engine);
    assert_eq!(
        (metrics.aborted, metrics.finished, metrics.blocks_used),
        (1, 2, 0)
    );
}

#[test]
fn a_client_may_leave_after_any_token() {
    let engine = default_engine();
    for tokens in 0..40 {
        let sampling = Sampling {
            n: 1 + (tokens % 3) as u8,
            logprobs: Some(0),
            ..Sampling::default()
        };
        let request = GenerateRequest {
            sampling,
            ..request(&"a".repeat(1 + tokens * 5), ENDLESS)
        };
        let mut events = submit(&engine, request);
        // The first event says that the prompt is computed, each further one brings a token.
        for _ in 0..tokens {
            assert!(events.blocking_recv().is_some());
        }
        drop(events);
    }
    // Whoever comes next finds every block free but its own.
    run(&engine, request("last", 2));
    let metrics = metrics(&engine);
    assert_eq!((metrics.aborted, metrics.finished), (40, 1));
    assert_eq!(
        (metrics.blocks_used, metrics.waiting, metrics.running),
        (0, 0, 0)
    );
}

#[test]
fn two_models_take_turns() {
    let engine = default_engine();
    let mut endless = submit(&engine, request(&"l".repeat(500), ENDLESS));
    let other = GenerateRequest {
        model: "qwen2".to_owned(),
        ..request("q", 3)
    };
    // The short answer of one model does not wait for the long one of the other, which goes on.
    run(&engine, other);
    let first = endless.blocking_recv();
    assert!(matches!(first, Some(EngineEvent::Prefilled { .. })));
    assert_eq!(metrics(&engine).finished, 0);
}

#[test]
fn a_request_of_high_priority_takes_the_place_of_a_flexible_one() {
    let of = |tier, request: GenerateRequest| GenerateRequest { tier, ..request };
    let flexible = |tokens| of(ServiceTier::Flex, request(&"f".repeat(50), tokens));
    let expected = text(&default_engine(), flexible(1_000));
    let config = EngineConfig {
        running_max: 1,
        ..EngineConfig::default()
    };
    let engine = engine(ROOMY, config);
    let mut running = submit(&engine, flexible(ENDLESS));
    let mut before = String::new();
    while before.is_empty() {
        if let Some(EngineEvent::Delta { text, .. }) = running.blocking_recv() {
            before.push_str(&text);
        }
    }
    run(&engine, of(ServiceTier::Priority, request("p", 4)));
    let seen = metrics(&engine);
    assert_eq!((seen.finished, seen.preemptions), (1, 1), "{seen:?}");
    // The other has lost nothing by it but time.
    while before.len() < expected.len() {
        if let Some(EngineEvent::Delta { text, .. }) = running.blocking_recv() {
            before.push_str(&text);
        }
    }
    assert_eq!(before.as_bytes()[..expected.len()], *expected.as_bytes());
}

#[test]
fn a_prompt_gets_on_however_little_others_can_wait() {
    for decode_latency in [None, Some(Duration::from_nanos(1))] {
        let config = EngineConfig {
            decode_latency,
            ..EngineConfig::default()
        };
        let engine = engine(ROOMY, config);
        let mut endless = submit(&engine, request("e", ENDLESS));
        assert!(endless.blocking_recv().is_some());
        let long = run(&engine, request(&"long ".repeat(200), 3));
        assert_eq!(long.usage.completion_tokens, 3);
        let metrics = metrics(&engine);
        assert_eq!((metrics.finished, metrics.running), (1, 1));
    }
}

#[test]
fn shutdown_ends_every_request() {
    let engine = default_engine();
    assert!(engine.liveness().is_alive());
    let events: Vec<_> = (0..4)
        .map(|_| submit(&engine, request("a", ENDLESS)))
        .collect();
    engine.shutdown();
    for events in events {
        assert_eq!(
            answer(events).expect_err("cut off").kind,
            ErrorKind::Unavailable
        );
    }
    let error = engine.submit(request("a", 1)).expect_err("stopped");
    assert_eq!(
        (error.kind, engine.liveness().is_alive()),
        (ErrorKind::Unavailable, false)
    );
}
