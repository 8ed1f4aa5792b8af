//! Every operation's checks on the emulator: small shapes, fresh inputs from a printed seed.
//!
//! `FARTHING_SEED` repeats a run; `FARTHING_CHECK` names the operations to check, all without it.

use farthing_cuda_emulator::Emulator;
use farthing_gpu_tests::checks::{Extent, all};
use farthing_gpu_tests::random::Random;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[test]
fn operations_agree_with_their_references() {
    let seed = seed();
    println!("FARTHING_SEED={seed}");
    let chosen = std::env::var("FARTHING_CHECK").unwrap_or_default();
    let chosen: Vec<&str> = chosen.split([' ', ',']).filter(|x| !x.is_empty()).collect();
    let mut device = Emulator::default();
    let mut failures = Vec::new();
    let mut run = Vec::new();
    for (name, check) in all::<Emulator>() {
        if !chosen.is_empty() && !chosen.contains(&name) {
            continue;
        }
        run.push(name);
        let start = Instant::now();
        // Its own numbers, so that it does not matter which others run.
        match check(&mut device, Extent::Small, &mut Random::new(seed)) {
            Ok(outcomes) if outcomes.is_empty() => failures.push(format!("{name}: no outcome")),
            Ok(outcomes) => {
                println!("{name}: {} cases, {:?}", outcomes.len(), start.elapsed());
                let wrong = outcomes.iter().filter(|outcome| !outcome.passed());
                failures.extend(wrong.map(|outcome| {
                    format!(
                        "{} {}: error {:e}, tolerance {:e}",
                        outcome.operation, outcome.case, outcome.error, outcome.tolerance
                    )
                }));
            }
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    for name in &chosen {
        assert!(run.contains(name), "there is no check named {name}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn seed() -> u64 {
    if let Ok(seed) = std::env::var("FARTHING_SEED") {
        return seed.parse().expect("FARTHING_SEED is a number");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock after 1970").as_nanos() as u64
}
