//! Drafts by a small model: it goes ahead of the large one by a few tokens, of which the large one
//! then verifies all in one step (Leviathan et al. 2023). Drafts are the small model's likeliest
//! tokens; the large one samples as it would without them, so that every answer is the same.
//!
//! The small model has a KV cache of its own and what a step's budget leaves. It follows each
//! sequence by what of its tokens it has seen, so that whatever happens to a sequence (drafts that
//! were wrong, forced tokens, preemption) is only a later start.

use std::collections::HashMap;
use std::sync::Arc;

use farthing_core::limits::{ENGINE_DRAFT_TOKENS_MAX, KV_BLOCK_TOKENS};
use farthing_kernels::{KvCache, Softmax, ThreadPool};

use super::EngineConfig;
use super::block_pool::{BlockId, BlockPool};
use super::sequence::SequenceId;
use crate::error::BackendError;
use crate::model::{Batch, Decoder, DraftModel, Logits, ModelInfo, Workspace};
use crate::text::Tokenizer;

/// The small model and what it knows of each sequence.
pub(super) struct Drafter {
    decoder: Arc<Decoder>,
    cache: KvCache,
    workspace: Workspace,
    pool: BlockPool,
    followed: HashMap<SequenceId, Followed>,
    tokenizer: Arc<Tokenizer>,
}

/// A sequence whose next tokens are wanted.
pub(super) struct Wish {
    pub(super) id: SequenceId,
    /// All of its tokens, without drafts.
    pub(super) tokens: Vec<u32>,
    /// Drafts wanted at most.
    pub(super) count: usize,
}

/// What the small model has computed of a sequence.
#[derive(Default)]
struct Followed {
    /// Whose keys and values are in the cache.
    tokens: Vec<u32>,
    table: Vec<BlockId>,
}

/// A sequence that is being drafted for.
struct Draft {
    id: SequenceId,
    /// Tokens to compute before the next one is guessed.
    next: Vec<u32>,
    count: usize,
    drafted: Vec<u32>,
}

/// A guess that the small model itself holds to be less likely is not worth verifying, nor is what
/// would follow it.
const PROBABILITY_MIN: f64 = 0.35;

// === impl Drafter ===

impl Drafter {
    pub(super) fn new(model: DraftModel, info: &ModelInfo, config: &EngineConfig) -> Drafter {
        let DraftModel { decoder, cache } = model;
        let sampled_max = config.running_max.min(config.step_tokens);
        Drafter {
            workspace: decoder.workspace(config.step_tokens, sampled_max),
            pool: BlockPool::new(cache.blocks()),
            followed: HashMap::new(),
            decoder,
            cache,
            tokenizer: Arc::clone(&info.tokenizer),
        }
    }

    /// Gives back the blocks of sequences that `is_running` no longer knows.
    pub(super) fn forget(&mut self, is_running: impl Fn(SequenceId) -> bool) {
        let pool = &mut self.pool;
        self.followed.retain(|&id, followed| {
            let keep = is_running(id);
            if !keep {
                pool.release(&followed.table);
            }
            keep
        });
    }

    /// Guesses how sequences go on, in at most `budget` computed tokens, of which `catch_up` are of
    /// texts that the small model has not read yet. One that it has not caught up with, or has no
    /// blocks for, gets no guesses this time.
    ///
    /// # Errors
    /// A forward pass that its buffers refuse, which is a defect.
    pub(super) fn propose(
        &mut self,
        pool: &ThreadPool,
        wishes: Vec<Wish>,
        mut budget: usize,
        catch_up: usize,
    ) -> Result<Vec<(SequenceId, Vec<u32>)>, BackendError> {
        let mut drafts: Vec<Draft> = wishes.into_iter().map(|wish| self.start(wish)).collect();
        let mut proposed = Vec::new();
        while budget > 0 && !drafts.is_empty() {
            budget = budget.saturating_sub(self.step(pool, &mut drafts, budget, catch_up)?);
            // A sequence whose tokens were not all computed must be caught up with first.
            drafts.retain_mut(|draft| {
                let goes_on = draft.next.len() == 1 && draft.drafted.len() < draft.count;
                if !goes_on && !draft.drafted.is_empty() {
                    proposed.push((draft.id, std::mem::take(&mut draft.drafted)));
                }
                goes_on
            });
        }
        let unfinished = drafts.into_iter().filter(|draft| !draft.drafted.is_empty());
        proposed.extend(unfinished.map(|draft| (draft.id, draft.drafted)));
        Ok(proposed)
    }

