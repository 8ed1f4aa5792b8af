//! Decides what each step computes. There are no phases: every step has a budget of tokens, which
//! goes first to sequences that decode, then to prompts, running or waiting, in order of service,
//! and what is left to drafts. While sequences decode, prompts get only as many tokens as the
//! caller says, so that a long prompt never holds up the others for long. The design is vLLM's V1
//! scheduler (vllm/v1/core/sched/scheduler.py).
//!
//! There is one order of service ([`SequenceId`]), by when a request is due, which ages requests of
//! low priority. Whoever is later in it waits, and gives its blocks back when they run out, to
//! start again later from what the prefix cache still holds. The first can therefore always go on,
//! nobody is overtaken for ever, and every sequence ends, as long as each fits the whole pool; the
//! caller refuses those that do not.

mod admission;

use std::collections::VecDeque;

use farthing_core::limits::ENGINE_DRAFT_TOKENS_MAX;

use super::block_pool::BlockPool;
use super::expected_length::ExpectedLength;
use super::sequence::{Sequence, SequenceId};

/// All sequences of one model.
pub struct Scheduler {
    pool: BlockPool,
    /// In order of service, as `waiting`.
    running: Vec<Sequence>,
    waiting: VecDeque<Sequence>,
    running_max: usize,
    expected: ExpectedLength,
}

/// What one step may compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepBudget {
    /// Tokens in all; not zero.
    pub tokens: usize,
    /// Tokens of prompts among them; not zero.
    pub prefill_tokens: usize,
}

/// What one step computes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    pub chunks: Vec<Chunk>,
    /// Sequences that lost their blocks.
    pub preempted: usize,
    /// Sequences that left the queue.
    pub admitted: Vec<SequenceId>,
}

/// A run of one sequence's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    pub id: SequenceId,
    /// Position of the first token.
    pub start: usize,
    /// Tokens, drafts included.
    pub len: usize,
    /// Tokens at the end that are drafts. The one before them is then the only other token.
    pub drafts: usize,
    /// Whether the sequence's last token is in the chunk, so that the next one is sampled.
    pub samples: bool,
    /// Whether the sequence was decoding already: then its first token is the one sampled last.
    pub decodes: bool,
}

// === impl StepBudget ===

impl StepBudget {
    /// A budget that prompts may use up.
    pub fn new(tokens: usize) -> StepBudget {
        StepBudget {
            tokens,
            prefill_tokens: tokens,
        }
    }

    /// Tokens that a prompt may have.
    fn prefill(&self) -> usize {
        self.tokens.min(self.prefill_tokens)
    }

    fn spend(&mut self, chunk: &Chunk) {
        self.tokens -= chunk.len;
        if !chunk.decodes {
            self.prefill_tokens -= chunk.len;
        }
    }

    fn refund(&mut self, chunk: &Chunk) {
        self.tokens += chunk.len;
        if !chunk.decodes {
            self.prefill_tokens += chunk.len;
        }
    }
}

// === impl Chunk ===

impl Chunk {
    /// Rows of logits that are wanted: one after the sequence's last token and one after each
    /// draft.
    pub fn rows(&self) -> usize {
        if self.samples { 1 + self.drafts } else { 0 }
    }
}

// === impl Scheduler ===

impl Scheduler {
    /// `running_max` bounds the sequences that are admitted together.
    pub fn new(blocks: usize, running_max: usize) -> Scheduler {
        Scheduler {
            pool: BlockPool::new(blocks),
            running: Vec::new(),
            waiting: VecDeque::new(),
            running_max: running_max.max(1),
            expected: ExpectedLength::new(),
        }
    }

    /// Queues a sequence behind all that are served before it.
    pub fn add(&mut self, sequence: Sequence) {
        let at = self
            .waiting
            .partition_point(|other| other.id() < sequence.id());
        self.waiting.insert(at, sequence);
    }

    /// Proposes tokens that may follow a sequence's last one, to be verified in the next step, and
    /// replaces what was proposed before. A sequence that does not decode takes none, and none
    /// takes more than [`ENGINE_DRAFT_TOKENS_MAX`] or than its answer has room for. They are
    /// forgotten if the next step has no budget or no blocks for them, or if the sequence is
    /// preempted.
    pub fn draft(&mut self, id: SequenceId, tokens: &[u32]) {
        if let Ok(at) = self.running_index(id) {
            self.running[at].propose(tokens);
        }
    }

