//! From a score to a probability that never falls as the score rises: isotonic regression by
//! pooling adjacent violators (Ayer et al. 1955), between whose steps lines are drawn.

use serde::{Deserialize, Serialize};

/// A rising map.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Isotonic {
    /// Score and probability, both ascending.
    points: Vec<(f64, f64)>,
}

/// Steps of fewer examples say too little.
const STEP_EXAMPLES_MIN: usize = 8;
/// And no more steps than this, however many examples there are.
const STEPS_MAX: usize = 24;

/// Examples that are pooled.
#[derive(Clone, Copy)]
struct Step {
    scores: f64,
    count: f64,
    events: f64,
}

impl Step {
    fn share(&self) -> f64 {
        self.events / self.count
    }

    fn add(&mut self, other: &Step) {
        self.scores += other.scores;
        self.count += other.count;
        self.events += other.events;
    }
}

impl Isotonic {
    /// Learns the share of events by score. A step is drawn to the share of all as if one more
    /// example had it, so that nothing is held to be impossible that was only never seen.
    pub fn fit(scores: &[f64], events: &[bool]) -> Isotonic {
        let mut examples: Vec<(f64, bool)> =
            scores.iter().copied().zip(events.iter().copied()).collect();
        examples.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let least = STEP_EXAMPLES_MIN.max(examples.len().div_ceil(STEPS_MAX));
        let mut steps: Vec<Step> = Vec::new();
        let mut rest = examples.as_slice();
        while !rest.is_empty() {
            let (some, later) = rest.split_at(step_end(rest, least));
            rest = later;
            let step = Step {
                scores: some.iter().map(|(score, _)| score).sum(),
                count: some.len() as f64,
                events: some.iter().filter(|(_, event)| *event).count() as f64,
            };
            match steps.last_mut() {
                // The rest of a division is not a step of its own.
                Some(last) if some.len() < least => last.add(&step),
                _ => steps.push(step),
            }
            while let [.., before, last] = steps.as_mut_slice()
                && before.share() >= last.share()
            {
                let pooled = *last;
                before.add(&pooled);
                steps.pop();
            }
        }
        let all = examples.iter().filter(|(_, event)| *event).count() as f64;
        let base = all / examples.len().max(1) as f64;
        // A mean of numbers that are nearly the same may be rounded past that of the next step.
        let (mut furthest, mut highest) = (f64::MIN, 0.0_f64);
        let points = steps.iter().map(|step| {
            let smoothed = (step.events + base) / (step.count + 1.0);
            highest = highest.max(smoothed);
            furthest = furthest.max(step.scores / step.count);
            (furthest, highest)
        });
        Isotonic {
            points: points.collect(),
        }
    }

    /// The probability at a score; one half where nothing was learned.
    pub fn at(&self, score: f64) -> f64 {
        let after = self.points.partition_point(|(at, _)| *at <= score);
        let before = after.checked_sub(1).and_then(|at| self.points.get(at));
        match (before, self.points.get(after)) {
            (Some(&(x0, y0)), Some(&(x1, y1))) if x1 > x0 => {
                y0 + (y1 - y0) * (score - x0) / (x1 - x0)
            }
            (Some(&(_, y)), _) | (None, Some(&(_, y))) => y,
            (None, None) => 0.5,
        }
    }

    /// Whether it is one: finite and rising.
    pub fn is_valid(&self) -> bool {
        let finite = |(x, y): &(f64, f64)| x.is_finite() && (0.0..=1.0).contains(y);
        self.points.iter().all(finite) && self.points.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1)
    }
}

/// How many examples the next step has: `least`, and those of the same score as the last of these,
/// which nothing tells apart.
fn step_end(examples: &[(f64, bool)], least: usize) -> usize {
    let after = examples.get(least..).unwrap_or_default();
    let last = examples.get(least.wrapping_sub(1)).map(|(score, _)| *score);
    let same = after.iter().take_while(|(score, _)| Some(*score) == last);
    least.min(examples.len()) + same.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_rises_and_keeps_the_mean(
            examples in prop::collection::vec((-5.0..5.0_f64, any::<bool>()), 1..400),
        ) {
            let (scores, events): (Vec<f64>, Vec<bool>) = examples.into_iter().unzip();
            let map = Isotonic::fit(&scores, &events);
            prop_assert!(map.is_valid(), "{map:?}");
            let values: Vec<f64> = (-60..60).map(|at| map.at(f64::from(at) / 10.0)).collect();
            prop_assert!(values.is_sorted());
        }
    }

    /// A useless model is as surely wrong on every prompt: what a dearer one does then is one share.
    #[test]
    fn equal_scores_are_one_step() {
        for score in [9.210_240_366_976_516, 0.1, -1.0 / 3.0] {
            for count in [9, 60, 300, 1_000] {
                let events: Vec<bool> = (0..count).map(|at| at * at % 7 < 3).collect();
                let map = Isotonic::fit(&vec![score; count], &events);
                assert!(map.is_valid() && map.points.len() == 1, "{map:?}");
                let share = events.iter().filter(|event| **event).count() as f64 / count as f64;
                assert!((map.at(score) - share).abs() < 1e-9, "{map:?}");
            }
        }
    }

    #[test]
    fn a_step_is_found() {
        let scores: Vec<f64> = (0..400).map(|at| f64::from(at) / 400.0).collect();
        // A tenth of the lower half, nine tenths of the upper.
        let events: Vec<bool> = (0..400)
            .map(|at| if at < 200 { at % 10 == 0 } else { at % 10 != 0 })
            .collect();
        let map = Isotonic::fit(&scores, &events);
        assert!((map.at(0.2) - 0.1).abs() < 0.05, "{map:?}");
        assert!((map.at(0.8) - 0.9).abs() < 0.05, "{map:?}");
        assert!((map.at(-9.0) - 0.1).abs() < 0.06 && (map.at(9.0) - 0.9).abs() < 0.06);
    }
}
