//! A simulator of the scheduler without a model: sequences arrive, are cancelled, finish, and run
//! out of blocks, in an order that a seed decides. The KV cache is simulated by what each slot was
//! written for, so a block that is shared wrongly, reused too early or never computed is noticed.

use std::collections::HashMap;

use farthing_backend::engine::block_pool::BlockHash;
use farthing_backend::engine::random::SplitMix64;
use farthing_backend::engine::scheduler::{Chunk, Schedule, Scheduler};
use farthing_backend::engine::sequence::{Sequence, SequenceId};
use farthing_core::limits::{ENGINE_DRAFT_TOKENS_MAX, KV_BLOCK_TOKENS};
use proptest::prelude::*;

/// What a slot of the cache was computed from: a digest of the tenant and all tokens up to it.
type Written = u64;

struct Simulation {
    random: SplitMix64,
    scheduler: Scheduler,
    blocks: usize,
    budget: usize,
    cache: HashMap<usize, Written>,
    /// Every live sequence: its tenant and how many tokens it still generates.
    live: HashMap<SequenceId, (u64, usize)>,
    arrivals: u64,
    preempted: usize,
    cached: usize,
    accepted: usize,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut random = SplitMix64::new(seed);
        let blocks = 4 + below(&mut random, 28);
        let budget = 1 + below(&mut random, 96);
        let scheduler = Scheduler::new(blocks, 1 + below(&mut random, 12));
        let (cache, live) = (HashMap::new(), HashMap::new());
        let (arrivals, preempted, cached, accepted) = (0, 0, 0, 0);
        Simulation {
            random,
            scheduler,
            blocks,
            budget,
            cache,
            live,
            arrivals,
            preempted,
            cached,
            accepted,
        }
    }

    /// A prompt that begins like others do, for one of three tenants.
    fn arrive(&mut self) {
        let capacity = self.blocks * KV_BLOCK_TOKENS;
        let tenant = below(&mut self.random, 3) as u64;
        let prompt = 1 + below(&mut self.random, capacity - 1);
        let generate = 1 + below(&mut self.random, capacity - prompt);
        let family = below(&mut self.random, 2) as u32;
        let shared = below(&mut self.random, prompt + 1);
        let random = &mut self.random;
        let token = |at| {
            if at < shared {
                family
            } else {
                below(random, 4) as u32
            }
        };
        let tokens: Vec<u32> = (0..prompt).map(token).collect();
        let id = SequenceId::new(self.arrivals, 0);
        self.arrivals += 1;
        let root = BlockHash::root("model", &[tenant as u8; 32]);
        self.scheduler
            .add(Sequence::new(id, tokens, root, generate));
        self.live.insert(id, (tenant, generate));
    }

    fn cancel(&mut self) {
        let mut ids: Vec<_> = self.live.keys().copied().collect();
        ids.sort();
        if !ids.is_empty() {
            let id = ids[below(&mut self.random, ids.len())];
            self.live.remove(&id);
            self.scheduler.remove(id);
        }
    }

    /// Guesses for some of the sequences that run, more than they can take.
    fn propose(&mut self) {
        let mut ids: Vec<_> = self.live.keys().copied().collect();
        ids.sort();
        for id in ids {
            if below(&mut self.random, 3) == 0 {
                let drafts = below(&mut self.random, 2 * ENGINE_DRAFT_TOKENS_MAX);
                let drafts: Vec<_> = (0..drafts as u32).map(|draft| draft % 4).collect();
                self.scheduler.draft(id, &drafts);
            }
        }
    }

    fn step(&mut self) -> Result<(), TestCaseError> {
        self.propose();
        let oldest = self.live.keys().min().copied();
        let schedule = self.scheduler.schedule(self.budget);
        self.scheduler.check().map_err(TestCaseError::fail)?;
        self.check_schedule(&schedule, oldest)?;
        self.preempted += schedule.preempted;
        for chunk in &schedule.chunks {
            self.compute(chunk)?;
        }
        for chunk in &schedule.chunks {
            let accepted = below(&mut self.random, chunk.drafts + 1);
            self.scheduler.computed(chunk, accepted);
            self.accepted += accepted;
            if !chunk.samples {
                continue;
            }
            let (_, left) = self
                .live
                .get_mut(&chunk.id)
                .expect("only live sequences run");
            prop_assert!(*left > accepted, "drafts beyond the end");
            *left -= 1 + accepted;
            if *left == 0 {
                self.live.remove(&chunk.id);
                self.scheduler.remove(chunk.id);
            } else {
                self.scheduler
                    .append(chunk.id, below(&mut self.random, 4) as u32);
            }
        }
        self.scheduler.check().map_err(TestCaseError::fail)
    }

    /// The budget holds, no sequence is served twice, and the oldest one always is, unless
    /// decoding ones used the budget up.
    fn check_schedule(
        &self,
        schedule: &Schedule,
        oldest: Option<SequenceId>,
    ) -> Result<(), TestCaseError> {
        let spent: usize = schedule.chunks.iter().map(|chunk| chunk.len).sum();
        prop_assert!(spent <= self.budget);
        let rows: usize = schedule.chunks.iter().map(Chunk::rows).sum();
        prop_assert!(rows <= self.scheduler.rows_max());
        let mut ids: Vec<_> = schedule.chunks.iter().map(|chunk| chunk.id).collect();
        ids.sort();
        ids.dedup();
        prop_assert_eq!(ids.len(), schedule.chunks.len());
        if let Some(oldest) = oldest {
            prop_assert!(ids.first() == Some(&oldest) || spent == self.budget);
        }
        // Nobody is prefilled while somebody who decodes was left out.
        let decodes = |id| self.scheduler.running(id).is_some_and(|s| s.pending() == 1);
        let prefills = schedule.chunks.iter().any(|chunk| !decodes(chunk.id));
        let left_out = |id: &SequenceId| decodes(*id) && !ids.contains(id);
        prop_assert!(!prefills || !self.live.keys().any(left_out));
        Ok(())
    }

    /// Reads all that attention would read and writes the chunk.
    fn compute(&mut self, chunk: &Chunk) -> Result<(), TestCaseError> {
        let &Chunk { id, start, len, .. } = chunk;
        let sequence = self.scheduler.running(id).expect("what is scheduled runs");
        let tenant = self.live[&id].0;
        prop_assert_eq!(sequence.computed(), start);
        prop_assert!(len > 0 && start + len - chunk.drafts <= sequence.tokens().len());
        prop_assert_eq!(sequence.drafts().len(), chunk.drafts);
        prop_assert!(chunk.drafts == 0 || len == 1 + chunk.drafts);
        self.cached += if start > 0 && sequence.cached() == start {
            1
        } else {
            0
        };
        let slot = |position: usize| {
            let block = sequence.table()[position / KV_BLOCK_TOKENS] as usize;
            block * KV_BLOCK_TOKENS + position % KV_BLOCK_TOKENS
        };
        let mut digest = tenant;
        let before = &sequence.tokens()[..start];
        let tokens = before.iter().chain(sequence.chunk_tokens(chunk));
        for (position, &token) in tokens.enumerate() {
            digest = SplitMix64::new(digest ^ u64::from(token).rotate_left(32)).next_u64();
            if position >= start {
                self.cache.insert(slot(position), digest);
            }
            prop_assert_eq!(self.cache.get(&slot(position)), Some(&digest));
        }
        Ok(())
    }
}

