//! What was learned of the tiers of one route: a versioned file. It holds no money, so that prices
//! and the worth of a right answer can change without learning anew.

use std::path::Path;

use farthing_core::limits::{
    CASCADE_FILE_BYTES_MAX, CASCADE_ROWS_MIN, CASCADE_TIERS_MAX, CASCADE_TIERS_MIN,
};
use farthing_core::route;
use farthing_core::store::{open, seal};
use serde::{Deserialize, Serialize};

use super::classes::Classes;
use super::head::Head;
use super::isotonic::Isotonic;
use super::judge::Judged;
use super::signals::{FEATURE_NAMES, FEATURES, OUTLOOK};
use crate::error::BackendError;

/// The last character is the version.
const MAGIC: [u8; 4] = *b"FCC2";

/// The calibration of a cascade.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CascadeCalibration {
    /// [`FEATURE_NAMES`] of the build that made it.
    pub features: Vec<String>,
    /// The names of what is read of a prompt.
    pub prompt_features: Vec<String>,
    /// Tokens of an answer after which it is judged for the first time.
    pub early_tokens: usize,
    /// The answers that come often.
    pub classes: Classes,
    /// From cheap to dear.
    pub tiers: Vec<Tier>,
    /// The prompts that it was learned from: numbers only, and nothing that was said.
    pub rows: Vec<Known>,
    pub measured: Measured,
}

/// What is known of one tier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// The id of the model.
    pub model: String,
    /// Of its whole answer: by itself first, then after each cheaper tier.
    pub done: Vec<Head>,
    /// Of the first tokens of its answer.
    pub early: Head,
    /// Of the prompt alone.
    pub prior: Head,
    /// Of each dearer tier, as far as this one's answer tells.
    pub dearer: Vec<Dearer>,
    /// Tokens of an answer, on average.
    pub completion_tokens: f64,
}

/// What an answer says of the one that a dearer tier would give.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dearer {
    /// The probability that it is wrong, by the log-odds of this one being wrong.
    pub by_doubt: Isotonic,
    /// The same, by all that is known of the prompt and of this one.
    pub by_all: Head,
}

/// What is known of one prompt: lists by tier.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    pub right: Vec<bool>,
    pub prompt_tokens: Vec<u32>,
    pub completion_tokens: Vec<u32>,
    /// As [`Tier::done`], by heads that have not seen this prompt; likewise below.
    pub done: Vec<Vec<f32>>,
    pub early: Vec<f32>,
    pub prior: Vec<f32>,
    /// As [`Dearer::by_all`].
    pub dearer: Vec<Vec<f32>>,
}

/// How good it is on its own rows. It changes no decision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    pub rows: u64,
    /// Share of right answers of each tier alone.
    pub accuracy: Vec<f64>,
    /// Mean distance between what the heads say and what is, over 15 equal parts of the scale.
    pub ece: f64,
    /// Who said what is right, where labels did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<Judged>,
}

/// The log-odds of a probability.
pub fn log_odds(p: f64) -> f64 {
    (p / (1.0 - p)).ln()
}

impl Dearer {
    fn is_valid(&self) -> bool {
        self.by_doubt.is_valid() && self.by_all.is_valid(OUTLOOK)
    }
}

impl Tier {
    /// The head for an answer that came after that of the tier `earlier`.
    pub fn done_after(&self, earlier: Option<usize>) -> Option<&Head> {
        self.done.get(earlier.map_or(0, |tier| tier + 1))
    }
}

impl CascadeCalibration {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is none of this version, was made for other features, has too few rows,
    /// or has numbers that cannot be.
    pub fn load(path: &Path) -> Result<CascadeCalibration, BackendError> {
        let failed = |source| BackendError::Io {
            what: path.display().to_string(),
            source,
        };
        let bytes = std::fs::metadata(path).map_err(failed)?.len();
        if bytes > CASCADE_FILE_BYTES_MAX {
            return Err(refused(
                path,
                &format!("is over {CASCADE_FILE_BYTES_MAX} bytes"),
            ));
        }
        let file = std::fs::read(path).map_err(failed)?;
        CascadeCalibration::decode(&file).map_err(|problem| refused(path, &problem))
    }

    /// Reads the bytes of a file; the error says what is wrong with it.
    ///
    /// # Errors
    /// As [`CascadeCalibration::load`].
    pub fn decode(file: &[u8]) -> Result<CascadeCalibration, String> {
        let damaged = || "is no cascade calibration of this version, or is damaged".to_owned();
        let cbor = open(MAGIC, file).ok_or_else(damaged)?;
        let read: CascadeCalibration = ciborium::from_reader(cbor).map_err(|_| damaged())?;
        read.check()?;
        Ok(read)
    }

    /// Writes a file.
    pub fn encode(&self) -> Vec<u8> {
        let mut cbor = Vec::new();
        // Memory does not refuse a write; an empty payload would be refused on reading.
        let _ = ciborium::into_writer(self, &mut cbor);
        seal(MAGIC, &cbor)
    }

    fn check(&self) -> Result<(), String> {
        if self.features != FEATURE_NAMES || self.prompt_features != route::FEATURE_NAMES {
            let problem = "was made for other features; calibrate again with this version";
            return Err(problem.to_owned());
        }
        let tiers = self.tiers.len();
        if !(CASCADE_TIERS_MIN..=CASCADE_TIERS_MAX).contains(&tiers) {
            let allowed = format!("{CASCADE_TIERS_MIN} to {CASCADE_TIERS_MAX}");
            return Err(format!("has {tiers} tiers; {allowed} are allowed"));
        }
        if self.rows.len() < CASCADE_ROWS_MIN {
            let have = self.rows.len();
            return Err(format!("has {have} rows; {CASCADE_ROWS_MIN} are needed"));
        }
        let fits = |(at, tier): (usize, &Tier)| {
            tier.done.len() == at + 1
                && tier.done.iter().all(|head| head.is_valid(FEATURES))
                && tier.early.is_valid(FEATURES)
                && tier.prior.is_valid(route::FEATURES)
                && tier.dearer.len() == tiers - at - 1
                && tier.dearer.iter().all(Dearer::is_valid)
                && (0.0..1e9).contains(&tier.completion_tokens)
        };
        let known = |row: &Known| {
            let lengths = [
                row.right.len(),
                row.prompt_tokens.len(),
                row.completion_tokens.len(),
                row.done.len(),
                row.early.len(),
                row.prior.len(),
                row.dearer.len(),
            ];
            let done = row.done.iter().chain(&row.dearer).flatten();
            let mut all = done.chain(&row.early).chain(&row.prior);
            lengths.iter().all(|length| *length == tiers)
                && row
                    .done
                    .iter()
                    .zip(1..)
                    .all(|(list, length)| list.len() == length)
                && row
                    .dearer
                    .iter()
                    .rev()
                    .enumerate()
                    .all(|(length, list)| list.len() == length)
                && all.all(|p| *p > 0.0 && *p < 1.0)
        };
        if !self.classes.is_valid()
            || !self.tiers.iter().enumerate().all(fits)
            || !self.rows.iter().all(known)
        {
            return Err("has lists of other lengths, or numbers that cannot be".to_owned());
        }
        Ok(())
    }
}

fn refused(path: &Path, problem: &str) -> BackendError {
    BackendError::Cascade(format!("{}: {problem}", path.display()))
}
