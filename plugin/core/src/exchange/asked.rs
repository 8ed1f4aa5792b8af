//! What of a request its answer is read and billed by. The prompt itself is not kept while the
//! request is upstream: a worker holds many, and linear memory never shrinks.

use crate::price::ServiceTier;
use crate::tokens::Basis;
use crate::wire::{Endpoint, Prompt, PromptExtent, Request};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub endpoint: Endpoint,
    /// The name that the client sent.
    pub model: String,
    pub stream: bool,
    /// Did the client ask for the usage at the end of its stream?
    pub include_usage: bool,
    /// Results that the upstream sends: `n` choices, or an embedding, for each prompt.
    pub answers: u64,
    /// What compaction took out of the prompt.
    pub compacted: Compacted,
    /// How its length was known: `exact` or `estimated`.
    pub tokens_basis: &'static str,
    /// Was the prompt all there?
    pub extent: PromptExtent,
    /// The group of tenants that share cached answers to this.
    pub sharing_group: Option<String>,
    /// The arm of a split that sent it where it went.
    pub arm: Option<String>,
    /// Completion tokens that the client wished for, and that it forbade the model to stay below.
    pub max_tokens: Option<u32>,
    pub min_tokens: u32,
    pub service_tier: ServiceTier,
}

/// Prompt tokens that compaction saved, estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compacted {
    /// The upstream gets a prompt shorter by so many.
    Done { tokens: u64 },
    /// It would have been, if compaction did not only record here.
    Shadow { tokens: u64 },
}

impl Default for Compacted {
    fn default() -> Self {
        Compacted::Done { tokens: 0 }
    }
}

impl Compacted {
    /// Tokens that the upstream need not read.
    pub(super) fn saved_tokens(self) -> u64 {
        match self {
            Compacted::Done { tokens } => tokens,
            Compacted::Shadow { .. } => 0,
        }
    }

    /// Tokens that it would not have needed to read.
    pub(super) fn shadow_tokens(self) -> Option<u64> {
        match self {
            Compacted::Shadow { tokens } if tokens > 0 => Some(tokens),
            _ => None,
        }
    }
}

impl Asked {
    pub(super) fn of(request: &Request, basis: &Basis, compacted: Compacted) -> Asked {
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
            compacted,
            tokens_basis: basis.as_str(),
            extent: request.extent,
            sharing_group: None,
            arm: None,
        }
    }
}
