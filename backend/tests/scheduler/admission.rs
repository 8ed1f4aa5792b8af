//! Who is served before whom, who comes in, and who gives way.

use farthing_backend::engine::block_pool::BlockHash;
use farthing_backend::engine::priority::due_ms;
use farthing_backend::engine::random::SplitMix64;
use farthing_backend::engine::scheduler::{Scheduler, StepBudget};
use farthing_backend::engine::sequence::{Sequence, SequenceId};
use farthing_core::price::ServiceTier::{Batch, Flex, Priority, Standard};

use super::chunks::{add, add_due, chunks, id};
use super::simulator::below;

/// A prompt of `len` tokens that no other request has.
fn prompt(request: u64, len: u32) -> Vec<u32> {
    (0..len).map(|at| request as u32 * 1_000 + at).collect()
}

#[test]
fn tiers_and_short_prompts_come_first_but_everyone_ages() {
    let tiers = [Priority, Standard, Flex, Batch];
    let due: Vec<_> = tiers.map(|tier| due_ms(5_000, tier, 100)).into();
    assert!(due.is_sorted_by(|a, b| a < b), "{due:?}");
    assert!(due_ms(5_000, Standard, 10) < due_ms(5_000, Standard, 4_000));
    // Each is due before whatever comes once its patience has ended.
    for tier in tiers {
        let waited = due_ms(0, tier, 8_000);
        let later = 11 * 60_000;
        assert!(waited < due_ms(later, Priority, 1), "{tier:?}");
    }
    assert!(due_ms(u64::MAX, Batch, usize::MAX >> 20) == u64::MAX);
}

#[test]
fn the_queue_is_served_by_when_requests_are_due() {
    let mut scheduler = Scheduler::new(64, 1);
    let arrivals = [
        (0, 0, Standard),
        (1, 0, Batch),
        (2, 0, Flex),
        (3, 1_000, Standard),
        (4, 2_000, Priority),
        (5, 700_000, Priority),
    ];
    for (request, arrived_ms, tier) in arrivals {
        let due_ms = due_ms(arrived_ms, tier, 20);
        add_due(
            &mut scheduler,
            (due_ms, request),
            tier,
            prompt(request, 20),
            0,
        );
    }
    let mut order = Vec::new();
    while !scheduler.is_idle() {
        let schedule = scheduler.schedule(StepBudget::new(100));
        let chunk = schedule.chunks[0];
        order.push(chunk.id.request());
        scheduler.computed(&chunk, 0);
        scheduler.finish(chunk.id, 1);
    }
    // The last waited for less than the batch request's patience was worth.
    assert_eq!(order, [4, 0, 3, 2, 1, 5]);
}

#[test]
fn a_short_prompt_passes_a_long_one_that_is_being_computed() {
    let mut scheduler = Scheduler::new(64, 8);
    add_due(&mut scheduler, (10_600, 0), Standard, prompt(0, 600), 0);
    assert_eq!(chunks(&mut scheduler, 100), [(0, 0, 100)]);
    add_due(&mut scheduler, (10_120, 1), Standard, prompt(1, 20), 0);
    assert_eq!(chunks(&mut scheduler, 100), [(1, 0, 20), (0, 100, 80)]);
    // Whoever comes much later does not.
    add_due(&mut scheduler, (11_000, 2), Standard, prompt(2, 20), 0);
    assert_eq!(chunks(&mut scheduler, 100), [(1, 20, 1), (0, 180, 99)]);
}

#[test]
fn the_last_in_order_gives_way_first() {
    let mut scheduler = Scheduler::new(7, 8);
    add_due(&mut scheduler, (500, 1), Flex, prompt(1, 30), 0);
    add_due(&mut scheduler, (100, 2), Standard, prompt(2, 30), 0);
    assert_eq!(chunks(&mut scheduler, 100), [(2, 0, 30), (1, 0, 30)]);
    // One of tier priority needs two blocks now and more later: the flexible one goes, at once.
    add_due(&mut scheduler, (50, 3), Priority, prompt(3, 30), 0);
    let schedule = scheduler.schedule(StepBudget::new(100));
    assert_eq!(schedule.preempted, 1);
    let served: Vec<_> = schedule
        .chunks
        .iter()
        .map(|chunk| chunk.id.request())
        .collect();
    assert_eq!(served, [2, 3]);
    assert_eq!((scheduler.running_len(), scheduler.waiting_len()), (2, 1));
    scheduler.check().expect("whole");
}

/// A prompt of 20 blocks that two share is free once both have ended: what then comes in may count
/// on it only where both end early.
#[test]
fn a_shared_prefix_is_free_when_its_last_user_ends() {
    for (second_generates, comes_in) in [(16, true), (160, false)] {
        let mut scheduler = Scheduler::new(30, 8);
        let shared = prompt(1, 321);
        for (request, generates) in [(1, 16), (2, second_generates)] {
            let root = BlockHash::root("model", None, &[0; 32]);
            let sequence = Sequence::new(id(request), Standard, shared.clone(), root, generates);
            scheduler.add(sequence);
            chunks(&mut scheduler, 1_000);
        }
        assert_eq!((scheduler.running_len(), scheduler.pool().free()), (2, 8));
        let root = BlockHash::root("model", None, &[1; 32]);
        scheduler.add(Sequence::new(id(3), Standard, prompt(3, 20), root, 160));
        let third = chunks(&mut scheduler, 1_000)
            .iter()
            .any(|chunk| chunk.0 == 3);
        assert_eq!(third, comes_in, "{second_generates}");
        scheduler.check().expect("whole");
    }
}

