//! The bound: it holds for any cache, however wrong its scores are.

use farthing_backend::semantic::bound::{MaxWrong, RouteBound, Sample, Verdict};
use farthing_backend::semantic::score::{LEVELS, Level};

/// How likely an answer of a level is wrong.
type Wrong = fn(usize) -> f64;

/// Requests of one run.
const REQUESTS: u32 = 6_000;

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn share(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn sample(level: Level, wrong: bool) -> Sample {
    let verdict = if wrong {
        Verdict::Wrong
    } else {
        Verdict::Right
    };
    Sample { level, verdict }
}

/// Requests of random scores, of which those of level `l` are wrong with probability
/// `wrong(l)`: the share of requests that were answered wrongly, and how many were served.
fn served_wrong(seed: u64, max_wrong: MaxWrong, wrong: impl Fn(usize) -> f64) -> (f64, u32) {
    let (mut random, mut bound) = (Random(seed), RouteBound::new(max_wrong));
    let (mut served, mut bad) = (0_u32, 0_u32);
    for _ in 0..REQUESTS {
        let index = (random.share() * LEVELS as f64) as usize;
        let level = Level::of_index(index).expect("a level");
        let is_wrong = random.share() < wrong(index);
        bound.looked_up(Some(level));
        let serves = bound.serves(level);
        if serves {
            served += 1;
            bad += u32::from(is_wrong);
        }
        let resampled = random.share() * 1_000.0 < f64::from(bound.resampled_per_mille());
        if !serves || resampled {
            bound.learn(sample(level, is_wrong));
        }
    }
    (f64::from(bad) / f64::from(REQUESTS), served)
}

#[test]
fn no_more_answers_are_wrong_than_was_stated() {
    let max_wrong = MaxWrong::new(0.02).expect("a share");
    let caches: [(&str, Wrong); 3] = [
        ("as calibrated", |level| {
            1.0 / (1.0 + (level as f64 / 4.0 - 4.0).exp())
        }),
        ("worse", |level| {
            1.0 / (1.0 + (level as f64 / 4.0 - 8.0).exp())
        }),
        ("better", |level| if level < 8 { 0.5 } else { 0.0 }),
    ];
    for (name, wrong) in caches {
        let runs = (1..=40).map(|seed| served_wrong(seed, max_wrong, wrong));
        let runs: Vec<(f64, u32)> = runs.collect();
        let broken = runs.iter().filter(|(share, _)| *share > 0.02).count();
        assert!(
            broken <= 4,
            "{name}: broken in {broken} of 40 runs: {runs:?}"
        );
        assert!(
            runs.iter().all(|(_, served)| *served > 100),
            "{name}: {runs:?}"
        );
    }
}

#[test]
fn a_cache_that_is_always_wrong_stops_to_serve() {
    let max_wrong = MaxWrong::new(0.01).expect("a share");
    let mut bound = RouteBound::new(max_wrong);
    for level in Level::all().cycle().take(20 * LEVELS) {
        bound.learn(sample(level, true));
    }
    assert_eq!(bound.threshold(), None);
    assert!(Level::all().all(|level| !bound.serves(level)));
}

#[test]
fn the_threshold_moves_both_ways_and_is_remembered() {
    let max_wrong = MaxWrong::new(0.01).expect("a share");
    let calibrated = Level::calibrated(max_wrong);
    let mut bound = RouteBound::new(max_wrong);
    assert_eq!(bound.threshold(), Some(calibrated));
    assert_eq!(bound.resampled_per_mille(), 1_000, "everything at first");
    bound.learn(sample(calibrated, true));
    assert!(
        bound.threshold() > Some(calibrated),
        "one wrong answer in too few"
    );
    for _ in 0..2_000 {
        bound.learn(sample(calibrated, false));
    }
    let near = Level::of_index(calibrated.index() - 3);
    assert!(
        bound.threshold() >= near,
        "nothing is known of lower scores"
    );
    let lower = Level::of_index(calibrated.index() - 4).expect("a level");
    for _ in 0..100 {
        bound.learn(sample(lower, false));
    }
    assert!(bound.threshold() <= Some(lower));
    assert!(bound.resampled_per_mille() < 100, "few when much is known");
    assert!(bound.bound() <= 0.01);
    let again = RouteBound::new(max_wrong).with_samples(&bound.to_bytes());
    assert_eq!(again.threshold(), bound.threshold());
    let _ = RouteBound::new(max_wrong).with_samples(&[0xff; 10_000]);
}

#[test]
fn a_share_that_is_none_is_refused() {
    for share in [0.0, -0.1, 0.5, 1.0, f64::NAN] {
        assert!(MaxWrong::new(share).is_none(), "{share}");
    }
}
