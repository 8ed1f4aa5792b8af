//! Azure's traces of LLM inference (Patel et al., "Splitwise", ISCA 2024;
//! <https://github.com/Azure/AzurePublicDataset>): a CSV line a request, with the time of its
//! arrival, the tokens of its prompt and those of its answer.

use farthing_core::limits::{REPLAY_REQUESTS_MAX, REPLAY_TOKENS_MAX};
use serde::Deserialize;

/// One request of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// After the first request of the trace.
    pub arrival_us: u64,
    pub prompt_tokens: usize,
    /// At least one.
    pub generated_tokens: usize,
}

/// A line as it is written.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "TIMESTAMP")]
    timestamp: String,
    #[serde(rename = "ContextTokens")]
    context_tokens: usize,
    #[serde(rename = "GeneratedTokens")]
    generated_tokens: usize,
}

const DAY_US: u64 = 24 * 60 * 60 * 1_000_000;

/// Reads a trace, whose lines must be in the order of arrival and within a day.
///
/// # Errors
/// What is wrong with it, and in which line.
pub fn parse(text: &str) -> Result<Vec<Request>, String> {
    let mut requests: Vec<Request> = Vec::new();
    let mut first_us = None;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers().map_err(|error| error.to_string())?.clone();
    let mut record = csv::StringRecord::new();
    // csv's own errors name their line.
    while reader
        .read_record(&mut record)
        .map_err(|error| error.to_string())?
    {
        let at = record.position().map_or(0, |start| line_of(text, start));
        let wrong = |problem: String| format!("line {at}: {problem}");
        let line: Line = record
            .deserialize(Some(&names))
            .map_err(|error| wrong(error.to_string()))?;
        if requests.len() == REPLAY_REQUESTS_MAX {
            return Err(wrong(format!("over {REPLAY_REQUESTS_MAX} requests")));
        }
        let at_us = time_of_day_us(&line.timestamp).ok_or_else(|| {
            wrong(format!(
                "TIMESTAMP {:?} has no hh:mm:ss in it",
                line.timestamp
            ))
        })?;
        let first_us = *first_us.get_or_insert(at_us);
        // A trace may pass midnight once.
        let arrival_us = (at_us + DAY_US - first_us) % DAY_US;
        let before = requests.last().map_or(0, |last| last.arrival_us);
        // After midnight, what is earlier looks like much later; a pause of half a day is none.
        if arrival_us < before || arrival_us - before > DAY_US / 2 {
            return Err(wrong(
                "it came before the line before, or half a day after it".to_owned(),
            ));
        }
        if line.context_tokens == 0 {
            return Err(wrong("ContextTokens is 0".to_owned()));
        }
        let tokens = line.context_tokens.saturating_add(line.generated_tokens);
        if tokens > REPLAY_TOKENS_MAX {
            return Err(wrong(format!(
                "{tokens} tokens are over {REPLAY_TOKENS_MAX}"
            )));
        }
        requests.push(Request {
            arrival_us,
            prompt_tokens: line.context_tokens,
            generated_tokens: line.generated_tokens.max(1),
        });
    }
    if requests.is_empty() {
        return Err("there is no request in it".to_owned());
    }
    Ok(requests)
}

/// The line of the record at `start`, from 1: empty lines before it are behind `start`.
fn line_of(text: &str, start: &csv::Position) -> u64 {
    let rest = text.as_bytes().iter().skip(start.byte() as usize);
    let empty = rest.take_while(|byte| b"\r\n".contains(byte));
    start.line() + empty.filter(|byte| **byte == b'\n').count() as u64
}

/// Microseconds since midnight of `... hh:mm:ss.fraction`.
fn time_of_day_us(timestamp: &str) -> Option<u64> {
    let clock = timestamp.split_ascii_whitespace().next_back()?;
    let mut parts = clock.split(':');
    let hours: u64 = parts.next()?.parse().ok()?;
    let minutes: u64 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next()?.parse().ok()?;
    let sane = hours < 24 && minutes < 60 && (0.0..60.0).contains(&seconds);
    (sane && parts.next().is_none())
        .then(|| (hours * 60 + minutes) * 60_000_000 + (seconds * 1e6) as u64)
}
