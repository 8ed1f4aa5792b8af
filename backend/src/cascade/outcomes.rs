//! Labelled prompts, and what each tier answered to them: JSON Lines in both cases, so that answers
//! that were collected once, or by somebody else, need not be generated again.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use farthing_core::limits::{CASCADE_LINE_BYTES_MAX, CASCADE_ROWS_MAX};
use serde::{Deserialize, Serialize};

use super::signals::Token;
use crate::error::BackendError;
use crate::labelled::{self, check::Check};

/// A prompt and its label.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// A text, or a list of messages.
    pub prompt: serde_json::Value,
    /// The label; none where a judge says what is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// What the tiers answered, from cheap to dear; empty where nobody was asked yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<TierAnswer>,
}

/// The answer of one tier.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierAnswer {
    /// Who answered.
    pub model: String,
    pub text: String,
    /// Whether the answer ended by itself, and not for its length.
    pub is_complete: bool,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// What was cached of the prompt.
    #[serde(default)]
    pub cached_tokens: u64,
    /// How sure the model was of each token; empty for a model that does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
    /// A judge's word, where the label alone does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<bool>,
}

impl Row {
    /// Whether the answer of a tier is right.
    pub fn is_right(&self, tier: &TierAnswer) -> bool {
        let by_label = || match (&self.answer, self.check) {
            (Some(answer), Some(check)) => check.is_right(&tier.text, answer),
            _ => false,
        };
        tier.right.unwrap_or_else(by_label)
    }

    /// Whether it is known which answers are right.
    pub fn is_labelled(&self) -> bool {
        let is_judged = !self.tiers.is_empty() && self.tiers.iter().all(|it| it.right.is_some());
        self.answer.is_some() || is_judged
    }

    /// Bytes of all that is asked, as a server counts them.
    pub fn prompt_bytes(&self) -> usize {
        let messages = labelled::messages(&self.prompt).unwrap_or_default();
        messages.iter().map(|message| message.content.len()).sum()
    }
}

/// Whether rows may be without a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    Needed,
    /// A judge is there for those that have none.
    Judged,
}

/// Reads rows, one a line.
///
/// # Errors
/// The first line that is no row, by its number.
pub fn read(path: &Path, labels: Labels) -> Result<Vec<Row>, BackendError> {
    let file = std::fs::File::open(path).map_err(|source| failed(path, source))?;
    let mut rows: Vec<Row> = Vec::new();
    for (line, text) in (1_u64..).zip(BufReader::new(file).lines()) {
        let text = text.map_err(|error| refused(path, line, &error.to_string()))?;
        if text.trim().is_empty() {
            continue;
        }
        if text.len() > CASCADE_LINE_BYTES_MAX {
            let problem = format!("is longer than {CASCADE_LINE_BYTES_MAX} bytes");
            return Err(refused(path, line, &problem));
        }
        if rows.len() >= CASCADE_ROWS_MAX {
            let problem = format!("is beyond the {CASCADE_ROWS_MAX} rows that are read");
            return Err(refused(path, line, &problem));
        }
        let row: Row =
            serde_json::from_str(&text).map_err(|error| refused(path, line, &error.to_string()))?;
        row.check(rows.first(), labels)
            .map_err(|problem| refused(path, line, &problem))?;
        rows.push(row);
    }
    Ok(rows)
}

impl Row {
    fn check(&self, first: Option<&Row>, labels: Labels) -> Result<(), String> {
        match (&self.answer, &self.check) {
            (Some(_), None) => return Err("missing field `check`".to_owned()),
            (None, Some(_)) => return Err("missing field `answer`".to_owned()),
            (None, None) if labels == Labels::Needed && !self.is_labelled() => {
                return Err("missing field `answer`; `--judge` does without".to_owned());
            }
            _ => {}
        }
        labelled::messages(&self.prompt)
            .map_err(|error| format!("the prompt {}", error.message))?;
        if self.prompt_bytes() == 0 {
            return Err("has an empty prompt".to_owned());
        }
        let models = |row: &Row| -> Vec<String> {
            row.tiers.iter().map(|tier| tier.model.clone()).collect()
        };
        let tokens = self.tiers.iter().flat_map(|tier| &tier.tokens);
        if !tokens.clone().all(|token| token.is_finite()) {
            return Err("has tokens with numbers that are not finite".to_owned());
        }
        match first {
            Some(first) if models(first) != models(self) => {
                Err("has answers of other models than the first line".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Writes rows, one a line.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, rows: &[Row]) -> Result<(), BackendError> {
    let written = || -> std::io::Result<()> {
        let mut out = BufWriter::new(std::fs::File::create(path)?);
        for row in rows {
            serde_json::to_writer(&mut out, row)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    };
    written().map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: std::io::Error) -> BackendError {
    BackendError::Io {
        what: path.display().to_string(),
        source,
    }
}

fn refused(path: &Path, line: u64, problem: &str) -> BackendError {
    BackendError::Cascade(format!("{}: line {line}: {problem}", path.display()))
}
