//! Sampling: every sequence whose logits were computed takes a turn, several at once where that
//! pays.

use std::sync::{Mutex, MutexGuard, PoisonError};

use farthing_core::error::ApiError;
use farthing_kernels::ThreadPool;

use super::answer::{Answer, Progress};
use super::sampler::SamplerScratch;
use super::scheduler::Chunk;
use crate::text::Tokenizer;

/// The logits of one sequence's step.
pub(super) struct Output<'a> {
    pub(super) chunk: Chunk,
    /// `[chunk.rows(), vocabulary]`.
    pub(super) rows: &'a mut [f32],
}

/// One sequence's part of a step, for whichever thread has time.
pub(super) struct Turn<'a> {
    output: Output<'a>,
    drafts: &'a [u32],
    answer: &'a mut Answer,
    progress: Option<Result<Progress, ApiError>>,
}

/// What turns leave for the next ones: memory, as much as threads have needed at once.
#[derive(Default)]
pub(super) struct Turns {
    scratches: Mutex<Vec<SamplerScratch>>,
}

/// Logits below which sampling on several threads costs more than it saves: one row of 49,152 takes
/// 4 microseconds greedily and about 50 at random.
const PARALLEL_LOGITS_MIN: usize = 1 << 18;

// === impl Turn ===

impl<'a> Turn<'a> {
    /// The next part of `answer`, whose tokens `drafts` were computed ahead.
    pub(super) fn new(output: Output<'a>, drafts: &'a [u32], answer: &'a mut Answer) -> Turn<'a> {
        Turn {
            output,
            drafts,
            answer,
            progress: None,
        }
    }
}

// === impl Turns ===

impl Turns {
    /// Takes all turns, each by itself, so that their order does not matter.
    pub(super) fn take(
        &self,
        pool: &ThreadPool,
        tokenizer: &Tokenizer,
        mut turns: Vec<Turn<'_>>,
    ) -> Vec<(Chunk, Result<Progress, ApiError>)> {
        let logits: usize = turns.iter().map(|turn| turn.output.rows.len()).sum();
        let take = |turn: &mut Turn<'_>| {
            let mut scratch = lock(&self.scratches).pop().unwrap_or_default();
            let progress =
                turn.answer
                    .advance(turn.output.rows, turn.drafts, tokenizer, &mut scratch);
            turn.progress = Some(progress);
            lock(&self.scratches).push(scratch);
        };
        if logits < PARALLEL_LOGITS_MIN {
            turns.iter_mut().for_each(take);
        } else {
            // Each is locked once, by the one task that takes it.
            let turns: Vec<_> = turns.iter_mut().map(Mutex::new).collect();
            pool.run(turns.len(), &|task| take(&mut lock(&turns[task])));
        }
        let taken = turns.into_iter();
        taken
            .filter_map(|turn| Some((turn.output.chunk, turn.progress?)))
            .collect()
    }
}

/// Nothing that these locks guard can be left half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
