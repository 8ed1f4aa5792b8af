//! A real model at work, and whole answers of it.

#![allow(dead_code, reason = "each test file uses a part")]

use std::path::PathBuf;

use farthing_backend::engine::{
    Confidence, EngineEvent, EngineHandle, FinishReason, GenerateRequest, TokenConfidence,
};
use farthing_backend::model::{LoadedModel, ModelOptions, load_model};
use farthing_backend::text::{ChatPrompt, GenerationPrompt};
use farthing_core::error::ApiError;
use farthing_core::price::ServiceTier;
use farthing_core::wire::{Message, Role, Sampling, TokenLogprob, Usage};
use tokio::sync::mpsc::UnboundedReceiver;

pub const SMOLLM2: &str = "smollm2-135m-instruct";
pub const QWEN: &str = "qwen2.5-coder-0.5b-instruct";

/// One choice of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Text {
    pub text: String,
    pub reason: Option<FinishReason>,
    pub logprobs: Vec<TokenLogprob>,
    pub confidence: Vec<TokenConfidence>,
}

pub fn load(id: &str, kv_tokens: usize) -> LoadedModel {
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../.farthing/models");
    let path = PathBuf::from(models).join(format!("{id}.gguf"));
    let options = ModelOptions {
        context_tokens: Some(2_048.min(kv_tokens)),
        kv_tokens: Some(kv_tokens),
        kv_dtype: farthing_kernels::KvDtype::F16,
    };
    load_model(id, &path, options)
        .unwrap_or_else(|error| panic!("{error}; `cargo xtask test` fetches the models"))
}

/// The prompt of a conversation that begins with this question.
pub fn chat(engine: &EngineHandle, model: &str, question: &str) -> Vec<u32> {
    let info = engine.model(model).expect("loaded");
    let messages = [Message {
        role: Role::User,
        content: question.to_owned(),
        name: None,
        tool_calls: None,
        tool_call_id: None,
    }];
    let prompt = ChatPrompt::new(&messages, GenerationPrompt::Add);
    let template = info.chat_template.as_ref().expect("the file has one");
    info.tokenizer
        .encode_chat(template, &prompt)
        .expect("the template takes it")
}

/// A greedy request.
pub fn greedy(
    engine: &EngineHandle,
    model: &str,
    question: &str,
    max_tokens: usize,
) -> GenerateRequest {
    GenerateRequest {
        model: model.to_owned(),
        prompt: chat(engine, model, question),
        sampling: Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        grammar: None,
        confidence: Confidence::Skip,
        tier: ServiceTier::Standard,
        max_tokens,
        min_tokens: 0,
        cache_salt: [0; 32],
    }
}

/// Waits for an answer.
pub fn answer(mut events: UnboundedReceiver<EngineEvent>) -> Result<(Vec<Text>, Usage), ApiError> {
    let mut texts: Vec<Text> = Vec::new();
    loop {
        match events.blocking_recv().expect("ends with Done or Failed") {
            EngineEvent::Delta {
                choice,
                text,
                logprobs,
                confidence,
            } => {
                texts.resize(texts.len().max(choice + 1), Text::default());
                texts[choice].text.push_str(&text);
                texts[choice].logprobs.extend(logprobs);
                texts[choice].confidence.extend(confidence);
            }
            EngineEvent::Finished { choice, reason } => {
                texts.resize(texts.len().max(choice + 1), Text::default());
                texts[choice].reason = Some(reason);
            }
            EngineEvent::Done { usage } => return Ok((texts, usage)),
            EngineEvent::Failed(error) => return Err(error),
            EngineEvent::Prefilled { .. } => {}
        }
    }
}

/// Asks all at once and waits for all answers.
pub fn together(engine: &EngineHandle, requests: Vec<GenerateRequest>) -> Vec<(Vec<Text>, Usage)> {
    let submitted: Vec<_> = requests
        .into_iter()
        .map(|request| engine.submit(request).expect("accepted"))
        .collect();
    let answers = submitted.into_iter().map(answer);
    answers.collect::<Result<_, _>>().expect("no error")
}
