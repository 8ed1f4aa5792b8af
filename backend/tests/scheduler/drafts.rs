//! Tokens that are proposed and verified: they may gain steps, but never cost another anything.

use farthing_backend::engine::block_pool::BlockHash;
use farthing_backend::engine::scheduler::{Chunk, Schedule, Scheduler, StepBudget};
use farthing_backend::engine::sequence::Sequence;
use farthing_core::price::ServiceTier;

use super::chunks::{add, chunks, id};

/// The (start, len, drafts) of each chunk that would be computed, without computing any.
fn drafted(schedule: &Schedule) -> Vec<(usize, usize, usize)> {
    let chunk = |chunk: &Chunk| (chunk.start, chunk.len, chunk.drafts);
    schedule.chunks.iter().map(chunk).collect()
}

#[test]
fn right_drafts_become_tokens_and_wrong_ones_are_written_over() {
    let mut scheduler = Scheduler::new(64, 8);
    add(&mut scheduler, 0, 0..30, 0);
    let id = id(0);
    // A prompt that is not computed has no next token to guess.
    scheduler.draft(id, &[1, 2]);
    assert_eq!(chunks(&mut scheduler, 100), [(0, 0, 30)]);
    scheduler.draft(id, &[8, 9]);
    scheduler.draft(id, &[31, 32, 33]);
    let schedule = scheduler.schedule(StepBudget::new(100));
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
    let id = id(0);
    chunks(&mut scheduler, 100);
    scheduler.draft(id, &[5, 6, 7]);
    let schedule = scheduler.schedule(StepBudget::new(100));
    scheduler.computed(&schedule.chunks[0], 0);
    scheduler.append(id, 9);
    // The cache holds [.., 0, 5] in the first block, but the answer goes on otherwise.
    add(&mut scheduler, 1, (0..14).chain([0, 5, 6]), 0);
    let schedule = chunks(&mut scheduler, 100);
    assert_eq!(schedule, [(0, 15, 1), (1, 0, 17)]);
}

#[test]
fn drafts_take_what_is_left_of_budget_blocks_and_answer() {
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
        let schedule = scheduler.schedule(StepBudget::new(budget));
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
    let schedule = scheduler.schedule(StepBudget::new(100));
    assert_eq!(
        drafted(&schedule),
        [(15, 1, 0), (15, 1, 0), (0, 10, 0)],
        "no block is left for drafts"
    );
    // An answer of three tokens has one of them; a guess at the last would gain nothing.
    let mut scheduler = Scheduler::new(6, 8);
    let root = BlockHash::root("model", None, &[0; 32]);
    scheduler.add(Sequence::new(
        id(0),
        ServiceTier::Standard,
        vec![1, 2],
        root,
        3,
    ));
    chunks(&mut scheduler, 100);
    scheduler.draft(id(0), &guess);
    assert_eq!(
        drafted(&scheduler.schedule(StepBudget::new(100))),
        [(2, 2, 1)]
    );
}

#[test]
fn drafts_never_cost_another_its_blocks_and_end_with_preemption() {
    let mut scheduler = Scheduler::new(5, 8);
    add(&mut scheduler, 0, 0..31, 0);
    add(&mut scheduler, 1, 100..115, 0);
    assert_eq!(chunks(&mut scheduler, 100), [(0, 0, 31), (1, 0, 15)]);
    for step in 0..17 {
        scheduler.draft(id(0), &[1; 40]);
        scheduler.draft(id(1), &[1; 40]);
        let schedule = scheduler.schedule(StepBudget::new(100));
        assert_eq!(schedule.preempted, 0, "{step}");
        assert_eq!(schedule.chunks.len(), 2, "{step}");
        for chunk in &schedule.chunks {
            scheduler.computed(chunk, 0);
            scheduler.append(chunk.id, 0);
        }
    }
    // The elder needs a block: the younger one goes, and with it what was proposed.
    scheduler.draft(id(1), &[1, 2]);
    let schedule = scheduler.schedule(StepBudget::new(100));
    assert_eq!(
        (schedule.preempted, drafted(&schedule)),
        (1, vec![(48, 1, 0)])
    );
    scheduler.remove(id(0));
    let schedule = scheduler.schedule(StepBudget::new(100));
    assert_eq!(drafted(&schedule), [(16, 17, 0)]);
    assert!(
        scheduler
            .running(id(1))
            .is_some_and(|s| s.drafts().is_empty())
    );
}