fn below(random: &mut SplitMix64, bound: usize) -> usize {
    (random.next_u64() % bound.max(1) as u64) as usize
}

/// Runs one seed; returns how often sequences were preempted, prefixes hit and drafts right.
fn simulate(seed: u64, steps: usize) -> Result<[usize; 3], TestCaseError> {
    let mut simulation = Simulation::new(seed);
    for _ in 0..steps {
        match below(&mut simulation.random, 20) {
            0..=2 if simulation.live.len() < 40 => simulation.arrive(),
            3 => simulation.cancel(),
            _ => {}
        }
        simulation.step()?;
    }
    // Everything that is left ends: each step computes at least one token of the oldest sequence.
    let mut left = simulation.live.len() * simulation.blocks * KV_BLOCK_TOKENS * 2;
    while !simulation.scheduler.is_idle() {
        prop_assert!(left > 0, "{} sequences do not end", simulation.live.len());
        left -= 1;
        simulation.step()?;
    }
    prop_assert_eq!(simulation.scheduler.pool().free(), simulation.blocks);
    prop_assert!(simulation.live.is_empty());
    Ok([simulation.preempted, simulation.cached, simulation.accepted])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_sequence_ends_and_every_block_returns(seed in any::<u64>()) {
        simulate(seed, 600)?;
    }
}

