//! The stated bound of a route, and the threshold that keeps it: which scores may be answered from
//! the cache so that of all answers of the route at most the stated share is wrong for it, with
//! 95 % confidence.
//!
//! What is known are samples: scores of look-ups of which it turned out whether the cached answer
//! was right, because the model was asked as well. A look-up below the threshold is asked anyway,
//! so that its sample is free; of those above it a share is asked again. So scores near the
//! threshold are sampled more often than they are served. As they are wrong more often than higher
//! ones, counting all samples alike overstates the share of wrong answers, never the reverse.
//!
//! Chance makes some windows of a few hundred requests worse than the whole. As soon as much of
//! what a window may have wrong is known to be wrong in the latest one, only clearly higher scores
//! are served until that has passed.
//!
//! And no score is served that is itself wrong much more often than is allowed on the whole: what
//! is gained by it would be bought too dearly.

use std::collections::VecDeque;

use farthing_core::limits::{
    SEMANTIC_LEVEL_SAMPLES_MIN, SEMANTIC_LEVELS_NEAR, SEMANTIC_LOOK_UPS_MAX, SEMANTIC_LOOK_UPS_MIN,
    SEMANTIC_RESAMPLED_MIN_PER_MILLE, SEMANTIC_RESAMPLED_SLOWDOWN, SEMANTIC_SAMPLES_MAX,
    SEMANTIC_WINDOW,
};

use super::interval;
use super::score::{LEVELS, Level};

/// How sure the stated bound is.
pub const CONFIDENCE: f64 = 0.95;

/// How much more often than the stated share a score may be wrong by itself.
const MARGINAL: f64 = 1.0;

/// The share of a window's wrong answers that makes the route cautious, and by how many levels
/// more: by one unit of log-odds.
const CAUTIOUS_FROM: f64 = 0.4;
const CAUTION_LEVELS: usize = 4;

/// A stated bound: the largest share of a route's answers that may be wrong for the cache.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct MaxWrong(f64);

impl MaxWrong {
    /// A share above 0 and below 1/2.
    pub fn new(share: f64) -> Option<MaxWrong> {
        (share > 0.0 && share < 0.5).then_some(MaxWrong(share))
    }

    pub fn share(self) -> f64 {
        self.0
    }
}

/// One look-up of which the truth is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub level: Level,
    pub verdict: Verdict,
}

/// What became of a cached answer beside the model's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Right,
    Wrong,
}

/// The samples of one route, the latest of them, and its threshold.
#[derive(Debug, Clone)]
pub struct RouteBound {
    max_wrong: MaxWrong,
    /// The threshold of a calibration, if one vouches for any.
    calibrated: Option<Level>,
    samples: VecDeque<Sample>,
    right: [u32; LEVELS],
    wrong: [u32; LEVELS],
    /// Look-ups of late, all and by the score of what they found.
    looked_up: u32,
    found: [u32; LEVELS],
    threshold: Option<Level>,
    /// Look-ups so far, and those whose answers were served and turned out to be wrong, of the
    /// latest window.
    look_ups: u64,
    wrong_of_late: VecDeque<u64>,
}

// === impl RouteBound ===

impl RouteBound {
    /// A route without samples: this build's calibration stands in for them.
    pub fn new(max_wrong: MaxWrong) -> RouteBound {
        RouteBound::begun_at(max_wrong, Some(Level::calibrated(max_wrong)))
    }

    /// The same with another calibration's threshold; without one nothing is served before samples
    /// prove the bound.
    pub fn begun_at(max_wrong: MaxWrong, calibrated: Option<Level>) -> RouteBound {
        RouteBound {
            max_wrong,
            calibrated,
            samples: VecDeque::new(),
            right: [0; LEVELS],
            wrong: [0; LEVELS],
            looked_up: 0,
            found: [0; LEVELS],
            threshold: calibrated,
            look_ups: 0,
            wrong_of_late: VecDeque::new(),
        }
    }

    /// The lowest score that may be answered from the cache; none if no score may.
    pub fn threshold(&self) -> Option<Level> {
        self.threshold
    }

