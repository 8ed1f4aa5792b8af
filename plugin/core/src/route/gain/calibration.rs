//! What was learned from prompts that both a weak and a strong model have answered: a versioned
//! file, of which one is part of this build and another may come with the configuration.

use serde::{Deserialize, Serialize};

use super::exp::logistic;
use super::features::{FEATURE_NAMES, FEATURES};
use crate::limits::GAIN_QUANTILES;
use crate::store;

/// The last character is the version.
const MAGIC: [u8; 4] = *b"FGC1";

/// Trained by `farthing calibrate router` on the answers of Mixtral-8x7B-Instruct and gpt-4-1106 to
/// MMLU (MIT), from RouteLLM (<https://github.com/lm-sys/RouteLLM>, Apache-2.0).
const EMBEDDED: &[u8] = include_bytes!("default.cbor");

/// The model of the gain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GainCalibration {
    /// [`FEATURE_NAMES`] of the build that made it.
    pub features: Vec<String>,
    /// What a feature is reduced by and then divided by.
    pub means: Vec<f64>,
    pub deviations: Vec<f64>,
    /// Of the strong model being right where the weak one is wrong.
    pub better: Head,
    /// Of the weak model being right where the strong one is wrong.
    pub worse: Head,
    /// Gains that equal parts of the calibration's prompts do not reach, ascending: the first is
    /// the least, the last the greatest.
    pub quantiles: Vec<f64>,
    pub measured: Measured,
}

/// One logistic regression over the standardised features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub bias: f64,
    pub weights: Vec<f64>,
}

/// How good it was on its own data. It changes no decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    pub rows: u64,
    /// Area under the recovered share of the gap between the models, over the share of prompts that
    /// go to the strong one; 0.5 is chance. By cross-validation.
    pub apgr: f64,
    /// The same where whole files were left out; none with one file.
    pub apgr_files_out: Option<f64>,
    /// The same by the length of the prompt alone.
    pub apgr_length: f64,
}

/// A calibration that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GainCalibrationError {
    #[error("is no calibration of this version, or is damaged")]
    Damaged,
    #[error("was made for other features; calibrate again with this version's `farthing`")]
    Features,
    #[error("has a number that is not finite, or a deviation that is not above 0")]
    Numbers,
    #[error("must have {GAIN_QUANTILES} quantiles in ascending order")]
    Quantiles,
}

impl GainCalibration {
    /// The one of this build.
    pub fn embedded() -> Result<GainCalibration, GainCalibrationError> {
        GainCalibration::decode(EMBEDDED)
    }

    /// Reads a file.
    pub fn decode(file: &[u8]) -> Result<GainCalibration, GainCalibrationError> {
        let cbor = store::open(MAGIC, file).ok_or(GainCalibrationError::Damaged)?;
        let read: GainCalibration =
            ciborium::from_reader(cbor).map_err(|_| GainCalibrationError::Damaged)?;
        read.check()?;
        Ok(read)
    }

    /// Writes a file.
    pub fn encode(&self) -> Vec<u8> {
        let mut cbor = Vec::new();
        // Memory does not refuse a write; an empty payload would be refused on reading.
        let _ = ciborium::into_writer(self, &mut cbor);
        store::seal(MAGIC, &cbor)
    }

    fn check(&self) -> Result<(), GainCalibrationError> {
        let lists = [
            &self.means,
            &self.deviations,
            &self.better.weights,
            &self.worse.weights,
        ];
        if self.features != FEATURE_NAMES || lists.iter().any(|list| list.len() != FEATURES) {
            return Err(GainCalibrationError::Features);
        }
        let finite = lists
            .iter()
            .flat_map(|list| list.iter())
            .chain([&self.better.bias, &self.worse.bias])
            .all(|number| number.is_finite());
        if !finite || self.deviations.iter().any(|deviation| *deviation <= 0.0) {
            return Err(GainCalibrationError::Numbers);
        }
        let ascending = self.quantiles.is_sorted() && self.quantiles.iter().all(|q| q.is_finite());
        if self.quantiles.len() != GAIN_QUANTILES || !ascending {
            return Err(GainCalibrationError::Quantiles);
        }
        Ok(())
    }