#[test]
fn the_simulator_reaches_preemption_prefix_hits_and_drafts() {
    let runs = (0..20).map(|seed| simulate(seed, 600).expect("holds for these seeds"));
    let reached = runs.fold([0; 3], |sum, run| {
        std::array::from_fn(|index| sum[index] + run[index])
    });
    assert!(reached.iter().all(|&times| times > 100), "{reached:?}");
}

/// Schedules once and returns (request, start, len) of each chunk.
fn chunks(scheduler: &mut Scheduler, budget: usize) -> Vec<(u64, usize, usize)> {
    let schedule = scheduler.schedule(budget);
    for chunk in &schedule.chunks {
        scheduler.computed(chunk, 0);
        if chunk.samples {
            scheduler.append(chunk.id, 0);
        }
    }
    schedule
        .chunks
        .iter()
        .map(|chunk| (chunk.id.request(), chunk.start, chunk.len))
        .collect()
}

fn add(scheduler: &mut Scheduler, request: u64, prompt: impl IntoIterator<Item = u32>, salt: u8) {
    let root = BlockHash::root("model", &[salt; 32]);
    let prompt = prompt.into_iter().collect();
    let id = SequenceId::new(request, 0);
    scheduler.add(Sequence::new(id, prompt, root, 1_000));
}

/// The (start, len, drafts) of each chunk that would be computed, without computing any.
fn drafted(schedule: &Schedule) -> Vec<(usize, usize, usize)> {
    let chunk = |chunk: &Chunk| (chunk.start, chunk.len, chunk.drafts);
    schedule.chunks.iter().map(chunk).collect()
}

#[test]
fn right_drafts_become_tokens_and_wrong_ones_are_written_over() {
    let mut scheduler = Scheduler::new(64, 8);
    add(&mut scheduler, 0, 0..30, 0);
    let id = SequenceId::new(0, 0);
    // A prompt that is not computed has no next token to guess.
    scheduler.draft(id, &[1, 2]);
    assert_eq!(chunks(&mut scheduler, 100), [(0, 0, 30)]);
    scheduler.draft(id, &[8, 9]);
    scheduler.draft(id, &[31, 32, 33]);
    let schedule = scheduler.schedule(100);
    assert_eq!(drafted(&schedule), [(30, 4, 3)]);
    let chunk = schedule.chunks[0];
    assert_eq!(chunk.rows(), 4);
    let sequence = scheduler.running(id).expect("it runs");
    assert_eq!(sequence.chunk_tokens(&chunk), [0, 31, 32, 33]);
    assert_eq!(sequence.tokens().len(), 31);
    // Two are right: the sequence has them, and the next step writes over the third.
    scheduler.computed(&chunk, 2);
    scheduler.append(id, 40);
    let sequence = scheduler.running(id).expect("it runs");
    assert_eq!(sequence.tokens()[30..], [0, 31, 32, 40]);
    assert_eq!((sequence.computed(), sequence.drafts().len()), (33, 0));
    assert_eq!(chunks(&mut scheduler, 100), [(0, 33, 1)]);
    // The block that was filled by accepted drafts can be hit, by what they are only.
    let known = (0..30).chain([0, 31, 32, 40]);
    add(&mut scheduler, 1, known, 0);
    let other = (0..30).chain([0, 33, 32, 40]);
    add(&mut scheduler, 2, other, 0);
    assert_eq!(
        chunks(&mut scheduler, 100)[1..],
        [(1, 32, 2), (2, 16, 18)][..]
    );
}

