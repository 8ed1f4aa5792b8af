//! The probability that an answer is wrong, from its features: logistic regression, then an
//! isotonic map. Every example's own probability comes from heads that have not seen it, so that
//! what is decided by these is no better than it will be.

use serde::{Deserialize, Serialize};

use super::isotonic::Isotonic;
use crate::calibrate::logistic::{self, Prior};

/// One learned judgement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    means: Vec<f64>,
    deviations: Vec<f64>,
    weights: Vec<f64>,
    bias: f64,
    map: Isotonic,
}

/// Parts for cross-validation.
const FOLDS: usize = 5;
/// Strengths of the penalty of which the best is taken.
const STRENGTHS: [f64; 4] = [2.0, 8.0, 32.0, 128.0];
/// A feature that hardly varies is not blown up.
const DEVIATION_MIN: f64 = 1e-3;
/// Nothing is certain.
const PROBABILITY_MIN: f64 = 1e-4;

/// The part of a head before the map.
struct Line<const N: usize> {
    means: [f64; N],
    deviations: [f64; N],
    weights: [f64; N],
    bias: f64,
}

impl Head {
    /// The probability that an answer with these features is wrong.
    pub fn p_wrong(&self, features: &[f64]) -> f64 {
        let scaled = features.iter().zip(&self.means).zip(&self.deviations);
        let terms = scaled
            .zip(&self.weights)
            .map(|(((x, mean), deviation), weight)| weight * (x - mean) / deviation);
        bounded(self.map.at(self.bias + terms.sum::<f64>()))
    }

    /// Whether all numbers of it can be used, for so many features.
    pub fn is_valid(&self, features: usize) -> bool {
        let lists = [&self.means, &self.deviations, &self.weights];
        lists.iter().all(|list| list.len() == features)
            && lists.iter().all(|list| list.iter().all(|x| x.is_finite()))
            && self.deviations.iter().all(|deviation| *deviation > 0.0)
            && self.bias.is_finite()
            && self.map.is_valid()
    }
}

/// Learns a head, and gives each example the probability that heads without it have for it.
pub fn fit<const N: usize>(rows: &[[f64; N]], wrong: &[bool]) -> (Head, Vec<f64>) {
    let by_strength = STRENGTHS.map(|strength| {
        let scores = left_out(rows, wrong, strength);
        (log_loss(&scores, wrong), strength, scores)
    });
    let best = by_strength
        .into_iter()
        .min_by(|(a, ..), (b, ..)| a.total_cmp(b));
    // There are strengths, so there is a best one.
    let (_, strength, scores) = best.unwrap_or((0.0, STRENGTHS[0], vec![0.0; rows.len()]));
    let line = line(rows, wrong, &|_| true, strength);
    let own = |at: usize| {
        let others = |other: &usize| other % FOLDS != at % FOLDS;
        let kept: Vec<usize> = (0..rows.len()).filter(others).collect();
        let (scores, wrong): (Vec<f64>, Vec<bool>) =
            kept.iter().map(|at| (scores[*at], wrong[*at])).unzip();
        Isotonic::fit(&scores, &wrong)
    };
    let maps: Vec<Isotonic> = (0..FOLDS.min(rows.len())).map(own).collect();
    let probabilities = scores
        .iter()
        .enumerate()
        .map(|(at, score)| bounded(maps[at % FOLDS].at(*score)));
    let head = Head {
        means: line.means.to_vec(),
        deviations: line.deviations.to_vec(),
        weights: line.weights.to_vec(),
        bias: line.bias,
        map: Isotonic::fit(&scores, wrong),
    };
    (head, probabilities.collect())
}

fn bounded(probability: f64) -> f64 {
    probability.clamp(PROBABILITY_MIN, 1.0 - PROBABILITY_MIN)
}

