//! What of a request its answer is read and billed by. The prompt itself is not kept while the
//! request is upstream: a worker holds many, and linear memory never shrinks.

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
    /// The group of tenants that share cached answers to this.
    pub sharing_group: Option<String>,
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
            answers: u64::from(request.sampling.n).saturating_mul(prompts as u64),
            sharing_group: None,
        }
    }
}
