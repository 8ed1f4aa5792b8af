//! With which score a route begins that was calibrated by labelled questions.

use farthing_backend::semantic::bound::{MaxWrong, RouteBound, Sample, Verdict};
use farthing_backend::semantic::calibration::CacheCalibration;
use farthing_backend::semantic::score::{LEVELS, Level};

fn max_wrong() -> MaxWrong {
    MaxWrong::new(0.01).expect("a share")
}

/// A thousand questions; of each level so many cached answers were right and wrong.
fn learned(of: impl Fn(usize) -> (u32, u32)) -> CacheCalibration {
    let mut learned = CacheCalibration::empty();
    for level in Level::all() {
        let (right, wrong) = of(level.index());
        for _ in 0..right {
            learned.count(Some((level, Verdict::Right)));
        }
        for _ in 0..wrong {
            learned.count(Some((level, Verdict::Wrong)));
        }
    }
    while learned.looked_up < 1_000 {
        learned.count(None);
    }
    learned
}

#[test]
fn the_threshold_goes_by_what_was_right() {
    let build = Level::calibrated(max_wrong()).index();
    let threshold = |learned: &CacheCalibration| learned.threshold(max_wrong()).map(Level::index);
    // All are right from far below the build's threshold on.
    let easy = learned(|level| if level >= 10 { (12, 0) } else { (0, 2) });
    assert!(threshold(&easy) < Some(build) && threshold(&easy) >= Some(7));
    // Wrong up to above it.
    let hard = learned(|level| match level {
        _ if level > build + 6 => (30, 0),
        _ => (1, 6),
    });
    assert!(threshold(&hard) > Some(build), "{:?}", threshold(&hard));
    // Wrong everywhere, or hardly anything known.
    assert_eq!(threshold(&learned(|_| (5, 5))), None);
    assert_eq!(
        threshold(&learned(|level| (u32::from(level == 60), 0))),
        None
    );
    let measured = easy.measure(easy.threshold(max_wrong()));
    assert_eq!(measured.wrong, 0);
    assert!(
        measured.served > 500 && measured.wrong_share_max <= 0.01,
        "{measured:?}"
    );
    assert_eq!(easy.measure(None).served, 0);
}

#[test]
fn without_a_proven_score_samples_have_to_prove_one() {
    let mut bound = RouteBound::begun_at(max_wrong(), None);
    assert!(Level::all().all(|level| !bound.serves(level)));
    let level = Level::of_index(LEVELS - 1).expect("a level");
    for _ in 0..298 {
        bound.learn(Sample {
            level,
            verdict: Verdict::Right,
        });
    }
    assert_eq!(bound.threshold(), None, "299 prove a share of 1 %");
    for _ in 0..2 {
        bound.learn(Sample {
            level,
            verdict: Verdict::Right,
        });
    }
    assert!(bound.serves(level));
}

#[test]
fn a_file_is_read_again_or_refused() {
    let learned = learned(|level| (level as u32 % 5, 1));
    let file = learned.encode();
    assert_eq!(CacheCalibration::decode(&file).as_ref(), Ok(&learned));
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 0x10;
        assert!(CacheCalibration::decode(&damaged).is_err(), "byte {at}");
    }
    assert!(CacheCalibration::decode(b"FCC2").is_err());
    let refused = |change: &dyn Fn(&mut CacheCalibration), said: &str| {
        let mut other = learned.clone();
        change(&mut other);
        let error = CacheCalibration::decode(&other.encode()).expect_err("it does not fit");
        assert!(error.contains(said), "{error}");
    };
    refused(
        &|other| other.scoring = "another".to_owned(),
        "other scores",
    );
    refused(&|other| other.right.truncate(3), "other lengths");
    refused(&|other| other.looked_up = 1, "cannot be");
    refused(&|other| other.looked_up = u32::MAX, "cannot be");
}