    pub fn serves(&self, level: Level) -> bool {
        let caution = if self.is_cautious() {
            CAUTION_LEVELS
        } else {
            0
        };
        let serves = |threshold: Level| level.index() >= threshold.index() + caution;
        self.threshold.is_some_and(serves)
    }

    /// Whether much of what the latest window may have wrong is known to be wrong.
    fn is_cautious(&self) -> bool {
        let allowed = self.max_wrong.share() * f64::from(SEMANTIC_WINDOW);
        self.wrong_of_late.len() as f64 >= CAUTIOUS_FROM * allowed
    }

    /// Of a thousand answers that are served, how many to ask the model for again: all at first,
    /// fewer with each sample.
    pub fn resampled_per_mille(&self) -> u32 {
        let served = self.threshold.map_or(0, |threshold| {
            let (right, wrong) = self.from(threshold);
            right + wrong
        });
        let slow = SEMANTIC_RESAMPLED_SLOWDOWN.pow(2);
        let per_mille = 1_000 * slow / (slow + served.pow(2));
        u32::try_from(per_mille)
            .unwrap_or(1_000)
            .max(SEMANTIC_RESAMPLED_MIN_PER_MILLE)
    }

    /// Counts a look-up, by the score of what it found if it found anything: how much of the route
    /// a threshold would serve.
    pub fn looked_up(&mut self, level: Option<Level>) {
        self.look_ups += 1;
        let passed = self.look_ups.saturating_sub(u64::from(SEMANTIC_WINDOW));
        while self.wrong_of_late.front().is_some_and(|at| *at <= passed) {
            self.wrong_of_late.pop_front();
        }
        if self.looked_up >= SEMANTIC_LOOK_UPS_MAX {
            self.looked_up /= 2;
            self.found.iter_mut().for_each(|count| *count /= 2);
        }
        self.looked_up += 1;
        if let Some(count) = level.and_then(|level| self.found.get_mut(level.index())) {
            *count += 1;
        }
    }

    /// Learns from a sample and moves the threshold. The oldest sample is forgotten when there are
    /// `SEMANTIC_SAMPLES_MAX`: traffic changes.
    pub fn learn(&mut self, sample: Sample) {
        if sample.verdict == Verdict::Wrong && self.serves(sample.level) {
            self.wrong_of_late.push_back(self.look_ups);
            if self.wrong_of_late.len() > SEMANTIC_WINDOW as usize {
                self.wrong_of_late.pop_front();
            }
        }
        self.remember(sample);
        self.threshold = self.find_threshold();
    }

    fn remember(&mut self, sample: Sample) {
        if self.samples.len() >= SEMANTIC_SAMPLES_MAX
            && let Some(oldest) = self.samples.pop_front()
        {
            let count = self.count(oldest);
            *count = count.saturating_sub(1);
        }
        self.samples.push_back(sample);
        *self.count(sample) += 1;
    }

    /// The upper bound of the share of wrong answers at the present threshold; 0 if nothing is
    /// served.
    pub fn bound(&self) -> f64 {
        self.threshold.map_or(0.0, |threshold| {
            let (wrong, sample) = self.evidence(threshold);
            interval::upper(wrong, sample, CONFIDENCE) * self.served_share(threshold)
        })
    }

    /// How likely an answer that is served is wrong, at most; 1 if nothing is served.
    pub fn risk(&self) -> f64 {
        self.threshold.map_or(1.0, |threshold| {
            let (wrong, sample) = self.evidence(threshold);
            interval::upper(wrong, sample, CONFIDENCE)
        })
    }

    /// The lowest score from which on the bound is proven by counts alone: of questions that were
    /// looked up, and of cached answers that were right and wrong, by their scores.
    pub fn proven(
        max_wrong: MaxWrong,
        looked_up: u32,
        (right, wrong): (&[u32], &[u32]),
    ) -> Option<Level> {
        let mut bound = RouteBound::begun_at(max_wrong, None);
        bound.looked_up = looked_up;
        for level in Level::all() {
            let at = level.index();
            let count = |counts: &[u32]| counts.get(at).copied().unwrap_or(0);
            (bound.right[at], bound.wrong[at]) = (count(right), count(wrong));
            bound.found[at] = count(right) + count(wrong);
        }
        bound.find_threshold()
    }

