//! The two models that Farthing ships with: answers, and logits against a forward pass in f32 on
//! candle's dequantized weights.

mod reference_forward;
mod similarity;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use farthing_backend::engine::{
    Confidence, EngineConfig, EngineEvent, EngineHandle, GenerateRequest, start,
};
use farthing_backend::model::{Batch, LoadedModel, Logits, ModelOptions, load_model};
use farthing_backend::text::{ChatPrompt, GenerationPrompt, Specials};
use farthing_core::price::ServiceTier;
use farthing_core::wire::{Message, Role, Sampling};
use farthing_kernels::ThreadPool;
use reference_forward::reference_logits;
use similarity::cosine;
use tokio::sync::mpsc::UnboundedReceiver;

const SMOLLM2: &str = "smollm2-135m-instruct";
const QWEN: &str = "qwen2.5-coder-0.5b-instruct";

fn path(id: &str) -> PathBuf {
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../.farthing/models");
    PathBuf::from(models).join(format!("{id}.gguf"))
}

fn load(id: &str) -> LoadedModel {
    let options = ModelOptions {
        context_tokens: Some(2_048),
        kv_tokens: Some(4_096),
        kv_dtype: farthing_kernels::KvDtype::F16,
    };
    load_model(id, &path(id), options).unwrap_or_else(|error| {
        panic!("{error}; `cargo xtask test` fetches the models");
    })
}

/// The prompt of a conversation that begins with this question.
fn chat(engine: &EngineHandle, model: &str, question: &str) -> Vec<u32> {
    let info = engine.model(model).expect("loaded");
    let message = Message {
        role: Role::User,
        content: question.to_owned(),
        name: None,
        tool_calls: None,
        tool_call_id: None,
    };
    let messages = [message];
    let prompt = ChatPrompt::new(&messages, GenerationPrompt::Add);
    let template = info.chat_template.as_ref().expect("the file has one");
    info.tokenizer
        .encode_chat(template, &prompt)
        .expect("the template takes it")
}

fn request(model: &str, prompt: Vec<u32>) -> GenerateRequest {
    GenerateRequest {
        model: model.to_owned(),
        prompt,
        sampling: Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        tier: ServiceTier::Standard,
        grammar: None,
        confidence: Confidence::Skip,
        max_tokens: 24,
        min_tokens: 0,
        cache_salt: [0; 32],
    }
}

fn submit(engine: &EngineHandle, model: &str, prompt: Vec<u32>) -> UnboundedReceiver<EngineEvent> {
    engine.submit(request(model, prompt)).expect("accepted")
}

