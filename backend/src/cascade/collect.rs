//! Asks each tier for its answers to labelled prompts, several side by side.

use std::path::Path;
use std::sync::Arc;

use farthing_core::error::ApiError;
use farthing_core::limits::CASCADE_SIDE_BY_SIDE;
use farthing_core::price::ServiceTier;
use farthing_core::wire::{FinishReason, Message, Sampling};
use tokio::sync::mpsc::UnboundedReceiver;

use super::outcomes::{Row, TierAnswer};
use super::signals::Trace;
use crate::engine::{
    self, Confidence, EngineConfig, EngineEvent, EngineHandle, GenerateRequest, thread_gone,
};
use crate::error::BackendError;
use crate::labelled;
use crate::model::{ModelInfo, ModelOptions, load_model};
use crate::text::{ChatPrompt, GenerationPrompt, no_chat_template};

/// Prompt and answer of one row at most.
const CONTEXT_TOKENS: usize = 4_096;

/// Adds the answers of a model to the rows.
///
/// # Errors
/// The model cannot be loaded or run; a prompt that it cannot take, by its row.
pub fn collect(
    rows: &mut [Row],
    (name, path): (&str, &Path),
    max_tokens: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<(), BackendError> {
    let options = ModelOptions {
        context_tokens: Some(CONTEXT_TOKENS),
        kv_tokens: Some(CONTEXT_TOKENS * CASCADE_SIDE_BY_SIDE / 2),
        kv_dtype: farthing_kernels::KvDtype::F16,
    };
    let model = load_model(name, path, options)?;
    let info = Arc::clone(&model.info);
    let engine = engine::start(vec![model], EngineConfig::default());
    let asking = Asking {
        engine,
        info,
        max_tokens,
    };
    let mut done = 0;
    for some in rows.chunks_mut(CASCADE_SIDE_BY_SIDE) {
        let named = |row: usize, error: ApiError| {
            BackendError::Cascade(format!("row {row}: {name}: {}", error.message))
        };
        let mut answers = Vec::with_capacity(some.len());
        for (index, row) in some.iter().enumerate() {
            let asked = asking.ask(row);
            answers.push(asked.map_err(|error| named(done + index + 1, error))?);
        }
        for (row, mut events) in some.iter_mut().zip(answers) {
            done += 1;
            let answer = wait(&mut events).map_err(|error| named(done, error))?;
            row.tiers.push(TierAnswer {
                model: name.to_owned(),
                ..answer
            });
            progress(done);
        }
    }
    asking.engine.shutdown();
    Ok(())
}

/// One model that is asked.
struct Asking {
    engine: EngineHandle,
    info: Arc<ModelInfo>,
    max_tokens: usize,
}

impl Asking {
    fn ask(&self, row: &Row) -> Result<UnboundedReceiver<EngineEvent>, ApiError> {
        let messages: Vec<Message> = labelled::messages(&row.prompt)?;
        let template = self.info.chat_template.as_ref();
        let template = template.ok_or_else(|| no_chat_template(&self.info.id))?;
        let prompt = ChatPrompt::new(&messages, GenerationPrompt::Add);
        self.engine.submit(GenerateRequest {
            model: self.info.id.clone(),
            prompt: self.info.tokenizer.encode_chat(template, &prompt)?,
            sampling: Sampling {
                temperature: 0.0,
                ..Sampling::default()
            },
            tier: ServiceTier::Standard,
            grammar: None,
            confidence: Confidence::Report,
            max_tokens: self.max_tokens,
            min_tokens: 0,
            cache_salt: [0; 32],
        })
    }
}

/// Waits for the end of one answer.
fn wait(events: &mut UnboundedReceiver<EngineEvent>) -> Result<TierAnswer, ApiError> {
    let mut trace = Trace::default();
    while let Some(event) = events.blocking_recv() {
        match event {
            EngineEvent::Delta {
                text, confidence, ..
            } => trace.push(&text, &confidence),
            EngineEvent::Finished { reason, .. } => {
                trace.is_complete = reason == FinishReason::Stop;
            }
            EngineEvent::Done { usage } => {
                return Ok(TierAnswer {
                    model: String::new(),
                    text: trace.text,
                    is_complete: trace.is_complete,
                    prompt_tokens: usage.prompt_tokens,
                    completion_tokens: usage.completion_tokens,
                    cached_tokens: usage.cached_tokens,
                    tokens: trace.tokens,
                    right: None,
                });
            }
            EngineEvent::Failed(error) => return Err(error),
            EngineEvent::Prefilled { .. } => {}
        }
    }
    Err(thread_gone())
}
