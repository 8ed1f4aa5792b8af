//! A world without models: requests of several tiers and tenants arrive at several schedulers that
//! take turns, are drafted for, cancelled, preempted and finished, in an order that a seed decides.
//! The KV cache is simulated by what each slot was written for, so a block that is shared wrongly,
//! reused too early or never computed is noticed.

use std::collections::HashMap;
use std::time::Duration;

use farthing_backend::engine::block_pool::BlockHash;
use farthing_backend::engine::fair_share::FairShare;
use farthing_backend::engine::priority::due_ms;
use farthing_backend::engine::random::SplitMix64;
use farthing_backend::engine::scheduler::{Chunk, Schedule, Scheduler, StepBudget};
use farthing_backend::engine::sequence::{Sequence, SequenceId};
use farthing_core::limits::{ENGINE_DRAFT_TOKENS_MAX, KV_BLOCK_TOKENS};
use farthing_core::price::ServiceTier;

/// What was reached, over all models of a world.
#[derive(Debug, Default, Clone, Copy)]
pub struct Reached {
    pub steps: usize,
    pub arrived: usize,
    pub finished: usize,
    pub cancelled: usize,
    pub preempted: usize,
    pub cached_tokens: usize,
    pub accepted: usize,
    /// Steps after which no block was free.
    pub exhausted: usize,
    /// Tokens computed, and those of them that were computed before.
    pub computed: usize,
    pub again: usize,
}

/// One model: its scheduler, its cache and its sequences.
struct Model {
    scheduler: Scheduler,
    blocks: usize,
    tokens: usize,
    /// What each slot was computed from: a digest of the tenant and all tokens up to it.
    cache: Vec<u64>,
    live: HashMap<SequenceId, Live>,
    /// The same ids, to draw from.
    ids: Vec<SequenceId>,
}

struct Live {
    /// The digest up to each token, after the tenant's own.
    digests: Vec<u64>,
    generated: usize,
    /// When it ends.
    generates: usize,
    /// Choices of the same request that start when its first token comes.
    choices: usize,
    request: Request,
    computed_max: usize,
}

/// What the choices of a request have in common.
#[derive(Clone)]
struct Request {
    due_ms: u64,
    number: u64,
    tier: ServiceTier,
    tenant: u8,
    prompt: Vec<u32>,
    generate_max: usize,
}

/// Several models on one clock.
pub struct World {
    random: SplitMix64,
    models: Vec<Model>,
    fair_share: FairShare,
    now_ms: u64,
    requests: u64,
    busyness: usize,
    pub reached: Reached,
}

const TIERS: [ServiceTier; 4] = [
    ServiceTier::Standard,
    ServiceTier::Priority,
    ServiceTier::Flex,
    ServiceTier::Batch,
];

pub fn below(random: &mut SplitMix64, bound: usize) -> usize {
    (random.next_u64() % bound.max(1) as u64) as usize
}

fn digest(before: u64, token: u32) -> u64 {
    SplitMix64::new(before ^ u64::from(token).rotate_left(32)).next_u64()
}

// === impl Model ===

impl Model {
    fn new(random: &mut SplitMix64) -> Model {
        let blocks = 4 + below(random, 28);
        Model {
            scheduler: Scheduler::new(blocks, 1 + below(random, 10)),
            blocks,
            tokens: 1 + below(random, 96),
            cache: vec![0; blocks * KV_BLOCK_TOKENS],
            live: HashMap::new(),
            ids: Vec::new(),
        }
    }

    fn start(&mut self, random: &mut SplitMix64, request: &Request, choice: usize, choices: usize) {
        let id = SequenceId::new(request.due_ms, request.number, choice);
        let mut digests = vec![u64::from(request.tenant)];
        for &token in &request.prompt {
            digests.push(digest(digests[digests.len() - 1], token));
        }
        let generates = 1 + below(random, request.generate_max);
        self.live.insert(
            id,
            Live {
                digests,
                generated: 0,
                generates,
                choices,
                request: request.clone(),
                computed_max: 0,
            },
        );
        self.ids.push(id);
        let root = BlockHash::root("model", None, &[request.tenant; 32]);
        let prompt = request.prompt.clone();
        let sequence = Sequence::new(id, request.tier, prompt, root, request.generate_max);
        self.scheduler.add(sequence);
    }

    fn forget(&mut self, id: SequenceId) {
        self.live.remove(&id);
        self.ids.retain(|other| *other != id);
    }