    /// Finds out what is new about a sequence.
    fn start(&mut self, wish: Wish) -> Draft {
        let Wish { id, tokens, count } = wish;
        let followed = self.followed.entry(id).or_default();
        let known = followed.tokens.iter().zip(&tokens);
        let known = known.take_while(|(a, b)| a == b).count();
        // The last token is computed again, if need be: what follows it is wanted.
        let known = known.min(tokens.len().saturating_sub(1));
        followed.tokens.truncate(known);
        Draft {
            id,
            next: tokens[known..].to_vec(),
            count,
            drafted: Vec::new(),
        }
    }

    /// One forward pass over what each sequence has to compute, and one guess for each that has no
    /// more. Returns the tokens computed.
    fn step(
        &mut self,
        pool: &ThreadPool,
        drafts: &mut [Draft],
        budget: usize,
        mut catch_up: usize,
    ) -> Result<usize, BackendError> {
        let mut lengths = Vec::with_capacity(drafts.len());
        let mut left = budget.min(self.workspace.tokens_max());
        let mut rows = self.workspace.sampled_max();
        for draft in drafts.iter() {
            let mut len = draft.next.len().min(left);
            // More than a step of guesses leaves behind: a prompt, or an answer after a rest.
            let behind = draft.next.len() > 1 + ENGINE_DRAFT_TOKENS_MAX;
            if behind {
                len = len.min(catch_up);
            }
            let len = if rows > 0 {
                self.take_blocks(draft.id, len)
            } else {
                0
            };
            if behind {
                catch_up -= len;
            }
            rows -= usize::from(len > 0);
            left -= len;
            lengths.push(len);
        }
        let mut batch = Batch::default();
        for (draft, &len) in drafts.iter().zip(&lengths) {
            let Some(followed) = self.followed.get(&draft.id).filter(|_| len > 0) else {
                continue;
            };
            let logits = match len == draft.next.len() {
                true => Logits::Last,
                false => Logits::Skip,
            };
            let start = followed.tokens.len();
            batch.push(&draft.next[..len], start, &followed.table, logits);
        }
        let computed = batch.len();
        let logits = match computed {
            0 => &mut [],
            _ => self
                .decoder
                .forward(pool, &batch, &mut self.cache, &mut self.workspace)?,
        };
        let rows = logits.chunks_exact(self.decoder.shape().vocab_size);
        let mut rows = rows.peekable();
        for (draft, &len) in drafts.iter_mut().zip(&lengths) {
            if let Some(followed) = self.followed.get_mut(&draft.id) {
                followed.tokens.extend_from_slice(&draft.next[..len]);
            }
            draft.next.drain(..len);
            let complete = len > 0 && draft.next.is_empty();
            let row = rows.next_if(|_| complete);
            match row.and_then(|row| likely(row, self.tokenizer.vocab_size())) {
                Some(guess) => {
                    draft.drafted.push(guess);
                    draft.next.push(guess);
                    if self.tokenizer.is_end_of_generation(guess) {
                        draft.count = 0;
                    }
                }
                // Not likely, not caught up, or without blocks: nothing more this time.
                None => draft.count = 0,
            }
        }
        Ok(computed)
    }

    /// Gets the blocks for the next `len` tokens of a sequence; how many tokens they suffice for.
    fn take_blocks(&mut self, id: SequenceId, len: usize) -> usize {
        let Some(followed) = self.followed.get_mut(&id) else {
            return 0;
        };
        let end = followed.tokens.len() + len;
        while followed.table.len() * KV_BLOCK_TOKENS < end {
            match self.pool.allocate() {
                Some(block) => followed.table.push(block),
                None => break,
            }
        }
        let room = followed.table.len() * KV_BLOCK_TOKENS - followed.tokens.len();
        len.min(room)
    }
}

/// The likeliest token, if it is likely.
fn likely(logits: &[f32], vocabulary: usize) -> Option<u32> {
    let softmax = Softmax::of(logits)?;
    if softmax.sum * PROBABILITY_MIN > 1.0 {
        return None;
    }
    let likeliest = logits.iter().position(|&logit| logit == softmax.max)?;
    (likeliest < vocabulary).then_some(likeliest as u32)
}
