//! Labelled questions: pairs and answered prompts in JSON Lines, streams in CSV.

use std::io::{BufRead, BufReader};
use std::path::Path;

use farthing_core::limits::{SEMANTIC_EVAL_LINE_BYTES_MAX, SEMANTIC_EVAL_ROWS_MAX};
use farthing_core::wire::{Message, Role};
use serde::Deserialize;

use crate::error::BackendError;
use crate::labelled::check::plain;

/// Two requests, and whether one's answer is right for the other.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub a: Vec<Message>,
    pub b: Vec<Message>,
    pub same_answer: bool,
}

/// One request of a stream; those of one label have the same answer.
#[derive(Debug, Clone)]
pub(super) struct Labelled {
    pub text: String,
    pub label: String,
}

/// Fields that are not named are for people.
#[derive(Debug, Deserialize)]
struct RawPair {
    a: RawAsked,
    b: RawAsked,
    same_answer: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawAsked {
    Text(String),
    Messages(Vec<RawMessage>),
}

#[derive(Debug, Deserialize)]
struct RawMessage {
    role: String,
    content: String,
}

/// A prompt with its answer.
#[derive(Debug, Deserialize)]
struct RawAnswered {
    prompt: RawAsked,
    answer: String,
}

/// Prompts with their answers, one a line, in the order of the file. Answers of the same words are
/// one label.
pub(super) fn answered(path: &Path) -> Result<Vec<Labelled>, BackendError> {
    each_line(path, |raw: RawAnswered| {
        let asked = messages(raw.prompt)?;
        let [only] = asked.as_slice() else {
            return Err(format!("`prompt` has {} messages, not one", asked.len()));
        };
        if only.role != Role::User {
            return Err("`prompt` is no message of a user".to_owned());
        }
        let label = plain(&raw.answer);
        if label.is_empty() {
            return Err("`answer` is empty".to_owned());
        }
        Ok(Labelled {
            text: only.content.clone(),
            label,
        })
    })
}

/// Pairs, one a line.
pub(super) fn pairs(path: &Path) -> Result<Vec<Pair>, BackendError> {
    each_line(path, |raw: RawPair| {
        Ok(Pair {
            a: messages(raw.a)?,
            b: messages(raw.b)?,
            same_answer: raw.same_answer,
        })
    })
}

/// What each line of a file of JSON Lines says; empty ones say nothing.
fn each_line<R: serde::de::DeserializeOwned, T>(
    path: &Path,
    read: impl Fn(R) -> Result<T, String>,
) -> Result<Vec<T>, BackendError> {
    let file = std::fs::File::open(path).map_err(|source| BackendError::Io {
        what: path.display().to_string(),
        source,
    })?;
    let mut rows = Vec::new();
    for (line, text) in (1_u64..).zip(BufReader::new(file).lines()) {
        let text = text.map_err(|error| refused(path, line, error.to_string()))?;
        if text.trim().is_empty() {
            continue;
        }
        check_room(path, line, text.len(), rows.len())?;
        let raw: R =
            serde_json::from_str(&text).map_err(|error| refused(path, line, error.to_string()))?;
        rows.push(read(raw).map_err(|problem| refused(path, line, problem))?);
    }
    Ok(rows)
}

/// Texts with their labels, in the order of the file.
pub(super) fn stream(path: &Path) -> Result<Vec<Labelled>, BackendError> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_path(path)
        .map_err(|error| refused(path, 1, error.to_string()))?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(1, csv::Position::line);
            refused(path, line, error.to_string())
        })?;
        let line = record.position().map_or(1, csv::Position::line);
        let (Some(text), Some(label)) = (record.get(0), record.get(1)) else {
            let problem = "has no two columns: the text and its label";
            return Err(refused(path, line, problem.to_owned()));
        };
        check_room(path, line, text.len(), rows.len())?;
        rows.push(Labelled {
            text: text.to_owned(),
            label: label.to_owned(),
        });
    }
    Ok(rows)
}

fn check_room(path: &Path, line: u64, bytes: usize, rows: usize) -> Result<(), BackendError> {
    if bytes > SEMANTIC_EVAL_LINE_BYTES_MAX {
        let problem = format!("is longer than {SEMANTIC_EVAL_LINE_BYTES_MAX} bytes");
        return Err(refused(path, line, problem));
    }
    if rows >= SEMANTIC_EVAL_ROWS_MAX {
        let problem = format!("is beyond the {SEMANTIC_EVAL_ROWS_MAX} rows that are read");
        return Err(refused(path, line, problem));
    }
    Ok(())
}

fn messages(asked: RawAsked) -> Result<Vec<Message>, String> {
    let message = |role, content| Message {
        role,
        content,
        name: None,
        tool_calls: None,
        tool_call_id: None,
    };
    match asked {
        RawAsked::Text(text) => Ok(vec![message(Role::User, text)]),
        RawAsked::Messages(messages) => messages
            .into_iter()
            .map(|raw| match raw.role.as_str() {
                "user" => Ok(message(Role::User, raw.content)),
                "assistant" => Ok(message(Role::Assistant, raw.content)),
                "system" | "developer" => Ok(message(Role::System, raw.content)),
                other => Err(format!("has a message of the role \"{other}\"")),
            })
            .collect(),
    }
}

fn refused(path: &Path, line: u64, problem: String) -> BackendError {
    BackendError::SemanticEval(format!("{}: line {line}: {problem}", path.display()))
}
