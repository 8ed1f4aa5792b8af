//! From rows to a calibration, and how good it is on rows that it has not seen.

use farthing_core::limits::GAIN_QUANTILES;
use farthing_core::route::{FEATURE_NAMES, FEATURES, GainCalibration, Head, Measured, features};

use super::logistic::{self, Prior};
use super::measure::{SEED, next};
use super::quality::{Quality, Scores};
use super::rows::{Row, RowFile};

type Features = [f64; FEATURES];

/// `C = 0.05` in the usual notation.
const PRIOR: Prior = Prior {
    weight: 0.0,
    strength: 20.0,
};

/// Multiple-choice questions, which labelled prompts mostly are, neither ask for work to be done
/// nor for something short. So the weights of these features, per unit, are believed to be these
/// until much data says otherwise; labelled chats may move them.
const BELIEVED: [(&str, f64); 3] = [("reasoning", 0.8), ("code", 0.6), ("simple", -0.6)];
const BELIEVED_STRENGTH: f64 = 2_000.0;

/// A feature that hardly varies is not blown up.
const DEVIATION_MIN: f64 = 0.05;

/// Parts for cross-validation.
pub(super) const FOLDS: usize = 5;

/// Rows with what the router sees of them.
pub(super) struct Examples<'a> {
    rows: Vec<&'a Row>,
    /// Which file each is from.
    files: Vec<usize>,
    file_count: usize,
    features: Vec<Features>,
}

impl<'a> Examples<'a> {
    pub(super) fn new(files: &'a [RowFile]) -> Examples<'a> {
        let with_file = || {
            let files = files.iter().enumerate();
            files.flat_map(|(at, file)| file.rows.iter().map(move |row| (at, row)))
        };
        Examples {
            rows: with_file().map(|(_, row)| row).collect(),
            files: with_file().map(|(at, _)| at).collect(),
            file_count: files.len(),
            features: with_file()
                .map(|(_, row)| features(row.prompt.as_bytes()))
                .collect(),
        }
    }

    /// The calibration of all rows.
    pub(super) fn train(&self) -> GainCalibration {
        let (quality, files_out) = self.measure();
        GainCalibration {
            measured: Measured {
                rows: quality.rows as u64,
                apgr: quality.apgr.map_or(0.5, |(value, _)| value),
                apgr_files_out: files_out.and_then(|quality| Some(quality.apgr?.0)),
                apgr_length: quality.apgr_length.unwrap_or(0.5),
            },
            ..self.train_on(&|_| true)
        }
    }

    /// Scores by a calibration that was made from other rows.
    pub(super) fn by(&self, calibration: &GainCalibration) -> Scores {
        let gains = self.features.iter().map(|row| calibration.gain_of(row));
        let gains: Vec<f64> = gains.collect();
        Scores {
            order: gains.clone(),
            gains,
        }
    }

    /// Every row is scored by a calibration of rows that it is not among: of other folds, and of
    /// other files if there are any.
    fn measure(&self) -> (Quality, Option<Quality>) {
        let mut state = SEED;
        let folds: Vec<usize> = (self.rows.iter())
            .map(|_| (next(&mut state) % FOLDS as u64) as usize)
            .collect();
        let scores = self.score_left_out(FOLDS, &|at| folds[at]);
        let by_value = Scores {
            order: scores.gains.clone(),
            ..scores
        };
        let files_out = (self.file_count > 1).then(|| self.files_out());
        (
            Quality::of(&self.rows, &by_value),
            files_out.map(|scores| Quality::of(&self.rows, &scores)),
        )
    }

    /// Scores by calibrations of the other files. Gains of different calibrations differ by how
    /// often the strong model was better in the files of each; a router goes by the rank.
    pub(super) fn files_out(&self) -> Scores {
        self.score_left_out(self.file_count, &|at| self.files[at])
    }

    fn score_left_out(&self, parts: usize, part_of: &dyn Fn(usize) -> usize) -> Scores {
        let mut scores = Scores {
            order: vec![0.0; self.rows.len()],
            gains: vec![0.0; self.rows.len()],
        };
        for part in 0..parts {
            let calibration = self.train_on(&|at| part_of(at) != part);
            for at in (0..self.rows.len()).filter(|at| part_of(*at) == part) {
                let gain = calibration.gain_of(&self.features[at]);
                scores.gains[at] = gain;
                scores.order[at] = calibration.rank(gain);
            }
        }
        scores
    }

    fn train_on(&self, keep: &dyn Fn(usize) -> bool) -> GainCalibration {
        let kept: Vec<usize> = (0..self.rows.len()).filter(|at| keep(*at)).collect();
        let (means, deviations) = self.standard(&kept);
        let standardised: Vec<Features> = kept
            .iter()
            .map(|at| std::array::from_fn(|i| (self.features[*at][i] - means[i]) / deviations[i]))
            .collect();
        let head = |priors: &[Prior; FEATURES], label: fn(&Row) -> bool| {
            let labels: Vec<bool> = kept.iter().map(|at| label(self.rows[*at])).collect();
            let (bias, weights) = logistic::fit(&standardised, &labels, priors);
            let weights = weights.to_vec();
            Head { bias, weights }
        };
        let mut calibration = GainCalibration {
            features: FEATURE_NAMES.map(str::to_owned).to_vec(),
            better: head(&priors(&deviations), |row| row.strong && !row.weak),
            worse: head(&[PRIOR; FEATURES], |row| row.weak && !row.strong),
            means: means.to_vec(),
            deviations: deviations.to_vec(),
            quantiles: Vec::new(),
            measured: Measured::default(),
        };
        let gain_of = |at: &usize| calibration.gain_of(&self.features[*at]);
        let mut gains: Vec<f64> = kept.iter().map(gain_of).collect();
        gains.sort_by(f64::total_cmp);
        calibration.quantiles = (0..GAIN_QUANTILES)
            .filter_map(|i| gains.get(i * gains.len().saturating_sub(1) / (GAIN_QUANTILES - 1)))
            .copied()
            .collect();
        calibration
    }

    fn standard(&self, kept: &[usize]) -> (Features, Features) {
        let count = kept.len().max(1) as f64;
        let mean_of = |value: &dyn Fn(&Features) -> f64| {
            kept.iter()
                .map(|at| value(&self.features[*at]))
                .sum::<f64>()
                / count
        };
        let means: Features = std::array::from_fn(|i| mean_of(&|row| row[i]));
        let deviations = std::array::from_fn(|i| {
            let variance = mean_of(&|row| (row[i] - means[i]) * (row[i] - means[i]));
            variance.sqrt().max(DEVIATION_MIN)
        });
        (means, deviations)
    }
}

fn priors(deviations: &Features) -> [Prior; FEATURES] {
    std::array::from_fn(|i| {
        let believed = BELIEVED.iter().find(|(name, _)| *name == FEATURE_NAMES[i]);
        believed.map_or(PRIOR, |(_, weight)| Prior {
            weight: weight * deviations[i],
            strength: BELIEVED_STRENGTH,
        })
    })
}
