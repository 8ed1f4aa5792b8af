//! The demo's requests and what must come of them, as data.

use crate::error::XtaskError;
use serde::Deserialize;
use std::collections::BTreeMap;

const ROWS: &str = include_str!("workload.yaml");

/// One request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Names the row for a later `same_answer_as`.
    #[serde(default)]
    pub id: Option<String>,
    /// What it shows.
    pub what: String,
    pub tenant: String,
    #[serde(default = "chat_completions")]
    pub path: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub body: String,
    /// Sent in place of `body`: bytes that are no text, in hexadecimal.
    #[serde(default)]
    pub hex: Option<String>,
    pub expect: Expect,
}

/// What must come of a request. What is not named is not looked at.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    pub status: u16,
    /// `x-farthing-source`.
    #[serde(default)]
    pub source: Option<String>,
    /// `x-farthing-tried`: the models of a cascade that were asked in vain, or `none`.
    #[serde(default)]
    pub tried: Option<String>,
    /// `x-farthing-model`.
    #[serde(default)]
    pub model: Option<String>,
    /// `error.code` of the body.
    #[serde(default)]
    pub code: Option<String>,
    /// The row whose answer this one must repeat.
    #[serde(default)]
    pub same_answer_as: Option<String>,
}

impl Row {
    /// The bytes of the request's body.
    pub fn bytes(&self) -> Result<Vec<u8>, XtaskError> {
        let Some(hex) = &self.hex else {
            return Ok(self.body.clone().into_bytes());
        };
        let digits = hex.as_bytes().chunks(2);
        let bytes = digits.map(|pair| {
            let text = std::str::from_utf8(pair).unwrap_or_default();
            u8::from_str_radix(text, 16)
                .map_err(|error| XtaskError::Unexpected(format!("{}: hex: {error}", self.what)))
        });
        bytes.collect()
    }
}

/// Every row, in order.
pub fn rows() -> Result<Vec<Row>, XtaskError> {
    serde_yaml_ng::from_str(ROWS)
        .map_err(|error| XtaskError::Unexpected(format!("the demo's workload: {error}")))
}

fn chat_completions() -> String {
    "/v1/chat/completions".to_string()
}

#[cfg(test)]
mod tests {
    use super::rows;
    use std::collections::HashSet;

    #[test]
    fn the_workload_is_complete_and_refers_only_backwards() {
        let rows = rows().expect("the workload is valid YAML");
        assert!(rows.len() >= 40, "{} rows", rows.len());
        let mut known = HashSet::new();
        for row in &rows {
            let bytes = row.bytes().expect("valid hexadecimal");
            assert!(!bytes.is_empty(), "{}: no body", row.what);
            if let Some(earlier) = &row.expect.same_answer_as {
                assert!(
                    known.contains(earlier),
                    "{}: no earlier row {earlier}",
                    row.what
                );
            }
            known.extend(row.id.clone());
        }
    }
}
