//! `farthing`'s own commands that print or write JSON Lines.

use crate::error::XtaskError;
use crate::signals::Interrupt;
use crate::subprocess;
use farthing_host_tests::paths;
use serde_json::Value;
use std::ffi::OsStr;
use std::process::Command;

/// Runs `farthing ARGUMENTS` and reads the JSON among what it prints.
pub fn json_lines<S: AsRef<OsStr>>(
    interrupt: &Interrupt,
    arguments: impl IntoIterator<Item = S>,
) -> Result<Vec<Value>, XtaskError> {
    let mut command = Command::new(paths::backend());
    command.args(arguments);
    let finished = subprocess::run(&mut command, interrupt, |_| {})?;
    let lines = finished.require_success("a command of farthing")?;
    Ok(values(lines.iter().map(String::as_str)))
}

/// The lines of `text` that are JSON.
pub fn values<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Value> {
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// A number of a line.
pub fn number(line: &Value, field: &str) -> Result<f64, XtaskError> {
    line[field]
        .as_f64()
        .ok_or_else(|| XtaskError::Unexpected(format!("no number {field:?} in {line}")))
}
