//! The engine: one thread owns every model and its KV cache, and steps through packed batches.
//!
//! Reading order: `request` and `handle` are what the server sees; [`scheduler`], [`sequence`] and
//! [`block_pool`] decide, purely, which tokens a step computes, [`priority`] in which order,
//! [`expected_length`] for how many there will be room; `runner` carries a step out on one model
//! and learns its [`step_time`]; `thread` takes turns among the models by [`fair_share`];
//! [`sampler`], [`logprobs`] and `answer` turn logits into text, each sequence in its `turn`, and
//! `generation` sends it; [`lookup`] and `drafter` guess tokens ahead of the model.

mod answer;
pub mod block_pool;
mod candidates;
mod drafter;
pub mod expected_length;
pub mod fair_share;
mod generation;
mod handle;
pub mod logprobs;
pub mod lookup;
mod metrics;
pub mod priority;
pub mod random;
mod request;
mod runner;
pub mod sampler;
pub mod scheduler;
pub mod sequence;
pub mod step_time;
mod thread;
mod turn;

pub use farthing_core::wire::{FinishReason, TokenConfidence, TokenLogprob};
pub use handle::{EngineHandle, thread_gone};
pub use metrics::{EngineMetrics, ModelMetrics};
pub use request::{Confidence, EngineEvent, GenerateRequest};

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::LoadedModel;

/// How the model thread works. Every default is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Threads that compute, the model thread included.
    pub threads: usize,
    /// Tokens computed in one step over all models.
    pub step_tokens: usize,
    /// Sequences of one model that run together.
    pub running_max: usize,
    /// Requests that wait to start, over all models; the next one is refused.
    pub queue_max: usize,
    /// What a step may take while some sequence decodes. Where it is not said, a little less than
    /// twice as long as without any prefill, and longer only if more sequences wait for their first
    /// token than for their next.
    pub decode_latency: Option<Duration>,
    /// Share of the time that a model gets while others have work too, where it is not 1.
    pub weights: BTreeMap<String, u32>,
    /// Tokens to be guessed ahead and verified together.
    pub speculation: Speculation,
}

/// Guessing tokens ahead. It changes no answer: a guess is kept only if the model would have chosen
/// it, whether it takes the likeliest token or draws one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speculation {
    /// Tokens of one sequence in one step at most, up to `ENGINE_DRAFT_TOKENS_MAX`; none at 0.
    pub tokens_max: usize,
    /// Whether guesses are looked up in what the sequence has said before. Models that draft for
    /// others ([`LoadedModel::set_draft`]) do so anyway.
    pub lookup: LookupUse,
}

/// Whether guesses are looked up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LookupUse {
    Off,
    #[default]
    On,
}

impl Default for Speculation {
    fn default() -> Speculation {
        Speculation {
            tokens_max: 8,
            lookup: LookupUse::On,
        }
    }
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            threads: 2,
            step_tokens: 128,
            running_max: 32,
            queue_max: 256,
            decode_latency: None,
            weights: BTreeMap::new(),
            speculation: Speculation::default(),
        }
    }
}

/// Starts the model thread, which owns the models from now on.
pub fn start(models: Vec<LoadedModel>, config: EngineConfig) -> EngineHandle {
    thread::start(models, config)
}