#[test]
fn no_rejected_draft_is_ever_shared() {
    let mut scheduler = Scheduler::new(64, 8);
    add(&mut scheduler, 0, 0..14, 0);
    let id = SequenceId::new(0, 0);
    chunks(&mut scheduler, 100);
    scheduler.draft(id, &[5, 6, 7]);
    let schedule = scheduler.schedule(100);
    scheduler.computed(&schedule.chunks[0], 0);
    scheduler.append(id, 9);
    // The cache holds [.., 0, 5] in the first block, but the answer goes on otherwise.
    add(&mut scheduler, 1, (0..14).chain([0, 5, 6]), 0);
    let schedule = chunks(&mut scheduler, 100);
    assert_eq!(schedule, [(0, 15, 1), (1, 0, 17)]);
}

#[test]
fn drafts_take_what_is_left_of_budget_blocks_and_answer() {
    let id = |request| SequenceId::new(request, 0);
    let guess = [1; 40];
    let mut scheduler = Scheduler::new(6, 8);
    add(&mut scheduler, 0, 0..12, 0);
    add(&mut scheduler, 1, 100..112, 0);
    chunks(&mut scheduler, 100);
    for (budget, expected) in [
        // First each its token, then the elder's drafts.
        (9, [(12, 8, 7), (12, 1, 0)]),
        (17, [(13, 16, 15), (13, 1, 0)]),
        // 17 rows are the most of one step.
        (100, [(14, 16, 15), (14, 1, 0)]),
    ] {
        scheduler.draft(id(0), &guess);
        scheduler.draft(id(1), &guess);
        let schedule = scheduler.schedule(budget);
        assert_eq!(drafted(&schedule), expected, "{budget}");
        for chunk in &schedule.chunks {
            scheduler.computed(chunk, 0);
            scheduler.append(chunk.id, 0);
        }
        scheduler.check().expect("whole");
    }
    // The elder holds two blocks, the younger one, and one stays free for each of both.
    add(&mut scheduler, 2, 200..210, 0);
    scheduler.draft(id(1), &guess);
    let schedule = scheduler.schedule(100);
    assert_eq!(
        drafted(&schedule),
        [(15, 1, 0), (15, 1, 0), (0, 10, 0)],
        "no block is left for drafts"
    );
    // An answer of three tokens has one of them; a guess at the last would gain nothing.
    let mut scheduler = Scheduler::new(6, 8);
    let root = BlockHash::root("model", &[0; 32]);
    scheduler.add(Sequence::new(id(0), vec![1, 2], root, 3));
    chunks(&mut scheduler, 100);
    scheduler.draft(id(0), &guess);
    assert_eq!(drafted(&scheduler.schedule(100)), [(2, 2, 1)]);
}

#[test]
fn drafts_never_cost_another_its_blocks_and_end_with_preemption() {
    let id = |request| SequenceId::new(request, 0);
    let mut scheduler = Scheduler::new(5, 8);
    add(&mut scheduler, 0, 0..31, 0);
    add(&mut scheduler, 1, 100..115, 0);
    assert_eq!(chunks(&mut scheduler, 100), [(0, 0, 31), (1, 0, 15)]);
    for step in 0..17 {
        scheduler.draft(id(0), &[1; 40]);
        scheduler.draft(id(1), &[1; 40]);
        let schedule = scheduler.schedule(100);
        assert_eq!(schedule.preempted, 0, "{step}");
        assert_eq!(schedule.chunks.len(), 2, "{step}");
        for chunk in &schedule.chunks {
            scheduler.computed(chunk, 0);
            scheduler.append(chunk.id, 0);
        }
    }
    // The elder needs a block: the younger one goes, and with it what was proposed.
    scheduler.draft(id(1), &[1, 2]);
    let schedule = scheduler.schedule(100);
    assert_eq!(
        (schedule.preempted, drafted(&schedule)),
        (1, vec![(48, 1, 0)])
    );
    scheduler.remove(id(0));
    let schedule = scheduler.schedule(100);
    assert_eq!(drafted(&schedule), [(16, 17, 0)]);
    assert!(
        scheduler
            .running(id(1))
            .is_some_and(|s| s.drafts().is_empty())
    );
}