    /// The budget holds, no sequence is served twice, the first that runs is served, and nobody is
    /// prefilled while somebody who decodes was left out, nor overtaken.
    fn check_schedule(&self, schedule: &Schedule, budget: StepBudget) -> Result<(), String> {
        let spent: usize = schedule.chunks.iter().map(|chunk| chunk.len).sum();
        let prompts = schedule.chunks.iter().filter(|chunk| !chunk.decodes);
        let prefilled: usize = prompts.clone().map(|chunk| chunk.len).sum();
        let rows: usize = schedule.chunks.iter().map(Chunk::rows).sum();
        if spent > budget.tokens
            || prefilled > budget.prefill_tokens
            || rows > self.scheduler.rows_max()
        {
            return Err(format!("{spent} spent, {prefilled} prefilled, {rows} rows"));
        }
        let is_served = |id| {
            schedule
                .chunks
                .iter()
                .filter(|chunk| chunk.id == id)
                .count()
        };
        let full = spent == budget.tokens || prefilled == budget.prefill_tokens;
        let runs = |id: &SequenceId| self.scheduler.running(*id).is_some();
        let (running, waiting): (Vec<_>, Vec<_>) = self.ids.iter().copied().partition(runs);
        if let Some(&first) = running.iter().min()
            && is_served(first) != 1
            && !full
        {
            return Err(format!("{first:?} is first and not served"));
        }
        for &id in &running {
            let decodes = self.scheduler.running(id).is_some_and(Sequence::decodes);
            let left_out = is_served(id) == 0 && decodes;
            if is_served(id) > 1 || left_out && prefilled > 0 {
                return Err(format!("{id:?} is served twice or left out"));
            }
        }
        let overtaken = |id: &SequenceId| waiting.iter().any(|other| other < id);
        if schedule.preempted == 0 && schedule.admitted.iter().any(overtaken) {
            return Err("a waiting sequence is overtaken".to_owned());
        }
        if running.is_empty() && !waiting.is_empty() {
            return Err("all wait".to_owned());
        }
        Ok(())
    }

    /// Reads what attention would read, of each block its last slot or all, and writes the chunk.
    fn compute(&mut self, chunk: &Chunk, reads_all: bool) -> Result<[usize; 2], String> {
        let sequence = self.scheduler.running(chunk.id).ok_or("it does not run")?;
        let live = self.live.get_mut(&chunk.id).ok_or("it is not live")?;
        if sequence.computed() != chunk.start || sequence.drafts().len() != chunk.drafts {
            return Err(format!("{chunk:?} is not what is missing"));
        }
        let slot = |position: usize| {
            let block = sequence.table()[position / KV_BLOCK_TOKENS] as usize;
            block * KV_BLOCK_TOKENS + position % KV_BLOCK_TOKENS
        };
        for position in 0..chunk.start {
            let is_read = position + 1 == chunk.start || (position + 1) % KV_BLOCK_TOKENS == 0;
            if (is_read || reads_all) && self.cache[slot(position)] != live.digests[position + 1] {
                return Err(format!("{:?} reads what is another's", chunk.id));
            }
        }
        let mut last = live.digests[chunk.start];
        for (index, &token) in sequence.chunk_tokens(chunk).iter().enumerate() {
            last = digest(last, token);
            self.cache[slot(chunk.start + index)] = last;
        }
        let end = chunk.start + chunk.len - chunk.drafts;
        let again = live.computed_max.min(end).saturating_sub(chunk.start);
        live.computed_max = live.computed_max.max(end);
        Ok([chunk.len, again])
    }
}

