//! The engine: one thread owns every model and its KV cache, and steps through packed batches.
//!
//! Reading order: `request` and `handle` are what the server sees; [`scheduler`], [`sequence`] and
//! [`block_pool`] decide, purely, which tokens a step computes; `runner` carries a step out on one
//! model; `thread` takes turns among the models; [`sampler`], [`logprobs`] and `answer` turn logits
//! into text, and `generation` sends it.

mod answer;
pub mod block_pool;
mod generation;
mod handle;
pub mod logprobs;
mod metrics;
pub mod random;
mod request;
mod runner;
pub mod sampler;
pub mod scheduler;
pub mod sequence;
mod thread;

pub use farthing_core::wire::{FinishReason, TokenLogprob};
pub use handle::{EngineHandle, thread_gone};
pub use metrics::{EngineMetrics, ModelMetrics};
pub use request::{EngineEvent, GenerateRequest};

use crate::model::LoadedModel;

/// How the model thread works. Every default is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Threads that compute, the model thread included.
    pub threads: usize,
    /// Tokens computed in one step over all models. It bounds how long a decoding sequence waits
    /// for its next token while another prompt is prefilled.
    pub step_tokens: usize,
    /// Sequences of one model that run together.
    pub running_max: usize,
    /// Requests that wait to start, over all models; the next one is refused.
    pub queue_max: usize,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            threads: 2,
            step_tokens: 128,
            running_max: 32,
            queue_max: 256,
        }
    }
}

/// Starts the model thread, which owns the models from now on.
pub fn start(models: Vec<LoadedModel>, config: EngineConfig) -> EngineHandle {
    thread::start(models, config)
}
