//! Clients that leave at every step index, before a step and while it is computed.

use farthing_backend::engine::block_pool::BlockHash;
use farthing_backend::engine::scheduler::{Scheduler, StepBudget};
use farthing_backend::engine::sequence::{Sequence, SequenceId};
use farthing_core::price::ServiceTier;

use super::chunks::id;

/// Blocks: too few for all three, so that one is preempted on the way.
const BLOCKS: usize = 9;
const REQUESTS: u64 = 3;
const GENERATES: usize = 40;

/// When the client leaves within a step.
#[derive(Debug, Clone, Copy)]
enum When {
    Before,
    Computing,
}

/// What became of a run.
struct Ran {
    steps: usize,
    preempted: usize,
    /// The sequences that ended, with the tokens that each generated.
    ended: Vec<(u64, usize)>,
}

/// Runs three requests of which one is given up in step `leaves_at`.
fn run(leaver: SequenceId, leaves_at: usize, when: When) -> Ran {
    let mut scheduler = Scheduler::new(BLOCKS, 8);
    for request in 0..REQUESTS {
        let prompt = (0..30).map(|at| request as u32 * 100 + at).collect();
        let root = BlockHash::root("model", None, &[0; 32]);
        let tier = ServiceTier::Standard;
        scheduler.add(Sequence::new(id(request), tier, prompt, root, GENERATES));
    }
    let mut ended = Vec::new();
    let (mut steps, mut preempted) = (0, 0);
    while !scheduler.is_idle() {
        if steps == leaves_at && matches!(when, When::Before) {
            scheduler.remove(leaver);
        }
        scheduler.draft(id(steps as u64 % REQUESTS), &[7, 0, 7]);
        let schedule = scheduler.schedule(StepBudget::new(12));
        preempted += schedule.preempted;
        if steps == leaves_at && matches!(when, When::Computing) {
            scheduler.remove(leaver);
        }
        for chunk in &schedule.chunks {
            scheduler.computed(chunk, chunk.drafts.min(1));
            let Some(sequence) = scheduler.running(chunk.id) else {
                assert_eq!(chunk.id, leaver);
                continue;
            };
            if !chunk.samples {
                continue;
            }
            let generated = sequence.tokens().len() + 1 - sequence.prompt_len();
            if generated >= GENERATES {
                scheduler.finish(chunk.id, generated);
                ended.push((chunk.id.request(), generated));
            } else {
                scheduler.append(chunk.id, 0);
            }
        }
        scheduler.check().expect("whole after every step");
        steps += 1;
        assert!(steps < 1_000, "it does not end");
    }
    assert_eq!(scheduler.pool().free(), BLOCKS);
    ended.sort();
    Ran {
        steps,
        preempted,
        ended,
    }
}

#[test]
fn a_client_may_leave_at_every_step() {
    let whole = run(id(0), usize::MAX, When::Before);
    assert!(whole.preempted > 0, "nobody was preempted");
    let steps = whole.steps;
    assert_eq!(
        whole.ended,
        [(0, GENERATES), (1, GENERATES), (2, GENERATES)]
    );
    assert!(steps > 60, "{steps}");
    for leaver in 0..REQUESTS {
        for leaves_at in 0..steps {
            for when in [When::Before, When::Computing] {
                let mut ended = run(id(leaver), leaves_at, when).ended;
                let others = (0..REQUESTS).filter(|&other| other != leaver);
                let others: Vec<_> = others.map(|other| (other, GENERATES)).collect();
                // One that had ended before is not there to leave.
                ended.retain(|&(request, _)| request != leaver);
                assert_eq!(ended, others, "{leaver} leaves at {leaves_at} {when:?}");
            }
        }
    }
}