// === impl World ===

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = SplitMix64::new(seed);
        let count = 1 + below(&mut random, 3);
        let models: Vec<_> = (0..count).map(|_| Model::new(&mut random)).collect();
        World {
            fair_share: FairShare::new((0..count).map(|_| 1 + below(&mut random, 3) as u32)),
            models,
            now_ms: 0,
            requests: 0,
            busyness: 1 + below(&mut random, 6),
            random,
            reached: Reached::default(),
        }
    }

    /// Sequences that have not ended.
    pub fn live(&self) -> usize {
        self.models.iter().map(|model| model.live.len()).sum()
    }

    /// A prompt that begins like others do, for one of three tenants.
    pub fn arrive(&mut self) {
        let random = &mut self.random;
        let at = below(random, self.models.len());
        let model = &mut self.models[at];
        if model.ids.len() >= 24 {
            return;
        }
        let capacity = model.blocks * KV_BLOCK_TOKENS;
        let prompt = 1 + below(random, capacity - 1);
        let family = below(random, 2) as u32;
        let shared = below(random, prompt + 1);
        let mut token = |at| {
            if at < shared {
                family
            } else {
                below(random, 4) as u32
            }
        };
        let tokens: Vec<u32> = (0..prompt).map(&mut token).collect();
        let tier = TIERS[below(random, 6) % TIERS.len()];
        let request = Request {
            due_ms: due_ms(self.now_ms, tier, prompt),
            number: self.requests,
            tier,
            tenant: below(random, 3) as u8,
            prompt: tokens,
            generate_max: 1 + below(random, capacity - prompt),
        };
        self.requests += 1;
        let choices = below(random, 8).saturating_sub(5);
        model.start(random, &request, 0, choices);
        self.reached.arrived += 1 + choices;
    }

    pub fn cancel(&mut self) {
        let at = below(&mut self.random, self.models.len());
        let model = &mut self.models[at];
        if model.ids.is_empty() {
            return;
        }
        let id = model.ids[below(&mut self.random, model.ids.len())];
        self.reached.cancelled += 1 + model.live[&id].choices;
        model.scheduler.remove(id);
        model.forget(id);
    }

    /// One step of the model whose turn it is. False if none has anything to do.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub fn step(&mut self) -> Result<bool, String> {
        let busy = |index: usize| !self.models[index].scheduler.is_idle();
        let Some(at) = self.fair_share.next(busy) else {
            self.now_ms += 1 + below(&mut self.random, 1_000) as u64;
            return Ok(false);
        };
        let random = &mut self.random;
        let model = &mut self.models[at];
        if below(random, 3) == 0 && !model.ids.is_empty() {
            let id = model.ids[below(random, model.ids.len())];
            let drafts = below(random, 2 * ENGINE_DRAFT_TOKENS_MAX) as u32;
            let drafts: Vec<_> = (0..drafts).map(|draft| draft % 4).collect();
            model.scheduler.draft(id, &drafts);
        }
        let budget = StepBudget {
            tokens: model.tokens,
            prefill_tokens: 1 + below(random, model.tokens),
        };
        let schedule = model.scheduler.schedule(budget);
        model.check_schedule(&schedule, budget)?;
        let reached = &mut self.reached;
        reached.steps += 1;
        reached.preempted += schedule.preempted;
        reached.exhausted += usize::from(model.scheduler.pool().free() == 0);
        for &id in &schedule.admitted {
            reached.cached_tokens += model.scheduler.running(id).map_or(0, Sequence::computed);
        }
        let reads_all = below(random, 64) == 0;
        let mut spent = 0;
        for chunk in &schedule.chunks {
            let [computed, again] = model.compute(chunk, reads_all)?;
            reached.computed += computed;
            reached.again += again;
            spent += computed;
        }
        // A client may leave while the step is computed.
        if below(random, 256) == 0
            && let Some(chunk) = schedule.chunks.first()
        {
            reached.cancelled += 1 + model.live[&chunk.id].choices;
            model.scheduler.remove(chunk.id);
            model.forget(chunk.id);
        }
        for chunk in &schedule.chunks {
            self.sampled(at, chunk)?;
        }
        let time_ms = 1 + spent as u64;
        self.now_ms += time_ms;
        self.fair_share.charge(at, Duration::from_millis(time_ms));
        Ok(true)
    }

    /// Some of a chunk's drafts turn out right, a token follows, and with it perhaps the end.
    fn sampled(&mut self, at: usize, chunk: &Chunk) -> Result<(), String> {
        let random = &mut self.random;
        let model = &mut self.models[at];
        let Some(live) = model.live.get_mut(&chunk.id) else {
            model.scheduler.computed(chunk, 0);
            return Ok(());
        };
        let left = live.generates - live.generated;
        let accepted = below(random, chunk.drafts + 1).min(left - 1);
        if let Some(sequence) = model.scheduler.running(chunk.id) {
            for &token in &sequence.drafts()[..accepted] {
                live.digests
                    .push(digest(live.digests[live.digests.len() - 1], token));
            }
        }
        model.scheduler.computed(chunk, accepted);
        self.reached.accepted += accepted;
        if !chunk.samples {
            return Ok(());
        }
        live.generated += accepted + 1;
        let choices = std::mem::take(&mut live.choices);
        let request = live.request.clone();
        if live.generated == live.generates {
            model.scheduler.finish(chunk.id, live.generated);
            model.forget(chunk.id);
            self.reached.finished += 1;
        } else {
            let token = below(random, 4) as u32;
            live.digests
                .push(digest(live.digests[live.digests.len() - 1], token));
            model.scheduler.append(chunk.id, token);
        }
        for choice in 1..=choices {
            model.start(random, &request, choice, 0);
        }
        Ok(())
    }

    /// What happens between two steps.
    pub fn disturb(&mut self) {
        match below(&mut self.random, 48) {
            event if event < self.busyness => self.arrive(),
            47 => self.cancel(),
            _ => {}
        }
    }

    /// # Errors
    /// The first contradiction, in words.
    pub fn check(&self) -> Result<(), String> {
        self.models.iter().try_for_each(|model| {
            let known = model.scheduler.running_len() + model.scheduler.waiting_len();
            if known != model.live.len() {
                return Err(format!("{known} known, {} live", model.live.len()));
            }
            model.scheduler.check()
        })
    }

    /// Lets everything end.
    ///
    /// # Errors
    /// What does not end, or what is left.
    pub fn drain(&mut self) -> Result<(), String> {
        // Each step computes at least one token of the first sequence, which never starts again.
        let tokens = self.models.iter().map(|model| {
            let each = 4 * model.blocks * KV_BLOCK_TOKENS;
            let choices = model.live.values().map(|live| 1 + live.choices);
            each * choices.sum::<usize>()
        });
        let mut left: usize = tokens.sum();
        while self.step()? {
            if left == 0 {
                return Err(format!("{} sequences do not end", self.live()));
            }
            left -= 1;
        }
        self.check()?;
        let whole = |model: &Model| model.scheduler.pool().free() == model.blocks;
        let reached = self.reached;
        let ended = reached.finished + reached.cancelled;
        if self.live() > 0 || !self.models.iter().all(whole) || ended != reached.arrived {
            return Err(format!("{} left, {reached:?}", self.live()));
        }
        Ok(())
    }
}
