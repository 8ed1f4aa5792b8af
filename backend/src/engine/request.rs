//! What the server and the model thread say to each other about one request.

use farthing_core::error::ApiError;
use farthing_core::price::ServiceTier;
use farthing_core::wire::{FinishReason, Sampling, TokenConfidence, TokenLogprob, Usage};

use crate::text::Grammar;

/// One validated prompt to be continued. The prompt is already rendered and tokenized.
#[derive(Debug, Clone)]
pub struct GenerateRequest {
    /// The id of a loaded model, never a virtual one.
    pub model: String,
    pub prompt: Vec<u32>,
    pub sampling: Sampling,
    /// How soon it must be served beside others.
    pub tier: ServiceTier,
    /// What the answer is held to: each choice follows it by itself.
    pub grammar: Option<Grammar>,
    /// Whether each token comes with how sure the model was of it.
    pub confidence: Confidence,
    /// Tokens to generate at most, one at least; the model's context may end a choice earlier.
    pub max_tokens: usize,
    /// Tokens before which the model may not end an answer; a stop string may.
    pub min_tokens: usize,
    /// Only requests with an equal salt share cached prefixes. It is the tenant's.
    pub cache_salt: [u8; 32],
}

impl GenerateRequest {
    /// Answers that are wanted.
    pub fn choices(&self) -> usize {
        usize::from(self.sampling.n.max(1))
    }
}

/// Whether tokens come with how sure the model was of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Confidence {
    #[default]
    Skip,
    /// It costs one pass over the vocabulary a token.
    Report,
}

/// One thing that happened to a request, in order. `Done` or `Failed` is always the last event; a
/// channel that closes without either means that the model thread is gone.
#[derive(Debug)]
pub enum EngineEvent {
    /// The whole prompt is in the KV cache, `cached_tokens` of it without being computed.
    Prefilled { cached_tokens: usize },
    /// More of one choice. The text may be empty while bytes wait for the rest of a character or
    /// for a stop string that may be forming; the concatenation of all texts is the answer. The
    /// log-probabilities, if asked for, are those of the model's unmodified distribution: before
    /// penalties, temperature and truncation, as OpenAI and vLLM report them.
    Delta {
        choice: usize,
        text: String,
        logprobs: Vec<TokenLogprob>,
        /// How sure the model was of each token of the text, if asked for: as many as there are
        /// tokens, of the same distribution as the log-probabilities.
        confidence: Vec<TokenConfidence>,
    },
    /// The choice has no further deltas.
    Finished { choice: usize, reason: FinishReason },
    /// Every choice finished. As in vLLM, the token that ends a choice counts as generated, though
    /// it has no text, and the prompt counts once whatever `n` is.
    Done { usage: Usage },
    /// The request cannot be continued.
    Failed(ApiError),
}
