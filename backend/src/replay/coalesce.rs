//! What it does to hold requests back for a moment so that they start together, as servers that
//! batch whole requests do. Here a request joins the batch at its next step anyway; the simulation
//! puts a window before that, over the engine's own scheduler and a model of its steps' times. What
//! the engine adds is left out: it prefills less in a step while others decode, so first tokens
//! come later there, with a window or without.

use std::collections::HashMap;

use farthing_core::limits::KV_BLOCK_TOKENS;
use farthing_core::price::ServiceTier;

use super::azure::Request;
use crate::engine::block_pool::BlockHash;
use crate::engine::scheduler::{Scheduler, StepBudget};
use crate::engine::sequence::{Sequence, SequenceId};

/// How long a step takes: a fixed part, and one for each token of either kind.
#[derive(Debug, Clone, Copy)]
pub struct StepCost {
    pub step_us: f64,
    pub prefill_token_us: f64,
    pub decode_token_us: f64,
}

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Experiment {
    /// Requests come so many times as fast as in the trace.
    pub speed: f64,
    /// How long after the first held request those that came with it are let in. None holds
    /// nobody back, and the step that is running is the only window there is.
    pub window_us: Option<u64>,
    pub cost: StepCost,
    pub step_tokens: usize,
    pub running_max: usize,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// From arrival to the first token.
    pub first_token_ms_p50: f64,
    pub first_token_ms_p99: f64,
    /// From arrival to the last.
    pub answer_ms_p50: f64,
    /// Sequences that decode in a step, on average.
    pub decoding: f64,
    /// Computing time of a generated token.
    pub busy_us_per_token: f64,
    pub generated_tokens: usize,
}

/// Runs a trace to its end.
pub fn simulate(requests: &[Request], experiment: &Experiment) -> Outcome {
    let mut world = World::new(requests, *experiment);
    while world.finished < requests.len() {
        world.let_in();
        if world.scheduler.is_idle() {
            world.wait();
        } else {
            world.step();
        }
    }
    world.outcome()
}

struct World<'a> {
    requests: &'a [Request],
    experiment: Experiment,
    scheduler: Scheduler,
    now_us: f64,
    /// The next request to come, those that are held back, up to it, and those before them that
    /// the scheduler has not been told of.
    arrived: usize,
    held_from: usize,
    told: usize,
    /// Tokens generated so far, of each request that runs.
    generated: HashMap<SequenceId, usize>,
    finished: usize,
    first_token_ms: Vec<f64>,
    answer_ms: Vec<f64>,
    steps: usize,
    decoded: usize,
    busy_us: f64,
    tokens: usize,
}

// === impl World ===

impl<'a> World<'a> {
    fn new(requests: &'a [Request], experiment: Experiment) -> World<'a> {
        let blocks = |request: &Request| {
            (request.prompt_tokens + request.generated_tokens).div_ceil(KV_BLOCK_TOKENS)
        };
        let longest = requests.iter().map(blocks).max().unwrap_or(1);
        World {
            requests,
            experiment,
            // Room for all that may run: memory is not what is asked about.
            scheduler: Scheduler::new(longest * experiment.running_max, experiment.running_max),
            now_us: 0.0,
            arrived: 0,
            held_from: 0,
            told: 0,
            generated: HashMap::new(),
            finished: 0,
            first_token_ms: Vec::new(),
            answer_ms: Vec::new(),
            steps: 0,
            decoded: 0,
            busy_us: 0.0,
            tokens: 0,
        }
    }

    fn arrival_us(&self, index: usize) -> f64 {
        self.requests[index].arrival_us as f64 / self.experiment.speed
    }

    /// Takes what has come, and lets the held in when their window is over.
    fn let_in(&mut self) {
        while self.arrived < self.requests.len() && self.arrival_us(self.arrived) <= self.now_us {
            self.arrived += 1;
        }
        if self
            .opens_us()
            .is_some_and(|opens_us| self.now_us >= opens_us)
        {
            self.held_from = self.arrived;
        }
        // They are served in order, so those that wait far behind need no memory for their tokens.
        let most = 2 * self.experiment.running_max;
        let known = self.scheduler.running_len() + self.scheduler.waiting_len();
        let room = most.saturating_sub(known);
        for index in self.told..self.held_from.min(self.told + room) {
            let request = self.requests[index];
            let id = SequenceId::new(index as u64, index as u64, 0);
            // No two prompts have a block in common.
            let prompt = vec![index as u32; request.prompt_tokens];
            let root = BlockHash::root("replay", None, &[0; 32]);
            let (tier, most) = (ServiceTier::Standard, request.generated_tokens);
            self.scheduler
                .add(Sequence::new(id, tier, prompt, root, most));
            self.told = index + 1;
        }
    }

    /// When those that are held are let in.
    fn opens_us(&self) -> Option<f64> {
        let window_us = self.experiment.window_us.unwrap_or(0) as f64;
        (self.held_from < self.arrived).then(|| self.arrival_us(self.held_from) + window_us)
    }

    /// Nothing is to be computed until somebody comes or is let in.
    fn wait(&mut self) {
        let next = (self.arrived < self.requests.len()).then(|| self.arrival_us(self.arrived));
        let until = [self.opens_us(), next]
            .into_iter()
            .flatten()
            .reduce(f64::min);
        self.now_us = self.now_us.max(until.unwrap_or(self.now_us));
    }

    fn step(&mut self) {
        let schedule = self
            .scheduler
            .schedule(StepBudget::new(self.experiment.step_tokens));
        let decoded = schedule.chunks.iter().filter(|chunk| chunk.decodes).count();
        let all: usize = schedule.chunks.iter().map(|chunk| chunk.len).sum();
        let cost = self.experiment.cost;
        let elapsed_us = cost.step_us
            + cost.decode_token_us * decoded as f64
            + cost.prefill_token_us * (all - decoded) as f64;
        self.now_us += elapsed_us;
        self.busy_us += elapsed_us;
        self.steps += 1;
        self.decoded += decoded;
        for chunk in &schedule.chunks {
            self.scheduler.computed(chunk, 0);
            if chunk.samples {
                self.generate(chunk.id);
            }
        }
    }

    /// A sequence has its next token, which may be its last.
    fn generate(&mut self, id: SequenceId) {
        let index = id.request() as usize;
        let since_ms = (self.now_us - self.arrival_us(index)) / 1e3;
        let generated = self.generated.entry(id).or_insert(0);
        *generated += 1;
        self.tokens += 1;
        if *generated == 1 {
            self.first_token_ms.push(since_ms);
        }
        if *generated < self.requests[index].generated_tokens {
            return self.scheduler.append(id, index as u32);
        }
        self.scheduler
            .finish(id, self.requests[index].generated_tokens);
        self.generated.remove(&id);
        self.answer_ms.push(since_ms);
        self.finished += 1;
    }

    fn outcome(mut self) -> Outcome {
        self.first_token_ms.sort_by(f64::total_cmp);
        self.answer_ms.sort_by(f64::total_cmp);
        let at = |sorted: &[f64], percent: usize| {
            let index = sorted.len().saturating_sub(1) * percent / 100;
            sorted.get(index).copied().unwrap_or(0.0)
        };
        Outcome {
            first_token_ms_p50: at(&self.first_token_ms, 50),
            first_token_ms_p99: at(&self.first_token_ms, 99),
            answer_ms_p50: at(&self.answer_ms, 50),
            decoding: self.decoded as f64 / self.steps.max(1) as f64,
            busy_us_per_token: self.busy_us / self.tokens.max(1) as f64,
            generated_tokens: self.tokens,
        }
    }
}
