//! One model at work: each step is scheduled, computed and sampled.

use std::sync::Arc;

use farthing_core::error::ApiError;
use farthing_kernels::{KvCache, ThreadPool};

use super::EngineConfig;
use super::generation::Generations;
use super::handle::Submission;
use super::metrics::Counters;
use super::scheduler::{Chunk, Scheduler};
use crate::error::BackendError;
use crate::model::{Batch, Decoder, LoadedModel, Logits, Workspace};

/// A model, its KV cache and its requests.
pub(super) struct Runner {
    decoder: Decoder,
    cache: KvCache,
    workspace: Workspace,
    generations: Generations,
    counters: Arc<Counters>,
}

// === impl Runner ===

impl Runner {
    pub(super) fn new(
        model: LoadedModel,
        config: &EngineConfig,
        counters: Arc<Counters>,
    ) -> Runner {
        let LoadedModel {
            info,
            decoder,
            cache,
        } = model;
        let scheduler = Scheduler::new(cache.blocks(), config.running_max);
        let sampled_max = scheduler.rows_max().min(config.step_tokens);
        Runner {
            workspace: decoder.workspace(config.step_tokens, sampled_max),
            generations: Generations::new(info, scheduler, Arc::clone(&counters)),
            decoder,
            cache,
            counters,
        }
    }

    pub(super) fn submit(&mut self, submission: Submission) {
        self.generations.submit(submission);
        self.generations.observe();
    }

    pub(super) fn is_idle(&self) -> bool {
        self.generations.is_idle()
    }

    /// Ends every request with an error.
    pub(super) fn fail_all(&mut self, error: &ApiError) {
        self.generations.fail_all(error);
        self.generations.observe();
    }

    /// Forgets clients that left, then computes up to `budget` tokens.
    pub(super) fn step(&mut self, pool: &ThreadPool, budget: usize) {
        self.generations.drop_aborted();
        let schedule = self.generations.scheduler.schedule(budget);
        self.counters.preemptions.add(schedule.preempted);
        for &id in &schedule.admitted {
            self.generations.admitted(id);
        }
        if !schedule.chunks.is_empty()
            && let Err(error) = self.compute(pool, &schedule.chunks)
        {
            self.generations.fail_all(&ApiError::from(&error));
        }
        self.generations.observe();
    }

    /// One forward pass, and a token for each sequence that has no more tokens to compute.
    fn compute(&mut self, pool: &ThreadPool, chunks: &[Chunk]) -> Result<(), BackendError> {
        let mut batch = Batch::default();
        for chunk in chunks {
            let Some(sequence) = self.generations.scheduler.running(chunk.id) else {
                continue;
            };
            let logits = match chunk.rows() {
                0 => Logits::Skip,
                1 => Logits::Last,
                _ => Logits::All,
            };
            let tokens = sequence.chunk_tokens(chunk);
            batch.push(tokens, chunk.start, sequence.table(), logits);
        }
        self.counters.steps.add(1);
        self.counters.computed_tokens.add(batch.len());
        let logits = self
            .decoder
            .forward(pool, &batch, &mut self.cache, &mut self.workspace)?;
        for chunk in chunks {
            self.generations.scheduler.computed(chunk, 0);
        }
        let rows = logits.chunks_exact_mut(self.decoder.shape().vocab_size);
        for (chunk, logits) in chunks.iter().filter(|chunk| chunk.samples).zip(rows) {
            self.generations.sample(chunk.id, logits);
        }
        Ok(())
    }
}
