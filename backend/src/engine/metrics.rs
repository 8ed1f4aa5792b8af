//! Counters that the model thread writes and anyone may read without stopping it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the engine has done and holds, one entry a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineMetrics {
    /// Requests accepted and not yet started.
    pub queued: u64,
    pub models: Vec<ModelMetrics>,
}

/// One model's gauges (now) and counters (since start).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelMetrics {
    pub model: String,
    /// Gauge: sequences that are scheduled in every step.
    pub running: u64,
    /// Gauge: sequences that wait for blocks or for a place.
    pub waiting: u64,
    /// Gauge: blocks of the KV cache in use by sequences.
    pub blocks_used: u64,
    /// Blocks of the KV cache in all.
    pub blocks_total: u64,
    /// Forward passes.
    pub steps: u64,
    /// Tokens computed in all steps: prompt tokens not found in the cache, generated tokens, and
    /// tokens recomputed after a preemption.
    pub computed_tokens: u64,
    /// Tokens of started prompts.
    pub prompt_tokens: u64,
    /// Tokens of started prompts that the prefix cache held.
    pub cached_tokens: u64,
    pub generated_tokens: u64,
    /// Tokens that were proposed to be verified.
    pub draft_tokens: u64,
    /// Proposed tokens that were right.
    pub accepted_tokens: u64,
    /// Sequences that lost their blocks and start again.
    pub preemptions: u64,
    /// Requests that ended with every choice finished.
    pub finished: u64,
    /// Requests whose client left.
    pub aborted: u64,
    /// Requests that ended with an error of ours.
    pub failed: u64,
}

macro_rules! counters {
    ($($field:ident),*) => {
        /// The shared cells behind one [`ModelMetrics`]. Readers may see a step half recorded.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $field: Cell,)*
        }

        impl Counters {
            pub(super) fn read(&self, model: &str) -> ModelMetrics {
                ModelMetrics { model: model.to_owned(), $($field: self.$field.read(),)* }
            }
        }
    };
}

counters!(
    running,
    waiting,
    blocks_used,
    blocks_total,
    steps,
    computed_tokens,
    prompt_tokens,
    cached_tokens,
    generated_tokens,
    draft_tokens,
    accepted_tokens,
    preemptions,
    finished,
    aborted,
    failed
);

/// One number. Only the model thread writes, so relaxed order loses nothing.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    pub(super) fn add(&self, amount: usize) {
        self.0.fetch_add(amount as u64, Relaxed);
    }

    pub(super) fn set(&self, value: usize) {
        self.0.store(value as u64, Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
