//! Every check and every timing, one operation after the other. A failure does not end the rest.

use crate::RunError;
use crate::report::Report;
use farthing_gpu_tests::bench;
use farthing_gpu_tests::checks::{self, Extent, Outcome};
use farthing_gpu_tests::random::Random;
use farthing_kernels::cuda::{Card, CudaError, Target};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// The names of what is checked.
pub fn operations() -> Vec<&'static str> {
    let checks = checks::all::<Card>();
    checks.into_iter().map(|(name, _)| name).collect()
}

/// Compares with the references, and says how many were right.
pub fn check(
    card: &mut Card,
    extent: Extent,
    seed: u64,
    only: &[String],
) -> Result<bool, RunError> {
    println!("seed {seed}");
    let mut tally = Tally::default();
    for (name, check) in chosen(checks::all::<Card>(), only)? {
        let started = Instant::now();
        // Its own numbers, so that it does not matter which others run.
        let mut random = Random::new(seed);
        let outcomes = guarded(|| Ok(check(card, extent, &mut random)?));
        match outcomes {
            Ok(outcomes) if outcomes.is_empty() => tally.add(false, name, "no outcome"),
            Ok(outcomes) => outcomes.iter().for_each(|outcome| tally.look(outcome)),
            Err(reason) => tally.add(false, name, &reason),
        }
        println!("{name}: {:.1} s", started.elapsed().as_secs_f64());
    }
    Ok(tally.end())
}

/// Times every operation into the report.
pub fn bench(card: &mut Card, report: &mut Report, only: &[String]) -> Result<bool, RunError> {
    let mut succeeded = true;
    for (name, bench) in chosen(bench::all::<Card>(), only)? {
        let started = Instant::now();
        match guarded(|| Ok(bench(card)?)) {
            Ok(timings) => report.add(&timings),
            Err(reason) => {
                println!("FAILED {name}: {reason}");
                succeeded = false;
            }
        }
        println!("{name}: {:.1} s", started.elapsed().as_secs_f64());
    }
    Ok(succeeded)
}

/// Gives the kernels to NVRTC for every target; `compile` says what came of it.
pub fn compile(compile: fn(Target) -> Result<String, CudaError>) -> bool {
    let mut tally = Tally::default();
    for target in Target::ALL {
        let started = Instant::now();
        let compiled = compile(target);
        let seconds = started.elapsed().as_secs_f64();
        let words = match &compiled {
            Ok(words) => format!("{words} in {seconds:.1} s"),
            Err(error) => error.to_string(),
        };
        tally.add(compiled.is_ok(), target.architecture(), &words);
    }
    tally.end()
}

/// Those that were asked for; all if none were. Some are checked and timed under other names.
fn chosen<T>(
    all: Vec<(&'static str, T)>,
    only: &[String],
) -> Result<Vec<(&'static str, T)>, RunError> {
    let timed = bench::all::<Card>().into_iter().map(|(name, _)| name);
    let known: Vec<&str> = operations().into_iter().chain(timed).collect();
    if let Some(unknown) = only.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(RunError::NoOperation(unknown.clone()));
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
    Ok(all.into_iter().filter(|(name, _)| wanted(name)).collect())
}

/// What `work` answers, or why it failed; a panic is a failure of this operation only.
fn guarded<T>(work: impl FnOnce() -> Result<T, RunError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        // The panic has been printed where it happened.
        Err(_) => Err("panicked".to_string()),
    }
}

/// Counts of a run.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn look(&mut self, outcome: &Outcome) {
        let words = format!(
            "{}: error {:.1e}, at most {:.1e}",
            outcome.case, outcome.error, outcome.tolerance
        );
        self.add(outcome.passed(), outcome.operation, &words);
    }

    fn add(&mut self, passed: bool, name: &str, words: &str) {
        if passed {
            self.passed += 1;
            println!("ok     {name} {words}");
        } else {
            self.failed += 1;
            println!("FAILED {name} {words}");
        }
    }

    /// Prints the counts; whether something was tried and all of it passed.
    fn end(&self) -> bool {
        println!("{} passed, {} failed", self.passed, self.failed);
        self.failed == 0 && self.passed > 0
    }
}

#[cfg(test)]
mod tests {
    use super::{chosen, guarded};
    use crate::RunError;

    #[test]
    fn operations_are_chosen_by_name() {
        let all = || vec![("swiglu", 1), ("sample", 2)];
        let names = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|name| name.to_string()).collect();
            chosen(all(), &only).map(|chosen| chosen.len())
        };
        assert_eq!(names(&[]).ok(), Some(2));
        assert_eq!(names(&["sample"]).ok(), Some(1));
        assert!(
            matches!(names(&["sample", "gem"]), Err(RunError::NoOperation(name)) if name == "gem")
        );
    }

    #[test]
    fn a_panic_is_a_failure() {
        let failed: Result<(), String> = guarded(|| panic!("one operation's"));
        assert_eq!(failed, Err("panicked".to_string()));
        assert_eq!(guarded(|| Ok(3)), Ok(3));
    }
}