    /// Removes a running sequence whose answer is complete, `generated` tokens in all, and learns
    /// how long answers become.
    pub fn finish(&mut self, id: SequenceId, generated: usize) {
        if let Ok(at) = self.running_index(id) {
            let generate_max = self.running[at].generate_max();
            self.expected.finished(generated, generate_max);
        }
        self.remove(id);
    }

    /// Removes a sequence, wherever it is, and frees its blocks. Removing one that is already gone
    /// does nothing.
    pub fn remove(&mut self, id: SequenceId) {
        if let Ok(at) = self.running_index(id) {
            self.running.remove(at).release(&mut self.pool);
        } else if let Ok(at) = self.waiting.binary_search_by_key(&id, Sequence::id) {
            self.waiting.remove(at);
        }
    }

    /// A running sequence.
    pub fn running(&self, id: SequenceId) -> Option<&Sequence> {
        self.running_index(id).ok().map(|at| &self.running[at])
    }

    pub fn running_len(&self) -> usize {
        self.running.len()
    }

    pub fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// Running sequences that have a single token to compute.
    pub fn decoding_len(&self) -> usize {
        let decoding = self.running.iter().filter(|sequence| sequence.decodes());
        decoding.count()
    }

    /// Sequences that compute their prompts, or that wait and could be let in by their number.
    pub fn prompts_len(&self) -> usize {
        let places = self.running_max - self.running.len();
        self.running.len() - self.decoding_len() + self.waiting.len().min(places)
    }

    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    pub fn pool(&self) -> &BlockPool {
        &self.pool
    }

    /// Spends a budget. The returned chunks have their blocks; they must be computed and then
    /// reported by [`Scheduler::computed`].
    pub fn schedule(&mut self, budget: StepBudget) -> Schedule {
        let mut schedule = Schedule::default();
        let mut budget = budget;
        self.extend_decoding(&mut budget, &mut schedule);
        self.extend_prompts(&mut budget, &mut schedule);
        self.extend_drafts(budget.tokens, &mut schedule);
        schedule
    }

    /// Rows of logits of one step at most.
    pub fn rows_max(&self) -> usize {
        self.running_max.max(1 + ENGINE_DRAFT_TOKENS_MAX)
    }

    /// A chunk's keys and values are in the cache, and the first `accepted` of its drafts were
    /// right: those become part of the sequence. The token sampled after them follows by
    /// [`Scheduler::append`]; until then the sequence must not be scheduled.
    pub fn computed(&mut self, chunk: &Chunk, accepted: usize) {
        if let Ok(at) = self.running_index(chunk.id) {
            let accepted = accepted.min(chunk.drafts);
            self.running[at].advance(chunk.len - chunk.drafts, accepted, &mut self.pool);
        }
    }

    /// Adds the token sampled for a running sequence.
    pub fn append(&mut self, id: SequenceId, token: u32) {
        if let Ok(at) = self.running_index(id) {
            self.running[at].append(token);
        }
    }

    /// Checks that free and used blocks add up and that every user is counted.
    ///
    /// # Errors
    /// The first contradiction, in words.
    pub fn check(&self) -> Result<(), String> {
        let in_order = |a: &SequenceId, b: &SequenceId| a < b;
        let running = self.running.iter().map(Sequence::id);
        let waiting = self.waiting.iter().map(Sequence::id);
        if !running.is_sorted_by(in_order) || !waiting.is_sorted_by(in_order) {
            return Err("sequences are out of order".to_owned());
        }
        let sequences = self.running.iter().chain(&self.waiting);
        self.pool.check(sequences.map(Sequence::table))
    }

    /// Gives each sequence that decodes its next token.
    fn extend_decoding(&mut self, budget: &mut StepBudget, schedule: &mut Schedule) {
        let mut at = 0;
        while at < self.running.len() && budget.tokens > 0 {
            if self.running[at].decodes() {
                if !self.make_room(at, 1, budget, schedule) {
                    return;
                }
                self.take(at, 1, budget, schedule);
            }
            at += 1;
        }
    }

