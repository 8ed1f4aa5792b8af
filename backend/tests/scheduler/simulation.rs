//! Ten million steps of the simulator.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use super::simulator::{Reached, World};

/// Steps of one world.
const STEPS: usize = 10_000;
/// Steps in all; without optimisation a hundredth, as each takes a hundred times as long.
const TOTAL: usize = if cfg!(debug_assertions) {
    100_000
} else {
    10_000_000
};
/// Steps between two looks at every block.
const CHECK_EVERY: usize = 64;
/// Threads that simulate.
const THREADS: usize = 2;

/// One world, from its seed to its end.
fn simulate(seed: u64) -> Result<Reached, String> {
    let mut world = World::new(seed);
    for step in 0..STEPS {
        world.disturb();
        world.step()?;
        if step % CHECK_EVERY == 0 {
            world.check()?;
        }
    }
    world.drain()?;
    Ok(world.reached)
}

fn add(sum: &mut Reached, run: Reached) {
    let Reached {
        steps,
        arrived,
        finished,
        cancelled,
        preempted,
        cached_tokens,
        accepted,
        exhausted,
        computed,
        again,
    } = run;
    sum.steps += steps;
    sum.arrived += arrived;
    sum.finished += finished;
    sum.cancelled += cancelled;
    sum.preempted += preempted;
    sum.cached_tokens += cached_tokens;
    sum.accepted += accepted;
    sum.exhausted += exhausted;
    sum.computed += computed;
    sum.again += again;
}

/// `FARTHING_SEED` is the first seed; those after it follow.
#[test]
fn every_sequence_ends_and_every_block_returns() {
    let first = std::env::var("FARTHING_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let next = AtomicU64::new(first);
    let run = || {
        let mut sum = Reached::default();
        while sum.steps < TOTAL / THREADS {
            let seed = next.fetch_add(1, Relaxed);
            let reached = simulate(seed);
            add(
                &mut sum,
                reached.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}")),
            );
        }
        sum
    };
    let mut sum = Reached::default();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
        for thread in threads {
            add(&mut sum, thread.join().expect("no seed fails"));
        }
    });
    println!("seeds {first} to {}: {sum:?}", next.load(Relaxed) - 1);
    // Nothing is vacuous: all that can happen did, often.
    let often = sum.steps / 1_000;
    for (what, times) in [
        ("finished", sum.finished),
        ("cancelled", sum.cancelled),
        ("preempted", sum.preempted),
        ("cached tokens", sum.cached_tokens),
        ("accepted drafts", sum.accepted),
        ("steps without a free block", sum.exhausted),
    ] {
        assert!(times > often, "{what}: {times} times in {sum:?}");
    }
}