/// The log-odds that lines of the other parts have for each example.
fn left_out<const N: usize>(rows: &[[f64; N]], wrong: &[bool], strength: f64) -> Vec<f64> {
    let mut scores = vec![0.0; rows.len()];
    for fold in 0..FOLDS {
        let line = line(rows, wrong, &|at| at % FOLDS != fold, strength);
        for (at, score) in scores.iter_mut().enumerate().skip(fold).step_by(FOLDS) {
            *score = line.at(&rows[at]);
        }
    }
    scores
}

fn log_loss(scores: &[f64], wrong: &[bool]) -> f64 {
    let losses = scores.iter().zip(wrong).map(|(score, wrong)| {
        let signed = if *wrong { -score } else { *score };
        // ln(1 + e^x), without overflow.
        signed.max(0.0) + (-signed.abs()).exp().ln_1p()
    });
    losses.sum::<f64>() / scores.len().max(1) as f64
}

fn line<const N: usize>(
    rows: &[[f64; N]],
    wrong: &[bool],
    keep: &dyn Fn(usize) -> bool,
    strength: f64,
) -> Line<N> {
    let kept: Vec<usize> = (0..rows.len()).filter(|at| keep(*at)).collect();
    let count = kept.len().max(1) as f64;
    let mean =
        |of: &dyn Fn(&[f64; N]) -> f64| kept.iter().map(|at| of(&rows[*at])).sum::<f64>() / count;
    let means: [f64; N] = std::array::from_fn(|i| mean(&|row| row[i]));
    let deviations: [f64; N] = std::array::from_fn(|i| {
        let variance = mean(&|row| (row[i] - means[i]).powi(2));
        variance.sqrt().max(DEVIATION_MIN)
    });
    let scaled: Vec<[f64; N]> = kept
        .iter()
        .map(|at| std::array::from_fn(|i| (rows[*at][i] - means[i]) / deviations[i]))
        .collect();
    let labels: Vec<bool> = kept.iter().map(|at| wrong[*at]).collect();
    let prior = Prior {
        weight: 0.0,
        strength,
    };
    let (bias, weights) = logistic::fit(&scaled, &labels, &[prior; N]);
    Line {
        means,
        deviations,
        weights,
        bias,
    }
}

impl<const N: usize> Line<N> {
    fn at(&self, row: &[f64; N]) -> f64 {
        let terms = (0..N).map(|i| self.weights[i] * (row[i] - self.means[i]) / self.deviations[i]);
        self.bias + terms.sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Examples that are wrong the more often the smaller their first feature is.
    fn examples(count: usize) -> (Vec<[f64; 2]>, Vec<bool>) {
        let mut state = 7_u64;
        let mut unit = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as f64 / f64::from(1_u32 << 31)
        };
        let rows = (0..count).map(|_| {
            let (x, noise, luck) = (unit(), unit(), unit());
            ([x, noise], luck > x)
        });
        rows.unzip()
    }

    #[test]
    fn probabilities_mean_what_they_say() {
        let (rows, wrong) = examples(2_000);
        let (head, own) = fit(&rows, &wrong);
        assert!(head.is_valid(2) && !head.is_valid(3));
        for (x, expected) in [(0.1, 0.9), (0.5, 0.5), (0.9, 0.1)] {
            let p = head.p_wrong(&[x, 0.5]);
            assert!((p - expected).abs() < 0.1, "{p} at {x}");
        }
        let mean = own.iter().sum::<f64>() / own.len() as f64;
        let share = wrong.iter().filter(|wrong| **wrong).count() as f64 / 2_000.0;
        assert!((mean - share).abs() < 0.02, "{mean} {share}");
    }

    #[test]
    fn what_never_differs_is_learned_too() {
        let (rows, _) = examples(60);
        for label in [false, true] {
            let (head, own) = fit(&rows, &[label; 60]);
            let sure = |p: f64| if label { p > 0.99 } else { p < 0.01 };
            assert!(sure(head.p_wrong(&[0.5, 0.5])) && own.into_iter().all(sure));
        }
    }
}