fn text(mut events: UnboundedReceiver<EngineEvent>) -> String {
    let mut answer = String::new();
    loop {
        match events.blocking_recv().expect("ends with Done") {
            EngineEvent::Delta { text, .. } => answer.push_str(&text),
            EngineEvent::Done { .. } => return answer,
            EngineEvent::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
}

#[test]
fn both_models_know_the_capital_of_france() {
    let engine = start(vec![load(SMOLLM2), load(QWEN)], EngineConfig::default());
    let tokenizer = &engine.model(SMOLLM2).expect("loaded").tokenizer;
    let completion = tokenizer.encode_prompt("The capital of France is", Specials::Plain);
    let question = chat(&engine, QWEN, "What is the capital of France?");
    let events = [
        submit(&engine, SMOLLM2, completion),
        submit(&engine, QWEN, question),
    ];
    for answer in events.map(text) {
        assert!(answer.contains("Paris"), "{answer}");
    }
}

#[test]
fn a_batch_of_eight_answers_as_each_alone() {
    let long = "Summarise: ".to_owned() + &"The river runs to the sea. ".repeat(30);
    let questions = [
        "Hi!",
        "Name three colours.",
        "What is 2 + 2?",
        "Write a haiku about autumn rain.",
        "Why is the sky blue?",
        "Translate 'good morning' into French.",
        "List the planets in order of their distance from the sun, please.",
        &long,
    ];
    let config = EngineConfig {
        step_tokens: 48,
        ..EngineConfig::default()
    };
    let batch = start(vec![load(SMOLLM2)], config);
    let alone = start(vec![load(SMOLLM2)], EngineConfig::default());
    let answer = |engine, question| submit(engine, SMOLLM2, chat(engine, SMOLLM2, question));
    let together = questions.map(|question| answer(&batch, question));
    for (question, together) in questions.iter().zip(together) {
        assert_eq!(text(together), text(answer(&alone, question)), "{question}");
    }
}

#[test]
fn long_answers_that_exhaust_the_cache_come_out_as_alone() {
    let questions = [
        "Tell me a story.",
        "Explain tides.",
        "Describe a market.",
        "What is ice?",
    ];
    let long = |engine: &EngineHandle, question| {
        let request = GenerateRequest {
            max_tokens: 200,
            ..request(SMOLLM2, chat(engine, SMOLLM2, question))
        };
        engine.submit(request).expect("accepted")
    };
    // Room for one of the answers and half of another.
    let scarce = ModelOptions {
        context_tokens: None,
        kv_tokens: Some(384),
        kv_dtype: farthing_kernels::KvDtype::F16,
    };
    let tiny = load_model(SMOLLM2, &path(SMOLLM2), scarce).expect("the pinned models load");
    let tiny = start(vec![tiny], EngineConfig::default());
    let roomy = start(vec![load(SMOLLM2)], EngineConfig::default());
    let together = questions.map(|question| long(&tiny, question));
    for (question, together) in questions.iter().zip(together) {
        assert_eq!(text(together), text(long(&roomy, question)), "{question}");
    }
    let seen = tiny.snapshot().models.swap_remove(0);
    assert_eq!(
        (seen.finished, seen.running, seen.blocks_used),
        (4, 0, 0),
        "{seen:?}"
    );
    println!("{} preemptions", seen.preemptions);
}

/// Latencies are printed and not judged, as they are the machine's. `FARTHING_PROMPT_TOKENS` is how
/// long the prompt is.
#[test]
fn tokens_keep_coming_while_a_long_prompt_is_computed() {
    let tokens = std::env::var("FARTHING_PROMPT_TOKENS");
    let tokens: usize = tokens.map_or(600, |tokens| tokens.parse().expect("a number"));
    let roomy = ModelOptions {
        context_tokens: Some(6_000),
        kv_tokens: Some(12_000),
        kv_dtype: farthing_kernels::KvDtype::F16,
    };
    let model = load_model(SMOLLM2, &path(SMOLLM2), roomy).expect("the pinned models load");
    let tokenizer = Arc::clone(&model.info.tokenizer);
    let engine = start(vec![model], EngineConfig::default());
    let counting = tokenizer.encode("Count: 1 2 3 4 5 6 7 8 9 10 11 12", Specials::Plain);
    // With log-probabilities every token is an event.
    let mut stream = GenerateRequest {
        max_tokens: 4_000,
        ..request(SMOLLM2, counting)
    };
    stream.sampling.logprobs = Some(0);
    let mut stream = engine.submit(stream).expect("accepted");
    let mut last = Instant::now();
    let mut gap = || {
        let event = stream.blocking_recv();
        assert!(
            !matches!(event, None | Some(EngineEvent::Done { .. })),
            "{event:?}"
        );
        std::mem::replace(&mut last, Instant::now()).elapsed()
    };
    gap();
    let idle: Vec<_> = (0..150).map(|_| gap()).collect();
    let river = "The river runs past the old mill to the sea. ".repeat(400);
    let mut prompt = tokenizer.encode(&river, Specials::Plain);
    prompt.truncate(tokens);
    assert_eq!(prompt.len(), tokens);
    let submitted = Instant::now();
    let mut long = submit(&engine, SMOLLM2, prompt.clone());
    let mut beside = Vec::new();
    while long.try_recv().is_err() {
        beside.push(gap());
    }
    println!("prefilled in {:?}", submitted.elapsed());
    drop((stream, long));
    prompt.reverse();
    let submitted = Instant::now();
    text(submit(&engine, SMOLLM2, prompt));
    println!("alone in {:?}", submitted.elapsed());
    assert!(beside.len() > tokens / EngineConfig::default().step_tokens);
    for (what, mut gaps) in [("idle", idle), ("beside a prefill", beside)] {
        gaps.sort();
        let at = |share: f64| gaps[((gaps.len() - 1) as f64 * share) as usize];
        let (p50, p99) = (at(0.5), at(0.99));
        println!("{what}: {} tokens, p50 {p50:?}, p99 {p99:?}", gaps.len());
    }
}

/// The int8 activations of the kernels cost some precision; a wrong rotation, bias or head would
/// cost nearly all of it.
#[test]
fn logits_agree_with_an_f32_forward_pass() {
    for id in [SMOLLM2, QWEN] {
        let model = load(id);
        let prompt = "The capital of France is Paris, and the capital of Italy is";
        let tokens = model.info.tokenizer.encode(prompt, Specials::Plain);
        let expected = reference_logits(&path(id), &tokens).expect("candle reads the file");
        let actual = our_logits(model, &tokens);
        let cosine = cosine(&actual, &expected);
        println!("{id}: cosine {cosine:.6} over {} logits", actual.len());
        assert!(cosine > 0.999, "{id}: {cosine}");
        assert_eq!(argmax(&actual), argmax(&expected), "{id}");
    }
}

/// The logits after the last token, computed in two chunks.
fn our_logits(mut model: LoadedModel, tokens: &[u32]) -> Vec<f32> {
    let pool = ThreadPool::new(2);
    let mut workspace = model.decoder.workspace(tokens.len(), 1);
    let blocks: Vec<u32> = (0..8).rev().collect();
    let (first, second) = tokens.split_at(5);
    let mut batch = Batch::default();
    batch.push(first, 0, &blocks, Logits::Skip);
    let forward = model
        .decoder
        .forward(&pool, &batch, &mut model.cache, &mut workspace);
    assert!(forward.expect("it fits").is_empty());
    let mut batch = Batch::default();
    batch.push(second, first.len(), &blocks, Logits::Last);
    let forward = model
        .decoder
        .forward(&pool, &batch, &mut model.cache, &mut workspace);
    forward.expect("it fits").to_vec()
}

fn argmax(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
}
