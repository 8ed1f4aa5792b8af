//! Questions that a chat model answers with yes or no, read from the probability of its first
//! token; and such a model in an engine of its own, for commands.

use std::path::Path;
use std::sync::Arc;

use farthing_core::error::ApiError;
use farthing_core::limits::TOP_LOGPROBS_MAX;
use farthing_core::price::ServiceTier;
use farthing_core::wire::{Message, Role, Sampling};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::engine::{
    self, Confidence, EngineConfig, EngineEvent, EngineHandle, GenerateRequest, thread_gone,
};
use crate::error::BackendError;
use crate::model::{ModelInfo, ModelOptions, load_model};
use crate::text::{ChatPrompt, GenerationPrompt, no_chat_template};

/// The longest question, and so many tokens more for those that are asked beside it.
const CONTEXT_TOKENS: usize = 8_192;

/// A chat model that is asked.
pub struct YesNoModel {
    engine: EngineHandle,
    model: Arc<ModelInfo>,
}

/// A question that is being answered.
pub struct Pending(UnboundedReceiver<EngineEvent>);

impl YesNoModel {
    /// Loads a model, which is called `id` in errors.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub fn load(id: &str, path: &Path) -> Result<YesNoModel, BackendError> {
        let options = ModelOptions {
            context_tokens: Some(CONTEXT_TOKENS),
            kv_tokens: Some(CONTEXT_TOKENS),
            kv_dtype: farthing_kernels::KvDtype::F16,
        };
        let model = load_model(id, path, options)?;
        let info = Arc::clone(&model.info);
        Ok(YesNoModel {
            engine: engine::start(vec![model], EngineConfig::default()),
            model: info,
        })
    }

    /// Asks; several questions may be under way.
    ///
    /// # Errors
    /// The model has no chat template, or the question is too long.
    pub fn ask(&self, question: String) -> Result<Pending, ApiError> {
        let request = request(&self.model, question, ServiceTier::Standard, [0; 32])?;
        self.engine.submit(request).map(Pending)
    }
}

impl Pending {
    /// Waits for the probability of yes; none where neither yes nor no is likely.
    ///
    /// # Errors
    /// The model fails.
    pub fn wait(mut self) -> Result<Option<f32>, ApiError> {
        let mut sure = None;
        while let Some(event) = self.0.blocking_recv() {
            sure = sure.or_else(|| read(&event));
            match event {
                EngineEvent::Done { .. } => return Ok(sure),
                EngineEvent::Failed(error) => return Err(error),
                _ => {}
            }
        }
        Err(thread_gone())
    }
}

/// What the engine is asked: one token, with the likeliest others.
///
/// # Errors
/// The model has no chat template, or its template fails.
pub fn request(
    model: &ModelInfo,
    question: String,
    tier: ServiceTier,
    cache_salt: [u8; 32],
) -> Result<GenerateRequest, ApiError> {
    let template = model.chat_template.as_ref();
    let template = template.ok_or_else(|| no_chat_template(&model.id))?;
    let messages = [Message {
        role: Role::User,
        content: question,
        name: None,
        tool_calls: None,
        tool_call_id: None,
    }];
    let prompt = ChatPrompt::new(&messages, GenerationPrompt::Add);
    Ok(GenerateRequest {
        model: model.id.clone(),
        prompt: model.tokenizer.encode_chat(template, &prompt)?,
        sampling: Sampling {
            temperature: 0.0,
            logprobs: Some(TOP_LOGPROBS_MAX),
            ..Sampling::default()
        },
        tier,
        grammar: None,
        confidence: Confidence::Skip,
        max_tokens: 1,
        min_tokens: 0,
        cache_salt,
    })
}

/// What one event of the answer says: the probability of yes.
pub fn read(event: &EngineEvent) -> Option<f32> {
    let EngineEvent::Delta { logprobs, .. } = event else {
        return None;
    };
    let top = &logprobs.first()?.top;
    yes_share(
        top.iter()
            .map(|(token, _, logprob)| (token.as_str(), *logprob)),
    )
}

/// The probability of "yes" among "yes" and "no", from the likeliest first tokens and their
/// log-probabilities.
pub fn yes_share<'a>(tokens: impl Iterator<Item = (&'a str, f32)>) -> Option<f32> {
    let (mut yes, mut no) = (0.0, 0.0);
    for (token, logprob) in tokens {
        match token.trim().to_ascii_lowercase().as_str() {
            "yes" => yes += logprob.exp(),
            "no" => no += logprob.exp(),
            _ => {}
        }
    }
    (yes + no > 0.0).then(|| yes / (yes + no))
}
