//! Who may come in: a sequence whose tokens have room now and whose answer, with those of all that
//! run, is expected to have room later. Too few would leave the cache idle, too many would be
//! preempted and computed again.

use farthing_core::limits::KV_BLOCK_TOKENS;

use super::super::block_pool::{BlockId, Forecast};
use super::super::priority::patience_ms;
use super::{Schedule, Scheduler, Sequence, StepBudget};

/// What a sequence is expected to become.
struct Growth<'a> {
    /// Tokens that it has yet to generate.
    left: usize,
    /// Tokens that it has.
    tokens: usize,
    /// Blocks that it has.
    table: &'a [BlockId],
}

// === impl Scheduler ===

impl Scheduler {
    /// Lets the first waiting sequence in, if it fits, and schedules what it can compute now. It
    /// may take the place of sequences of lower priority. False if it has to wait, and so has
    /// everyone behind it.
    pub(super) fn admit(&mut self, budget: &mut StepBudget, schedule: &mut Schedule) -> bool {
        let Some(mut sequence) = self.waiting.pop_front() else {
            return false;
        };
        sequence.take_hits(&mut self.pool);
        if !self.has_room(&sequence) && self.would_have_room(&sequence) {
            while !self.has_room(&sequence)
                && let Some(last) = self.displaceable(&sequence)
            {
                self.preempt(last, budget, schedule);
            }
        }
        if !self.has_room(&sequence) {
            sequence.release(&mut self.pool);
            self.waiting.push_front(sequence);
            return false;
        }
        sequence.admitted();
        schedule.admitted.push(sequence.id());
        let len = sequence.pending().min(budget.prefill());
        let at = match self.running_index(sequence.id()) {
            Ok(at) | Err(at) => at,
        };
        self.running.insert(at, sequence);
        self.take(at, len, budget, schedule);
        true
    }

    /// Whether a waiting sequence, whose hits are taken, fits beside all that run. Where nobody
    /// runs it always does: it fits the whole pool.
    fn has_room(&self, sequence: &Sequence) -> bool {
        if self.running.is_empty() {
            return true;
        }
        let all = self.running.iter().chain([sequence]);
        let growth = all.map(|sequence| self.growth(sequence)).collect();
        self.running.len() < self.running_max && fits(growth, self.pool.forecast())
    }

    /// Whether it might fit once all that it may displace are gone.
    fn would_have_room(&self, sequence: &Sequence) -> bool {
        let gone = |other: &&Sequence| may_displace(sequence, other);
        let mut forecast = self.pool.forecast();
        for other in self.running.iter().filter(gone) {
            forecast.release(other.table());
        }
        let stay = self.running.iter().filter(|other| !gone(other));
        let growth = stay.chain([sequence]).map(|other| self.growth(other));
        fits(growth.collect(), forecast)
    }

    /// The last running sequence, if the waiting one may take its place.
    fn displaceable(&self, sequence: &Sequence) -> Option<usize> {
        let last = self.running.last()?;
        may_displace(sequence, last).then(|| self.running.len() - 1)
    }

    /// A sequence is expected to end after the usual share of its longest answer, or within another
    /// block if it is longer already.
    fn growth<'a>(&self, sequence: &'a Sequence) -> Growth<'a> {
        let tokens = sequence.tokens().len();
        let generated = self.expected.tokens(sequence.generate_max());
        let expected = sequence.prompt_len() + generated;
        let end = expected
            .max(tokens + KV_BLOCK_TOKENS)
            .min(sequence.tokens_max())
            .max(tokens);
        Growth {
            left: end - tokens,
            tokens,
            table: sequence.table(),
        }
    }
}

/// Whether the blocks suffice at every moment until the last sequence is expected to end, if each
/// generates a token a step. They are most in demand just before one of them ends and gives back
/// its own; what those that ended before gave back is free by then. (The idea of predicting the
/// peak is that of Gong et al., "Past-Future Scheduler for LLM Serving under SLA Guarantees",
/// ASPLOS 2025.)
fn fits(mut growth: Vec<Growth<'_>>, mut forecast: Forecast) -> bool {
    growth.sort_unstable_by_key(|growth| growth.left);
    for (ended, next) in growth.iter().enumerate() {
        let demand = growth[ended..].iter().map(|growth| {
            let blocks = (growth.tokens + next.left).div_ceil(KV_BLOCK_TOKENS);
            blocks.saturating_sub(growth.table.len())
        });
        if demand.sum::<usize>() > forecast.free() {
            return false;
        }
        forecast.release(next.table);
    }
    true
}

/// Whether a waiting sequence may take the place of a running one: it is served before it, and not
/// only because it came earlier.
fn may_displace(waiting: &Sequence, running: &Sequence) -> bool {
    waiting.id() < running.id() && patience_ms(waiting.tier()) < patience_ms(running.tier())
}
