//! Rows in JSON Lines: a prompt, and for each model whether it was right, or what it answered
//! beside the right answer and how to compare them.

use std::io::{BufRead, BufReader};
use std::path::Path;

use farthing_core::limits::{CALIBRATION_LINE_BYTES_MAX, CALIBRATION_ROWS_MAX};
use serde::Deserialize;

use super::CalibrateError;
use super::rows::{Row, refused};
use crate::labelled::check::Check;

/// Fields that are not named are for people.
#[derive(Debug, Deserialize)]
struct RawRow {
    prompt: String,
    weak: Outcome,
    strong: Outcome,
    answer: Option<String>,
    check: Option<Check>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Outcome {
    Right(bool),
    Answer(String),
}

pub(super) fn read(path: &Path, rows_max: usize) -> Result<Vec<Row>, CalibrateError> {
    let file = std::fs::File::open(path).map_err(|error| CalibrateError::File {
        path: path.to_owned(),
        error,
    })?;
    let mut rows = Vec::new();
    for (line, text) in (1..).zip(BufReader::new(file).lines()) {
        let text = text.map_err(|error| refused(path, line, error.to_string()))?;
        if text.trim().is_empty() {
            continue;
        }
        if text.len() > CALIBRATION_LINE_BYTES_MAX {
            let problem = format!("is longer than {CALIBRATION_LINE_BYTES_MAX} bytes");
            return Err(refused(path, line, problem));
        }
        if rows.len() == rows_max {
            let problem = format!("is beyond the {CALIBRATION_ROWS_MAX} rows that are read");
            return Err(refused(path, line, problem));
        }
        let raw: RawRow =
            serde_json::from_str(&text).map_err(|error| refused(path, line, error.to_string()))?;
        rows.push(
            raw.judged()
                .map_err(|problem| refused(path, line, problem))?,
        );
    }
    Ok(rows)
}

impl RawRow {
    fn judged(self) -> Result<Row, String> {
        Ok(Row {
            weak: self.is_right(&self.weak, "weak")?,
            strong: self.is_right(&self.strong, "strong")?,
            prompt: self.prompt,
        })
    }

    fn is_right(&self, outcome: &Outcome, model: &str) -> Result<bool, String> {
        match (outcome, &self.answer, self.check) {
            (Outcome::Right(right), ..) => Ok(*right),
            (Outcome::Answer(given), Some(right), Some(check)) => Ok(check.is_right(given, right)),
            (Outcome::Answer(_), ..) => Err(format!(
                "has an answer of the {model} model; needed are `answer`, the right one, and \
                 `check`: exact, number or choice"
            )),
        }
    }
}