#[test]
fn decoding_goes_on_while_a_long_prompt_is_prefilled() {
    let mut scheduler = Scheduler::new(64, 8);
    add(&mut scheduler, 0, 0..10, 0);
    assert_eq!(chunks(&mut scheduler, 32), [(0, 0, 10)]);
    add(&mut scheduler, 1, 100..170, 0);
    assert_eq!(chunks(&mut scheduler, 32), [(0, 10, 1), (1, 0, 31)]);
    assert_eq!(chunks(&mut scheduler, 32), [(0, 11, 1), (1, 31, 31)]);
    assert_eq!(chunks(&mut scheduler, 32), [(0, 12, 1), (1, 62, 8)]);
    assert_eq!(chunks(&mut scheduler, 32), [(0, 13, 1), (1, 70, 1)]);
}

#[test]
fn a_prefix_is_shared_by_whole_blocks_within_a_tenant_only() {
    let mut scheduler = Scheduler::new(64, 8);
    add(&mut scheduler, 0, 0..40, 0);
    assert_eq!(chunks(&mut scheduler, 100), [(0, 0, 40)]);
    // Two of the three blocks are full. The same prompt computes the rest, another tenant all.
    add(&mut scheduler, 1, 0..40, 0);
    add(&mut scheduler, 2, 0..40, 1);
    assert_eq!(
        chunks(&mut scheduler, 100),
        [(0, 40, 1), (1, 32, 8), (2, 0, 40)]
    );
    // Of a prompt that is cached whole, the last token is computed again, and its block with it.
    add(&mut scheduler, 3, 0..32, 0);
    assert_eq!(chunks(&mut scheduler, 100)[3..], [(3, 16, 16)]);
    // One different token early on: nothing after it is shared.
    add(&mut scheduler, 4, [7].into_iter().chain(1..40), 0);
    assert_eq!(chunks(&mut scheduler, 100)[4..], [(4, 0, 40)]);
}

#[test]
fn the_least_recently_used_prefix_is_lost_first_from_its_tail() {
    let mut scheduler = Scheduler::new(6, 8);
    for (request, tokens) in [(0, 0..48), (1, 100..148)] {
        add(&mut scheduler, request, tokens, 0);
        chunks(&mut scheduler, 100);
        scheduler.remove(SequenceId::new(request, 0));
    }
    // A prompt of two blocks takes the last two of the older prefix.
    add(&mut scheduler, 2, 200..220, 0);
    chunks(&mut scheduler, 100);
    scheduler.remove(SequenceId::new(2, 0));
    add(&mut scheduler, 3, 0..48, 0);
    assert_eq!(chunks(&mut scheduler, 100), [(3, 16, 32)]);
}

#[test]
fn the_youngest_gives_way_and_comes_back() {
    let mut scheduler = Scheduler::new(5, 8);
    add(&mut scheduler, 0, 0..31, 0);
    add(&mut scheduler, 1, 100..115, 0);
    assert_eq!(chunks(&mut scheduler, 100), [(0, 0, 31), (1, 0, 15)]);
    for step in 0..17 {
        let decoded = chunks(&mut scheduler, 100);
        assert_eq!(decoded, [(0, 31 + step, 1), (1, 15 + step, 1)]);
    }
    // Sequence 0 needs its fourth block: there is none, so sequence 1 goes.
    let schedule = scheduler.schedule(100);
    assert_eq!((schedule.preempted, schedule.chunks.len()), (1, 1));
    assert_eq!(schedule.chunks[0].id, SequenceId::new(0, 0));
    scheduler.remove(SequenceId::new(0, 0));
    // Its blocks were not needed by anyone, so it continues where it was, but for one block.
    assert_eq!(chunks(&mut scheduler, 100), [(1, 16, 17)]);
}
