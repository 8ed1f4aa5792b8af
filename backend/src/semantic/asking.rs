//! How a chat model is asked as the verifier.

use farthing_core::error::ApiError;
use farthing_core::limits::TOP_LOGPROBS_MAX;
use farthing_core::price::ServiceTier;
use farthing_core::wire::{Message, Role, Sampling};

use super::conversation::Asked;
use super::verifier;
use crate::engine::{Confidence, EngineEvent, GenerateRequest};
use crate::model::ModelInfo;
use crate::text::{ChatPrompt, GenerationPrompt, no_chat_template};

/// The request that asks `model` whether two questions are the same: one token, with the likeliest
/// others.
///
/// # Errors
/// The model has no chat template, or its template fails.
pub fn request(
    model: &ModelInfo,
    (cached, asking): (&Asked, &Asked),
    tier: ServiceTier,
    cache_salt: [u8; 32],
) -> Result<GenerateRequest, ApiError> {
    let template = model.chat_template.as_ref();
    let template = template.ok_or_else(|| no_chat_template(&model.id))?;
    let messages = [Message {
        role: Role::User,
        content: verifier::prompt(cached, asking),
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

/// What one event of the answer says: the probability that both questions are the same.
pub fn read(event: &EngineEvent) -> Option<f32> {
    let EngineEvent::Delta { logprobs, .. } = event else {
        return None;
    };
    let top = &logprobs.first()?.top;
    verifier::yes_share(
        top.iter()
            .map(|(token, _, logprob)| (token.as_str(), *logprob)),
    )
}