#[test]
fn nobody_gives_way_to_the_same_tier_or_to_one_due_later() {
    for (due_ms, tier) in [(50, Flex), (50, Batch), (900, Priority)] {
        let mut scheduler = Scheduler::new(4, 8);
        add_due(&mut scheduler, (500, 1), Flex, prompt(1, 40), 0);
        chunks(&mut scheduler, 100);
        add_due(&mut scheduler, (due_ms, 3), tier, prompt(3, 40), 0);
        assert_eq!(
            chunks(&mut scheduler, 100),
            [(1, 40, 1)],
            "{tier:?} {due_ms}"
        );
    }
}

#[test]
fn one_place_is_given_to_whom_it_is_due() {
    let mut scheduler = Scheduler::new(64, 1);
    add_due(&mut scheduler, (500, 1), Flex, prompt(1, 40), 0);
    chunks(&mut scheduler, 100);
    add_due(&mut scheduler, (50, 2), Priority, prompt(2, 40), 0);
    assert_eq!(chunks(&mut scheduler, 100), [(2, 0, 40)]);
    scheduler.finish(SequenceId::new(50, 2, 0), 1);
    // What was computed is still there, but for the block that was not full.
    assert_eq!(chunks(&mut scheduler, 100), [(1, 32, 9)]);
}

/// How many of equal requests run together in a pool of 40 blocks.
fn admitted(scheduler: &mut Scheduler, first: u64) -> usize {
    for request in first..first + 30 {
        let root = BlockHash::root("m", None, &[0; 32]);
        let sequence = Sequence::new(id(request), Standard, prompt(request, 32), root, 160);
        scheduler.add(sequence);
    }
    let admitted = scheduler.schedule(StepBudget::new(4_000)).admitted.len();
    for request in first..first + 30 {
        scheduler.remove(id(request));
    }
    admitted
}

#[test]
fn as_many_come_in_as_answers_are_expected_to_have_room() {
    let mut scheduler = Scheduler::new(40, 30);
    // 32 tokens and 0.7 of 160 are nine blocks.
    assert_eq!(admitted(&mut scheduler, 0), 4);
    let answer = |scheduler: &mut Scheduler, request: u64, generated: usize| {
        add(scheduler, request, [1, 2, 3], 0);
        chunks(scheduler, 100);
        scheduler.finish(id(request), generated);
    };
    // Answers turn out a tenth as long as they may be: three blocks and a half.
    for request in 100..400 {
        answer(&mut scheduler, request, 2);
    }
    assert!((9..=13).contains(&admitted(&mut scheduler, 400)));
    // Then each as long as it may be: twelve blocks.
    for request in 500..900 {
        answer(&mut scheduler, request, 20);
    }
    assert_eq!(admitted(&mut scheduler, 900), 3);
}

#[test]
fn one_alone_comes_in_whatever_is_expected() {
    let mut scheduler = Scheduler::new(4, 8);
    add(&mut scheduler, 0, 0..44, 0);
    add(&mut scheduler, 1, 100..144, 0);
    assert_eq!(chunks(&mut scheduler, 100), [(0, 0, 44)]);
    scheduler.finish(id(0), 1);
    assert_eq!(chunks(&mut scheduler, 100), [(1, 0, 44)]);
}

/// What serving 600 requests in 160 blocks took.
#[derive(Debug, Default)]
struct Served {
    steps: usize,
    computed: usize,
    preempted: usize,
}

/// Requests of which each may generate 400 tokens and most generate 10 to 100; `counted_on` is what
/// the scheduler is told of that. One arrives every other step.
fn serve(seed: u64, counted_on: usize) -> Served {
    const REQUESTS: u64 = 600;
    let mut random = SplitMix64::new(seed);
    let mut draw = |from: usize, to: usize| from + below(&mut random, to - from);
    let lengths: Vec<_> = (0..REQUESTS)
        .map(|request| {
            let generated = if request % 8 == 0 {
                draw(100, 400)
            } else {
                draw(10, 100)
            };
            (draw(20, 200) as u32, generated)
        })
        .collect();
    let mut scheduler = Scheduler::new(160, 64);
    let (mut served, mut arrived, mut finished) = (Served::default(), 0, 0);
    while finished < REQUESTS {
        if served.steps % 2 == 0 && arrived < REQUESTS {
            let root = BlockHash::root("m", None, &[0; 32]);
            let prompt = prompt(arrived, lengths[arrived as usize].0);
            scheduler.add(Sequence::new(
                id(arrived),
                Standard,
                prompt,
                root,
                counted_on,
            ));
            arrived += 1;
        }
        let schedule = scheduler.schedule(StepBudget::new(256));
        served.steps += 1;
        served.preempted += schedule.preempted;
        for chunk in &schedule.chunks {
            served.computed += chunk.len;
            scheduler.computed(chunk, 0);
            let Some(sequence) = scheduler.running(chunk.id).filter(|_| chunk.samples) else {
                continue;
            };
            let generated = sequence.tokens().len() + 1 - sequence.prompt_len();
            if generated == lengths[chunk.id.request() as usize].1 {
                scheduler.finish(chunk.id, generated);
                finished += 1;
            } else {
                scheduler.append(chunk.id, 0);
            }
        }
    }
    served
}

/// A scheduler that counts on nothing beyond what is there preempts all the time.
#[test]
fn counting_on_the_usual_length_makes_preemptions_rare() {
    for seed in 0..3 {
        let (blind, learned) = (serve(seed, 1), serve(seed, 400));
        println!("seed {seed}: blind {blind:?}, learned {learned:?}");
        assert!(learned.preempted * 5 < blind.preempted);
        assert!(learned.computed < blind.computed);
        assert!(learned.steps * 4 < blind.steps * 5);
    }
}
