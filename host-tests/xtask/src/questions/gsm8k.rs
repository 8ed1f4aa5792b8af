//! GSM8K (MIT): sums in words, whose answer is a number behind `####`.

use super::{read, text, unexpected};
use crate::error::XtaskError;
use serde_json::{Value, json};
use std::path::Path;

/// Small models say where their answer stands only if they are told to.
const INSTRUCTION: &str =
    "Reason in a few short steps, then end with a line \"#### \" and the number.";

/// The first `count` rows of the JSON Lines in `path`; all of them without a count.
pub fn rows(path: &Path, count: Option<usize>) -> Result<Vec<Value>, XtaskError> {
    let lines = read(path)?;
    let lines = (1_u64..).zip(lines.lines());
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .take(count.unwrap_or(usize::MAX))
        .map(|(number, line)| {
            let wrong = |problem: &str| unexpected(path, &format!("line {number}: {problem}"));
            let row: Value =
                serde_json::from_str(line).map_err(|error| wrong(&error.to_string()))?;
            let answer = text(&row, "answer").and_then(|answer| answer.rsplit_once("####"));
            let (Some(question), Some((_, label))) = (text(&row, "question"), answer) else {
                return Err(wrong("no `question`, or no `answer` behind ####"));
            };
            let prompt = format!("{question}\n\n{INSTRUCTION}");
            Ok(json!({"prompt": prompt, "answer": label.trim(), "check": "number"}))
        })
        .collect()
}
