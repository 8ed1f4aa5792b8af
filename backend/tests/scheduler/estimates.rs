//! What the scheduler counts on: step times, lengths of answers, shares of the time.

use std::time::Duration;

use farthing_backend::engine::expected_length::ExpectedLength;
use farthing_backend::engine::fair_share::FairShare;
use farthing_backend::engine::random::SplitMix64;
use farthing_backend::engine::step_time::{StepTime, StepWork};
use farthing_core::limits::PREFILL_TOKENS_MIN;

/// A machine whose steps take 6 ms, 1.8 ms a decoded row and 1.4 ms a prefilled token, times
/// `slowness`, give or take a tenth, and every fiftieth ten times as long.
struct Machine {
    random: SplitMix64,
    slowness: f64,
}

impl Machine {
    fn new(seed: u64) -> Machine {
        println!("seed {seed}");
        Machine {
            random: SplitMix64::new(seed),
            slowness: 1.0,
        }
    }

    fn step(&mut self, work: StepWork) -> Duration {
        let us = 6_000.0 + 1_800.0 * work.decoded as f64 + 1_400.0 * work.prefilled as f64;
        let noise = 0.9 + 0.2 * self.random.unit();
        let hiccup = if self.random.unit() < 0.02 { 10.0 } else { 1.0 };
        Duration::from_secs_f64(us * self.slowness * noise * hiccup / 1e6)
    }

    /// Steps with `decoded` rows, as many tokens of prompts beside as may take `prefill_ms`.
    fn run(&mut self, learned: &mut StepTime, steps: usize, decoded: usize, prefill_ms: u64) {
        for _ in 0..steps {
            let prefilled = match prefill_ms {
                0 => 0,
                ms => learned.prefill_tokens(Duration::from_millis(ms)),
            };
            let work = StepWork { decoded, prefilled };
            learned.observe(work, self.step(work));
        }
    }
}

#[track_caller]
fn check_near(value: f64, expected: f64, tolerance: f64) {
    let far = (value / expected - 1.0).abs();
    assert!(far < tolerance, "{value} is {far} from {expected}");
}

#[test]
fn step_times_are_learned_beside_noise_and_hiccups() {
    for seed in 0..20 {
        let mut machine = Machine::new(seed);
        let mut learned = StepTime::new();
        for _ in 0..40 {
            for decoded in [1, 2, 8] {
                machine.run(&mut learned, 5, decoded, 0);
            }
        }
        for decoded in [1, 4, 8] {
            let ms = learned.decode(decoded).as_secs_f64() * 1e3;
            check_near(ms, 6.0 + 1.8 * decoded as f64, 0.3);
        }
        machine.run(&mut learned, 200, 1, 20);
        let tokens = learned.prefill_tokens(Duration::from_millis(140));
        check_near(tokens as f64, 100.0, 0.4);
        // The machine becomes three times as slow; fifty steps of each kind later that is known.
        machine.slowness = 3.0;
        machine.run(&mut learned, 50, 1, 0);
        machine.run(&mut learned, 50, 1, 20);
        check_near(learned.decode(1).as_secs_f64() * 1e3, 23.4, 0.3);
        let tokens = learned.prefill_tokens(Duration::from_millis(420));
        check_near(tokens as f64, 100.0, 0.4);
    }
}

#[test]
fn nothing_known_and_nonsense_are_survived() {
    let mut learned = StepTime::new();
    assert!(learned.decode(1) > Duration::ZERO);
    let tokens = learned.prefill_tokens(Duration::from_millis(100));
    assert!((PREFILL_TOKENS_MIN..1_000).contains(&tokens));
    assert_eq!(learned.prefill_tokens(Duration::ZERO), PREFILL_TOKENS_MIN);
    let work = |decoded, prefilled| StepWork { decoded, prefilled };
    for elapsed in [Duration::ZERO, Duration::from_secs(3_600), Duration::ZERO] {
        for work in [
            work(0, 0),
            work(1, 0),
            work(0, 1),
            work(1, 1),
            work(9_999, 9_999),
        ] {
            learned.observe(work, elapsed);
            assert!(learned.decode(1) > Duration::ZERO);
            assert!(learned.decode(1) < Duration::from_secs(7_200));
            assert!(learned.prefill_tokens(Duration::ZERO) >= PREFILL_TOKENS_MIN);
        }
    }
}

#[test]
fn before_a_mixed_step_small_chunks_are_taken_to_be_dearer() {
    let mut learned = StepTime::new();
    let work = StepWork {
        decoded: 0,
        prefilled: 100,
    };
    learned.observe(work, Duration::from_millis(100));
    assert_eq!(learned.prefill_tokens(Duration::from_millis(40)), 20);
}

#[test]
fn the_length_of_answers_is_learned_within_bounds() {
    let mut expected = ExpectedLength::new();
    assert_eq!(expected.tokens(100), 70);
    for _ in 0..500 {
        expected.finished(0, 1_000);
    }
    assert!((0.05..0.1).contains(&expected.share()), "{expected:?}");
    for _ in 0..20 {
        expected.preempted();
    }
    assert!((0.9..=1.0).contains(&expected.share()), "{expected:?}");
    for _ in 0..500 {
        expected.finished(300, 1_000);
    }
    assert!((0.29..0.35).contains(&expected.share()), "{expected:?}");
    // Half of them short, half of them long: more than the mean is counted on.
    for _ in 0..500 {
        expected.finished(0, 10);
        expected.finished(10, 10);
    }
    assert!((0.7..0.8).contains(&expected.share()), "{expected:?}");
    expected.finished(50, 0);
    assert!(expected.share() <= 1.0);
}

#[test]
fn time_is_shared_by_weight_whatever_a_step_takes() {
    let step_ms = [8, 45, 20];
    let mut share = FairShare::new([1, 1, 2]);
    let mut had_ms = [0; 3];
    for _ in 0..2_000 {
        let index = share.next(|_| true).expect("all are busy");
        had_ms[index] += step_ms[index];
        share.charge(index, Duration::from_millis(step_ms[index]));
        let per_weight = [had_ms[0], had_ms[1], had_ms[2] / 2];
        let most = per_weight.iter().max().expect("three");
        let least = per_weight.iter().min().expect("three");
        assert!(most - least <= 45, "{had_ms:?}");
    }
}

#[test]
fn the_idle_leave_their_share_and_save_nothing_up() {
    let mut share = FairShare::new([1, 1, 0]);
    assert_eq!(share.next(|_| false), None);
    let mut run = |busy: &[usize], steps: usize| {
        let mut turns = [0; 3];
        for _ in 0..steps {
            let index = share.next(|index| busy.contains(&index)).expect("busy");
            share.charge(index, Duration::from_millis(10));
            turns[index] += 1;
        }
        turns
    };
    assert_eq!(run(&[0], 1_000), [1_000, 0, 0]);
    // Neither does the newcomer make up for what it did not ask for, nor has it lost anything.
    assert_eq!(run(&[0, 1], 100), [50, 50, 0]);
    assert_eq!(run(&[1, 2], 100), [0, 50, 50]);
    assert_eq!(run(&[0, 1, 2], 300), [100, 100, 100]);
    assert_eq!(run(&[2], 10), [0, 0, 10]);
}
