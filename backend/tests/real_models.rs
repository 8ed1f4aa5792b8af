//! The two models that Farthing ships with: answers, and logits against a forward pass in f32 on
//! candle's dequantized weights.

mod reference_forward;

use std::path::PathBuf;

use farthing_backend::engine::{
    Confidence, EngineConfig, EngineEvent, EngineHandle, GenerateRequest, start,
};
use farthing_backend::model::{Batch, LoadedModel, Logits, ModelOptions, load_model};
use farthing_backend::text::{ChatPrompt, GenerationPrompt, Specials};
use farthing_core::wire::{Message, Role, Sampling};
use farthing_kernels::ThreadPool;
use reference_forward::reference_logits;
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

fn submit(engine: &EngineHandle, model: &str, prompt: Vec<u32>) -> UnboundedReceiver<EngineEvent> {
    let request = GenerateRequest {
        model: model.to_owned(),
        prompt,
        sampling: Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        grammar: None,
        confidence: Confidence::Skip,
        max_tokens: 24,
        min_tokens: 0,
        cache_salt: [0; 32],
    };
    engine.submit(request).expect("accepted")
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

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        x.iter()
            .zip(y)
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn argmax(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
}
