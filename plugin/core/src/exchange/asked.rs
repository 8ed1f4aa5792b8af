//! What of a request its answer is read and billed by. The prompt itself is not kept while the
//! request is upstream: a worker holds many, and linear memory never shrinks.

use crate::price::ServiceTier;
use crate::wire::{Endpoint, Prompt, Request};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub endpoint: Endpoint,
    /// The name that the client sent.
    pub model: String,
    pub stream: bool,
    /// Did the client ask for the usage at the end of its stream?
    pub include_usage: bool,
    /// Choices that the upstream generates: `n` for each prompt.
    pub answers: u64,
    /// Completion tokens that the client wished for, and that it forbade the model to stay below.
    pub max_tokens: Option<u32>,
    pub min_tokens: u32,
    pub service_tier: ServiceTier,
}

impl Asked {
    pub(super) fn of(request: &Request) -> Asked {
        let prompts = match &request.prompt {
            Prompt::Messages(_) => 1,
            Prompt::Text(texts) => texts.len(),
            Prompt::Tokens(lists) => lists.len(),
        };
        Asked {
            endpoint: request.endpoint,
            model: request.model.clone(),
            stream: request.stream,
            include_usage: request.include_usage,
            max_tokens: request.max_tokens,
            min_tokens: request.min_tokens,
            service_tier: request.service_tier,
            answers: u64::from(request.sampling.n).saturating_mul(prompts as u64),
        }
    }
}