    /// How much more often the strong model is right for a text with these features, from -1 to 1.
    pub fn gain_of(&self, text: &[f64; FEATURES]) -> f64 {
        self.gain(text, &[0.0; FEATURES])
    }

    /// The same for a text under a system text. `system` frames every request
    /// of an application alike, so its features weigh less.
    pub(super) fn gain(&self, question: &[f64; FEATURES], system: &[f64; FEATURES]) -> f64 {
        let logit = |head: &Head| {
            let terms = (head.weights.iter().zip(&self.means).zip(&self.deviations))
                .zip(question.iter().zip(system));
            terms.fold(
                head.bias,
                |sum, (((weight, mean), deviation), (asked, framed))| {
                    let value = asked + SYSTEM_WEIGHT * framed - mean;
                    sum + weight * (value / deviation)
                },
            )
        };
        logistic(logit(&self.better)) - logistic(logit(&self.worse))
    }

    /// The share of the calibration's prompts that gain less, from 0 up to but without 1.
    pub fn rank(&self, gain: f64) -> f64 {
        let below = self.quantiles.partition_point(|quantile| *quantile < gain);
        let steps = self.quantiles.len().saturating_sub(1).max(1) as f64;
        let edges = (below.checked_sub(1).and_then(|at| self.quantiles.get(at)))
            .zip(self.quantiles.get(below));
        let rank = match edges {
            Some((low, high)) => (below as f64 - 1.0 + (gain - low) / (high - low)) / steps,
            None if below == 0 => 0.0,
            None => RANK_MAX,
        };
        rank.min(RANK_MAX)
    }
}

const SYSTEM_WEIGHT: f64 = 0.25;

/// Nothing is certain to gain most: a share of 0 for the dearest model means never.
const RANK_MAX: f64 = 0.999_999;

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(change: impl FnOnce(&mut GainCalibration)) -> Result<(), GainCalibrationError> {
        let mut calibration = GainCalibration::embedded().unwrap_or_else(|error| {
            unreachable!("the calibration of this build {error}");
        });
        change(&mut calibration);
        GainCalibration::decode(&calibration.encode()).map(drop)
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        assert_eq!(changed(|_| {}), Ok(()));
        let features = Err(GainCalibrationError::Features);
        assert_eq!(changed(|it| it.features.reverse()), features);
        assert_eq!(changed(|it| drop(it.features.pop())), features);
        assert_eq!(changed(|it| it.better.weights.push(1.0)), features);
        let numbers = Err(GainCalibrationError::Numbers);
        assert_eq!(changed(|it| it.worse.bias = f64::NAN), numbers);
        assert_eq!(changed(|it| it.means.fill(f64::INFINITY)), numbers);
        assert_eq!(changed(|it| it.deviations.fill(0.0)), numbers);
        let quantiles = Err(GainCalibrationError::Quantiles);
        assert_eq!(changed(|it| it.quantiles.reverse()), quantiles);
        assert_eq!(changed(|it| it.quantiles.clear()), quantiles);
        let mut damaged = EMBEDDED.to_vec();
        damaged.truncate(EMBEDDED.len() - 1);
        let other_version = [b"FGC2", EMBEDDED.get(4..).unwrap_or_default()].concat();
        for file in [damaged, other_version, Vec::new()] {
            let refused = GainCalibration::decode(&file).map(drop);
            assert_eq!(refused, Err(GainCalibrationError::Damaged));
        }
    }

    #[test]
    fn ranks_ascend_with_the_gain() {
        let Ok(calibration) = GainCalibration::embedded() else {
            unreachable!("the calibration of this build");
        };
        let gains = (-100..=100).map(|percent| f64::from(percent) / 100.0);
        let ranks: Vec<f64> = gains.map(|gain| calibration.rank(gain)).collect();
        assert!(ranks.is_sorted());
        assert_eq!((ranks.first(), ranks.last()), (Some(&0.0), Some(&RANK_MAX)));
        // Prompts without any sign are many, and all of them have the rank of the first.
        let quantiles = calibration.quantiles.iter().enumerate();
        assert!(quantiles.rev().all(|(at, gain)| {
            calibration.rank(*gain) <= at as f64 / (GAIN_QUANTILES - 1) as f64
        }));
    }
}
