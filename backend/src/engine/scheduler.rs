//! Decides what each step computes. There are no phases: every step has a budget of tokens, which
//! goes first to sequences that decode, then to prompts that are being prefilled, then to prompts
//! that wait; so a long prompt never holds up a decoding sequence for longer than one step.
//! The design is vLLM's V1 scheduler (vllm/v1/core/sched/scheduler.py).
//!
//! Order is first come, first served. When blocks run out, the youngest sequence gives its blocks
//! back and starts again later from what the prefix cache still holds. The oldest sequence can
//! therefore always go on, and every sequence ends, as long as each fits the whole pool; the
//! caller refuses those that do not.

use std::collections::VecDeque;

use farthing_core::limits::ENGINE_DRAFT_TOKENS_MAX;

use super::block_pool::BlockPool;
use super::sequence::{Sequence, SequenceId};

/// All sequences of one model, in order of arrival.
pub struct Scheduler {
    pool: BlockPool,
    running: Vec<Sequence>,
    waiting: VecDeque<Sequence>,
    running_max: usize,
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
}

/// Which running sequences a pass serves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Decode,
    Prefill,
}

// === impl Chunk ===

impl Chunk {
    /// Rows of logits that are wanted: one after the sequence's last token and one after each draft.
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
        }
    }

    /// Queues a sequence behind all that came before it.
    pub fn add(&mut self, sequence: Sequence) {
        let at = self
            .waiting
            .partition_point(|other| other.id() < sequence.id());
        self.waiting.insert(at, sequence);
    }

    /// Proposes tokens that may follow a sequence's last one, to be verified in the next step, and
    /// replaces what was proposed before. A sequence that does not decode takes none, and none takes
    /// more than [`ENGINE_DRAFT_TOKENS_MAX`] or than its answer has room for. They are forgotten if
    /// the next step has no budget or no blocks for them, or if the sequence is preempted.
    pub fn draft(&mut self, id: SequenceId, tokens: &[u32]) {
        if let Ok(at) = self.running_index(id) {
            self.running[at].propose(tokens);
        }
    }

    /// Removes a sequence, wherever it is, and frees its blocks. Removing one that is already gone
    /// does nothing.
    pub fn remove(&mut self, id: SequenceId) {
        if let Ok(at) = self.running_index(id) {
            self.running.remove(at).release(&mut self.pool);
        } else {
            self.waiting.retain(|sequence| sequence.id() != id);
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

    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    pub fn pool(&self) -> &BlockPool {
        &self.pool
    }

    /// Spends a budget of tokens, which must not be zero. The returned chunks have their blocks;
    /// they must be computed and then reported by [`Scheduler::computed`].
    pub fn schedule(&mut self, budget: usize) -> Schedule {
        let mut schedule = Schedule::default();
        let mut budget = budget;
        self.extend_running(Pass::Decode, &mut budget, &mut schedule);
        self.extend_running(Pass::Prefill, &mut budget, &mut schedule);
        // A sequence that was just preempted would only come back to be preempted again.
        if schedule.preempted == 0 {
            self.admit(&mut budget, &mut schedule);
        }
        self.extend_drafts(budget, &mut schedule);
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
        self.pool.check(
            self.running
                .iter()
                .chain(&self.waiting)
                .map(Sequence::table),
        )
    }

    /// Gives running sequences their next tokens, oldest first.
    fn extend_running(&mut self, pass: Pass, budget: &mut usize, schedule: &mut Schedule) {
        let mut at = 0;
        while at < self.running.len() && *budget > 0 {
            let pending = self.running[at].pending();
            let decodes = if pending == 1 {
                Pass::Decode
            } else {
                Pass::Prefill
            };
            if decodes != pass {
                at += 1;
                continue;
            }
            let len = pending.min(*budget);
            if !self.make_room(at, len, budget, schedule) {
                return;
            }
            schedule.chunks.push(self.take(at, len));
            *budget -= len;
            at += 1;
        }
    }

    /// Preempts from the youngest until `len` tokens of the sequence at `at` have room. False when
    /// that sequence itself had to go.
    fn make_room(
        &mut self,
        at: usize,
        len: usize,
        budget: &mut usize,
        schedule: &mut Schedule,
    ) -> bool {
        while self.running[at].blocks_missing(len) > self.pool.free() {
            let youngest = self.running.len() - 1;
            let mut sequence = self.running.remove(youngest);
            sequence.release(&mut self.pool);
            schedule.preempted += 1;
            if let Some(chunk) = schedule.chunks.iter().position(|c| c.id == sequence.id()) {
                *budget += schedule.chunks.remove(chunk).len;
            }
            self.add(sequence);
            if youngest == at {
                return false;
            }
        }
        true
    }

    /// Moves waiting sequences in, oldest first, while their whole prompt has room and each running
    /// sequence still finds one more block.
    fn admit(&mut self, budget: &mut usize, schedule: &mut Schedule) {
        while *budget > 0 && self.running.len() < self.running_max {
            let Some(mut sequence) = self.waiting.pop_front() else {
                return;
            };
            sequence.take_hits(&mut self.pool);
            let wanted = sequence.blocks_missing(sequence.pending()) + self.running.len();
            if wanted > self.pool.free() && !self.running.is_empty() {
                sequence.release(&mut self.pool);
                self.waiting.push_front(sequence);
                return;
            }
            sequence.admitted();
            schedule.admitted.push(sequence.id());
            let len = sequence.pending().min(*budget);
            let at = self
                .running
                .partition_point(|other| other.id() < sequence.id());
            self.running.insert(at, sequence);
            schedule.chunks.push(self.take(at, len));
            *budget -= len;
        }
    }

    /// Lengthens chunks by drafts, oldest first, with what is left of the budget: a draft may be
    /// wrong, all else is needed. They only take blocks that nobody misses for a while, one for each
    /// running sequence staying free. What is not verified now is forgotten.
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

    /// The next `len` tokens of the sequence at `at`, with their blocks, which are free.
    fn take(&mut self, at: usize, len: usize) -> Chunk {
        self.take_blocks(at, len);
        let sequence = &self.running[at];
        Chunk {
            id: sequence.id(),
            start: sequence.computed(),
            len,
            drafts: 0,
            samples: len == sequence.pending(),
        }
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