    /// Gives prompts their next tokens, and lets waiting sequences in when it is their turn.
    fn extend_prompts(&mut self, budget: &mut StepBudget, schedule: &mut Schedule) {
        // A sequence that was just preempted would only come back to be preempted again.
        let mut admits = schedule.preempted == 0;
        let mut at = 0;
        while budget.prefill() > 0 {
            while at < self.running.len() && self.running[at].decodes() {
                at += 1;
            }
            let running = self.running.get(at).map(Sequence::id);
            let waiting = self.waiting.front().map(Sequence::id);
            let is_first = |waiting| running.is_none_or(|running| waiting < running);
            if admits && waiting.is_some_and(is_first) {
                admits = self.admit(budget, schedule) && schedule.preempted == 0;
                // One that came in stands before the next to be extended, and has its tokens.
                at = running.map_or(self.running.len(), |id| match self.running_index(id) {
                    Ok(at) | Err(at) => at,
                });
                continue;
            }
            if running.is_none() {
                return;
            }
            let len = self.running[at].pending().min(budget.prefill());
            if !self.make_room(at, len, budget, schedule) {
                return;
            }
            admits &= schedule.preempted == 0;
            self.take(at, len, budget, schedule);
            at += 1;
        }
    }

    /// Preempts from the last until `len` tokens of the sequence at `at` have room. False when that
    /// sequence itself had to go.
    fn make_room(
        &mut self,
        at: usize,
        len: usize,
        budget: &mut StepBudget,
        schedule: &mut Schedule,
    ) -> bool {
        while self.running[at].blocks_missing(len) > self.pool.free() {
            self.expected.preempted();
            let last = self.running.len() - 1;
            self.preempt(last, budget, schedule);
            if last == at {
                return false;
            }
        }
        true
    }

    /// Takes the blocks of the sequence at `at` and lets it wait.
    fn preempt(&mut self, at: usize, budget: &mut StepBudget, schedule: &mut Schedule) {
        let mut sequence = self.running.remove(at);
        sequence.release(&mut self.pool);
        schedule.preempted += 1;
        if let Some(chunk) = schedule.chunks.iter().position(|c| c.id == sequence.id()) {
            budget.refund(&schedule.chunks.remove(chunk));
        }
        self.add(sequence);
    }

    /// Lengthens chunks by drafts, in order of service, with what is left of the budget: a draft
    /// may be wrong, all else is needed. They only take blocks that nobody misses for a while, one
    /// for each running sequence staying free. What is not verified now is forgotten.
    fn extend_drafts(&mut self, mut budget: usize, schedule: &mut Schedule) {
        let rows: usize = schedule.chunks.iter().map(Chunk::rows).sum();
        let mut rows = self.rows_max().saturating_sub(rows);
        for at in 0..self.running.len() {
            let sequence = &self.running[at];
            if sequence.drafts().is_empty() {
                continue;
            }
            let id = sequence.id();
            let chunk = schedule.chunks.iter_mut().find(|chunk| chunk.id == id);
            let spare = self.pool.free().saturating_sub(self.running.len());
            let mut drafts = sequence.drafts().len().min(budget).min(rows);
            if chunk.is_none() {
                drafts = 0;
            } else if sequence.blocks_missing(1 + drafts) > spare {
                drafts = drafts.min(sequence.room() - 1);
            }
            self.running[at].keep_drafts(drafts);
            if let Some(chunk) = chunk {
                self.take_blocks(at, 1 + drafts);
                chunk.len += drafts;
                chunk.drafts = drafts;
            }
            budget -= drafts;
            rows -= drafts;
        }
    }

    /// Schedules the next `len` tokens of the sequence at `at`, for which enough blocks are free.
    fn take(&mut self, at: usize, len: usize, budget: &mut StepBudget, schedule: &mut Schedule) {
        self.take_blocks(at, len);
        let sequence = &self.running[at];
        let chunk = Chunk {
            id: sequence.id(),
            start: sequence.computed(),
            len,
            drafts: 0,
            samples: len == sequence.pending(),
            decodes: sequence.decodes(),
        };
        budget.spend(&chunk);
        schedule.chunks.push(chunk);
    }

    /// Gives the sequence at `at` the blocks for its next `len` tokens, which are free.
    fn take_blocks(&mut self, at: usize, len: usize) {
        let sequence = &mut self.running[at];
        for _ in 0..sequence.blocks_missing(len) {
            match self.pool.allocate() {
                Some(block) => sequence.push_block(block),
                None => unreachable!("the caller made sure that enough blocks are free"),
            }
        }
    }

    fn running_index(&self, id: SequenceId) -> Result<usize, usize> {
        self.running.binary_search_by_key(&id, Sequence::id)
    }
}
