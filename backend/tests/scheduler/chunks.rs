//! Which tokens a step computes.

use farthing_backend::engine::block_pool::BlockHash;
use farthing_backend::engine::scheduler::{Scheduler, StepBudget};
use farthing_backend::engine::sequence::{Sequence, SequenceId};
use farthing_core::price::ServiceTier;

/// Schedules once and returns (request, start, len) of each chunk.
pub fn chunks(scheduler: &mut Scheduler, budget: usize) -> Vec<(u64, usize, usize)> {
    let schedule = scheduler.schedule(StepBudget::new(budget));
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

pub fn add(
    scheduler: &mut Scheduler,
    request: u64,
    prompt: impl IntoIterator<Item = u32>,
    salt: u8,
) {
    add_due(
        scheduler,
        (0, request),
        ServiceTier::Standard,
        prompt.into_iter().collect(),
        salt,
    );
}

/// Adds a sequence that generates 20 tokens at most.
pub fn add_due(
    scheduler: &mut Scheduler,
    (due_ms, request): (u64, u64),
    tier: ServiceTier,
    prompt: Vec<u32>,
    salt: u8,
) {
    let root = BlockHash::root("model", None, &[salt; 32]);
    let id = SequenceId::new(due_ms, request, 0);
    scheduler.add(Sequence::new(id, tier, prompt, root, 20));
}

pub fn id(request: u64) -> SequenceId {
    SequenceId::new(0, request, 0)
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
        scheduler.remove(id(request));
    }
    // A prompt of two blocks takes the last two of the older prefix.
    add(&mut scheduler, 2, 200..220, 0);
    chunks(&mut scheduler, 100);
    scheduler.remove(id(2));
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
    let schedule = scheduler.schedule(StepBudget::new(100));
    assert_eq!((schedule.preempted, schedule.chunks.len()), (1, 1));
    assert_eq!(schedule.chunks[0].id, id(0));
    scheduler.remove(id(0));
    // Its blocks were not needed by anyone, so it continues where it was, but for one block.
    assert_eq!(chunks(&mut scheduler, 100), [(1, 16, 17)]);
}

#[test]
fn prompts_get_no_more_than_their_share_beside_decoding() {
    let mut scheduler = Scheduler::new(64, 8);
    add(&mut scheduler, 0, 0..10, 0);
    chunks(&mut scheduler, 100);
    add(&mut scheduler, 1, 100..130, 0);
    add(&mut scheduler, 2, 200..230, 0);
    let budget = StepBudget {
        tokens: 100,
        prefill_tokens: 40,
    };
    assert_eq!(scheduler.decoding_len(), 1);
    let lens = |scheduler: &mut Scheduler| -> Vec<usize> {
        let schedule = scheduler.schedule(budget);
        for chunk in &schedule.chunks {
            scheduler.computed(chunk, 0);
            if chunk.samples {
                scheduler.append(chunk.id, 0);
            }
        }
        schedule.chunks.iter().map(|chunk| chunk.len).collect()
    };
    assert_eq!(lens(&mut scheduler), [1, 30, 10]);
    assert_eq!(lens(&mut scheduler), [1, 1, 20]);
    assert_eq!(lens(&mut scheduler), [1, 1, 1]);
}

#[test]
fn what_is_computed_twice_is_kept_once() {
    let mut scheduler = Scheduler::new(64, 8);
    // Both come before the other's blocks can be hit.
    add(&mut scheduler, 0, 0..40, 0);
    add(&mut scheduler, 1, 0..40, 0);
    assert_eq!(chunks(&mut scheduler, 100), [(0, 0, 40), (1, 0, 40)]);
    let table = |request| scheduler.running(id(request)).expect("it runs").table();
    assert_eq!(table(0)[..2], table(1)[..2]);
    assert_ne!(
        table(0)[2],
        table(1)[2],
        "a block that is not full is one's own"
    );
    assert_eq!(scheduler.pool().free(), 64 - 4);
    scheduler.check().expect("whole");
}
