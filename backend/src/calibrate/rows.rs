//! Prompts that two models have answered. In CSV: the prompt, whether the weak model was right,
//! whether the strong one was; RouteLLM's files have these columns first. JSON Lines are read by
//! [`json_rows`](super::json_rows).

use std::path::{Path, PathBuf};

use super::{CalibrateError, json_rows};
use farthing_core::limits::CALIBRATION_ROWS_MAX;

/// One prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub prompt: String,
    pub weak: bool,
    pub strong: bool,
}

/// The rows of one file.
#[derive(Debug)]
pub(super) struct RowFile {
    pub path: PathBuf,
    pub rows: Vec<Row>,
}

pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<RowFile>, CalibrateError> {
    let mut left = CALIBRATION_ROWS_MAX;
    paths
        .iter()
        .map(|path| {
            let is_json = path.extension().is_some_and(|ending| ending == "jsonl");
            let rows = match is_json {
                true => json_rows::read(path, left)?,
                false => read_csv(path, left)?,
            };
            left -= rows.len();
            let path = path.clone();
            Ok(RowFile { path, rows })
        })
        .collect()
}

fn read_csv(path: &Path, rows_max: usize) -> Result<Vec<Row>, CalibrateError> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_path(path)
        .map_err(|error| refused(path, 1, error.to_string()))?;
    let columns = reader
        .headers()
        .map_err(|error| refused(path, 1, error.to_string()))?
        .len();
    if columns < 3 {
        let problem = format!(
            "has {columns} columns; needed are the prompt, whether the weak model was right, and \
             whether the strong one was"
        );
        return Err(refused(path, 1, problem));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(1, csv::Position::line);
            refused(path, line, error.to_string())
        })?;
        let line = record.position().map_or(1, csv::Position::line);
        if rows.len() == rows_max {
            let problem = format!("is beyond the {CALIBRATION_ROWS_MAX} rows that are read");
            return Err(refused(path, line, problem));
        }
        let field = |at: usize, what: &str| {
            let text = record.get(at);
            text.ok_or_else(|| refused(path, line, format!("has no column for {what}")))
        };
        let right = |at: usize, what: &str| {
            let text = field(at, what)?;
            parse_right(text).ok_or_else(|| {
                let problem = format!("says \"{text}\" of {what}; it must be true or false");
                refused(path, line, problem)
            })
        };
        rows.push(Row {
            prompt: field(0, "the prompt")?.to_owned(),
            weak: right(1, "the weak model")?,
            strong: right(2, "the strong model")?,
        });
    }
    Ok(rows)
}

fn parse_right(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "1.0" => Some(true),
        "false" | "0" | "0.0" => Some(false),
        _ => None,
    }
}

pub(super) fn refused(path: &Path, line: u64, problem: String) -> CalibrateError {
    CalibrateError::Row {
        path: path.to_owned(),
        line,
        problem,
    }
}