    /// From the calibrated threshold outward: down while the bound holds, or up until it does.
    fn find_threshold(&self) -> Option<Level> {
        let holds = |level: &Level| {
            let (wrong, sample) = self.evidence(*level);
            let of_served = self.max_wrong.share() / self.served_share(*level);
            interval::proves(wrong, sample, of_served, CONFIDENCE)
        };
        let Some(calibrated) = self.calibrated else {
            return Level::all().find(|level| self.is_worthwhile(*level) && holds(level));
        };
        if holds(&calibrated) {
            let lower = Level::all().rev().filter(|level| *level < calibrated);
            let proven = lower.take_while(|level| self.is_worthwhile(*level) && holds(level));
            return proven.last().or(Some(calibrated));
        }
        Level::all().filter(|level| *level > calibrated).find(holds)
    }

    /// How much of the route a threshold would serve. All of it as long as too little has been
    /// seen, for what is not known must not loosen the bound.
    fn served_share(&self, threshold: Level) -> f64 {
        if self.looked_up < SEMANTIC_LOOK_UPS_MIN {
            return 1.0;
        }
        let served = self.found.iter().skip(threshold.index()).sum::<u32>();
        f64::from(served + 1) / f64::from(self.looked_up + 1)
    }

    /// Wrong answers and samples from this score upward. Until a route has as many samples of its
    /// own as prove the bound, those of the calibration fill up the rest, where it vouches for the
    /// score.
    fn evidence(&self, level: Level) -> (u64, u64) {
        let (right, wrong) = self.from(level);
        let needed = interval::sample_for(self.max_wrong.share(), CONFIDENCE);
        let own = right + wrong;
        let sample = match self.calibrated {
            Some(calibrated) if level >= calibrated => own.max(needed),
            _ => own,
        };
        (wrong, sample)
    }

    /// Whether scores like this one have been seen often enough to judge them by more than by the
    /// higher ones, and were not wrong too often by themselves.
    fn is_worthwhile(&self, level: Level) -> bool {
        let near = |counts: &[u32; LEVELS]| {
            let near = counts.iter().skip(level.index()).take(SEMANTIC_LEVELS_NEAR);
            near.map(|count| u64::from(*count)).sum::<u64>()
        };
        let (right, wrong) = (near(&self.right), near(&self.wrong));
        let sample = right + wrong;
        let allowed = MARGINAL * self.max_wrong.share() * sample as f64;
        sample >= SEMANTIC_LEVEL_SAMPLES_MIN && wrong as f64 <= allowed
    }

    /// Samples from this score upward: right, wrong.
    fn from(&self, level: Level) -> (u64, u64) {
        let sum = |counts: &[u32; LEVELS]| {
            let upward = counts.iter().skip(level.index());
            upward.map(|count| u64::from(*count)).sum::<u64>()
        };
        (sum(&self.right), sum(&self.wrong))
    }

    fn count(&mut self, sample: Sample) -> &mut u32 {
        let counts = match sample.verdict {
            Verdict::Right => &mut self.right,
            Verdict::Wrong => &mut self.wrong,
        };
        // A level is below LEVELS by construction.
        &mut counts[sample.level.index()]
    }

    /// The samples, oldest first, a byte each, to be kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        let byte = |sample: &Sample| {
            let wrong = u8::from(sample.verdict == Verdict::Wrong);
            (sample.level.index() as u8) << 1 | wrong
        };
        self.samples.iter().map(byte).collect()
    }

    /// Learns what [`RouteBound::to_bytes`] kept. What is none of it is left out.
    pub fn with_samples(self, bytes: &[u8]) -> RouteBound {
        let mut bound = self;
        for byte in bytes.iter().take(SEMANTIC_SAMPLES_MAX) {
            if let Some(level) = Level::of_index(usize::from(byte >> 1)) {
                let verdict = if byte & 1 == 1 {
                    Verdict::Wrong
                } else {
                    Verdict::Right
                };
                bound.remember(Sample { level, verdict });
            }
        }
        bound.threshold = bound.find_threshold();
        bound
    }
}
