//! One model at work: each step is scheduled, computed and sampled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use farthing_core::error::ApiError;
use farthing_kernels::{KvCache, ThreadPool};

use super::EngineConfig;
use super::drafter::Drafter;
use super::generation::Generations;
use super::handle::Submission;
use super::metrics::Counters;
use super::scheduler::{Chunk, Scheduler, StepBudget};
use super::step_time::{StepTime, StepWork};
use super::turn::Output;
use crate::error::BackendError;
use crate::model::{Batch, Decoder, LoadedModel, Logits, Workspace};

/// A model, its KV cache and its requests.
pub(super) struct Runner {
    decoder: Arc<Decoder>,
    /// Guesses ahead of it.
    drafter: Option<Drafter>,
    cache: KvCache,
    workspace: Workspace,
    generations: Generations,
    step_time: StepTime,
    /// When this model's clock began.
    started: Instant,
    counters: Arc<Counters>,
}

/// What there is to do for one model, or for all.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    /// Sequences that decode.
    pub(super) decoding: usize,
    /// Sequences whose prompts are being computed or could be.
    pub(super) prompts: usize,
    /// What a step is expected to take in which those that decode do so, and nothing else happens.
    pub(super) decode_time: Duration,
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
            draft,
        } = model;
        let scheduler = Scheduler::new(cache.blocks(), config.running_max);
        let sampled_max = scheduler.rows_max().min(config.step_tokens);
        Runner {
            workspace: decoder.workspace(config.step_tokens, sampled_max),
            drafter: draft.map(|model| Drafter::new(model, &info, config)),
            generations: Generations::new(
                info,
                scheduler,
                config.speculation,
                Arc::clone(&counters),
            ),
            step_time: StepTime::new(),
            started: Instant::now(),
            decoder,
            cache,
            counters,
        }
    }

    pub(super) fn submit(&mut self, submission: Submission) {
        let now_ms = self.started.elapsed().as_millis() as u64;
        self.generations.submit(submission, now_ms);
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

    /// What there is to do.
    pub(super) fn load(&self) -> Load {
        let scheduler = &self.generations.scheduler;
        let decoding = scheduler.decoding_len();
        let decode_time = match decoding {
            0 => Duration::ZERO,
            sequences => self.step_time.decode(sequences),
        };
        Load {
            decoding,
            prompts: scheduler.prompts_len(),
            decode_time,
        }
    }

    /// Forgets clients that left, then computes up to `tokens` tokens. While some sequence decodes,
    /// here or in another model, `prefill_time` is what a step may take beyond its decoding.
    pub(super) fn step(
        &mut self,
        pool: &ThreadPool,
        tokens: usize,
        prefill_time: Option<Duration>,
    ) {
        self.generations.drop_aborted();
        let prefill_tokens =
            prefill_time.map_or(tokens, |time| self.step_time.prefill_tokens(time));
        let budget = StepBudget {
            tokens,
            prefill_tokens,
        };
        let schedule = self.generations.scheduler.schedule(budget);
        self.counters.preemptions.add(schedule.preempted);
        for &id in &schedule.admitted {
            self.generations.admitted(id);
        }
        if !schedule.chunks.is_empty() {
            let computed: usize = schedule.chunks.iter().map(|chunk| chunk.len).sum();
            let left = tokens.saturating_sub(computed);
            let done = self
                .compute(pool, &schedule.chunks)
                .and_then(|()| self.draft(pool, left, prefill_tokens));
            if let Err(error) = done {
                self.generations.fail_all(&ApiError::from(&error));
            }
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
        let started = Instant::now();
        self.counters.steps.add(1);
        self.counters.computed_tokens.add(batch.len());
        let logits = self
            .decoder
            .forward(pool, &batch, &mut self.cache, &mut self.workspace)?;
        self.step_time.observe(work(chunks), started.elapsed());
        let vocabulary = self.decoder.shape().vocab_size;
        let mut outputs = Vec::with_capacity(chunks.len());
        let mut rest = logits;
        for &chunk in chunks {
            if chunk.rows() == 0 {
                self.generations.scheduler.computed(&chunk, 0);
                continue;
            }
            let (rows, after) = rest.split_at_mut(chunk.rows() * vocabulary);
            outputs.push(Output { chunk, rows });
            rest = after;
        }
        self.generations.sample(pool, outputs);
        Ok(())
    }

    /// Lets the small model guess ahead, with what the step has left of its budget. It reads no
    /// more of a prompt in a step than the large one may, so that it holds nobody up for longer.
    fn draft(
        &mut self,
        pool: &ThreadPool,
        budget: usize,
        catch_up: usize,
    ) -> Result<(), BackendError> {
        let Some(drafter) = &mut self.drafter else {
            return Ok(());
        };
        let scheduler = &self.generations.scheduler;
        drafter.forget(|id| scheduler.running(id).is_some());
        let wishes = self.generations.wishes();
        for (id, tokens) in drafter.propose(pool, wishes, budget, catch_up)? {
            self.generations.scheduler.draft(id, &tokens);
        }
        Ok(())
    }
}

/// What was decoded and what was prefilled.
fn work(chunks: &[Chunk]) -> StepWork {
    let tokens = |decodes: bool| {
        let chunks = chunks.iter().filter(|chunk| chunk.decodes == decodes);
        chunks.map(|chunk| chunk.len).sum()
    };
    StepWork {
        decoded: tokens(true),
        prefilled: tokens(false),
    }
}
