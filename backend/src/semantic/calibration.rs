//! What a route of the semantic cache begins with: a threshold, from this build's own calibration
//! or from one that was learned from labelled questions of the same kind as will be asked, a
//! versioned file.

use std::path::Path;

use farthing_core::limits::{CASCADE_FILE_BYTES_MAX, SEMANTIC_EVAL_ROWS_MAX};
use farthing_core::store::{open, seal};
use serde::{Deserialize, Serialize};

use super::bound::{CONFIDENCE, MaxWrong, RouteBound, Verdict};
use super::interval;
use super::score::{LEVELS, Level, SCORING};
use crate::error::BackendError;

/// The last character is the version.
const MAGIC: [u8; 4] = *b"FSC1";

/// How often the best cached answer was right, by its score. Numbers only, and nothing that was
/// asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheCalibration {
    /// [`SCORING`] of the build that made it.
    pub scoring: String,
    /// Questions that were looked up.
    pub looked_up: u32,
    /// Of each level.
    pub right: Vec<u32>,
    pub wrong: Vec<u32>,
}

/// What a threshold does on the questions of a calibration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    pub looked_up: u64,
    pub served: u64,
    pub wrong: u64,
    /// The share of all answers that are wrong for it, at most, with 95 % confidence.
    pub wrong_share_max: f64,
}

impl CacheCalibration {
    /// One without questions.
    pub fn empty() -> CacheCalibration {
        CacheCalibration {
            scoring: SCORING.to_owned(),
            looked_up: 0,
            right: vec![0; LEVELS],
            wrong: vec![0; LEVELS],
        }
    }

    /// Counts a question, with what became of the best cached answer if there was one.
    pub fn count(&mut self, found: Option<(Level, Verdict)>) {
        self.looked_up += 1;
        let Some((level, verdict)) = found else {
            return;
        };
        let counts = match verdict {
            Verdict::Right => &mut self.right,
            Verdict::Wrong => &mut self.wrong,
        };
        if let Some(count) = counts.get_mut(level.index()) {
            *count += 1;
        }
    }

    /// Questions to which there was a cached answer.
    pub fn found(&self) -> u64 {
        let counts = self.right.iter().chain(&self.wrong);
        counts.map(|count| u64::from(*count)).sum()
    }

    /// The lowest score from which on the stated share is proven; none if it is from no score on.
    pub fn threshold(&self, max_wrong: MaxWrong) -> Option<Level> {
        let counts = (self.right.as_slice(), self.wrong.as_slice());
        RouteBound::proven(max_wrong, self.looked_up, counts)
    }

    /// What a threshold does, which serves nothing if there is none.
    pub fn measure(&self, threshold: Option<Level>) -> Measured {
        let from = |counts: &[u32]| {
            let first = threshold.map_or(LEVELS, Level::index);
            let counts = counts.iter().skip(first);
            counts.map(|count| u64::from(*count)).sum::<u64>()
        };
        let (right, wrong) = (from(&self.right), from(&self.wrong));
        let looked_up = u64::from(self.looked_up);
        Measured {
            looked_up,
            served: right + wrong,
            wrong,
            wrong_share_max: match right + wrong {
                0 => 0.0,
                _ => interval::upper(wrong, looked_up, CONFIDENCE),
            },
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is none of this version, was made for other scores, or has numbers that
    /// cannot be.
    pub fn load(path: &Path) -> Result<CacheCalibration, BackendError> {
        let failed = |source| BackendError::Io {
            what: path.display().to_string(),
            source,
        };
        let refused =
            |problem: String| BackendError::SemanticEval(format!("{}: {problem}", path.display()));
        let bytes = std::fs::metadata(path).map_err(failed)?.len();
        if bytes > CASCADE_FILE_BYTES_MAX {
            let problem = format!("is over {CASCADE_FILE_BYTES_MAX} bytes");
            return Err(refused(problem));
        }
        let file = std::fs::read(path).map_err(failed)?;
        CacheCalibration::decode(&file).map_err(refused)
    }

    /// Reads the bytes of a file; the error says what is wrong with it.
    ///
    /// # Errors
    /// As [`CacheCalibration::load`].
    pub fn decode(file: &[u8]) -> Result<CacheCalibration, String> {
        let damaged = || "is no cache calibration of this version, or is damaged".to_owned();
        let cbor = open(MAGIC, file).ok_or_else(damaged)?;
        let read: CacheCalibration = ciborium::from_reader(cbor).map_err(|_| damaged())?;
        if read.scoring != SCORING {
            let problem = "was made for other scores; calibrate again with this version";
            return Err(problem.to_owned());
        }
        let fits = read.right.len() == LEVELS && read.wrong.len() == LEVELS;
        // More than can be learned from would overflow what is counted by them.
        let looked_up = read.looked_up as usize;
        if !fits || looked_up > SEMANTIC_EVAL_ROWS_MAX || read.found() > looked_up as u64 {
            return Err("has lists of other lengths, or numbers that cannot be".to_owned());
        }
        Ok(read)
    }

    /// Writes a file.
    pub fn encode(&self) -> Vec<u8> {
        let mut cbor = Vec::new();
        // Memory does not refuse a write; an empty payload would be refused on reading.
        let _ = ciborium::into_writer(self, &mut cbor);
        seal(MAGIC, &cbor)
    }
}
