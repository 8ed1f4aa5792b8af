//! The filter's ledger, read back from Envoy's log: what a streamed answer cost is known only when
//! it has ended, too late for a header.

use farthing_host_tests::envoy::Envoy;
use serde_json::Value;
use std::time::Duration;

use crate::error::XtaskError;

/// The line is written when the stream ends, a moment after the client has seen its end.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// What the ledger says of one request.
pub struct Entry {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cost_nanousd: u64,
    pub as_asked_nanousd: u64,
}

/// Waits for the ledger line of a request.
pub fn entry(envoy: &mut Envoy, request_id: &str) -> Result<Entry, XtaskError> {
    let goal = format!("ledger line of request {request_id}");
    Ok(envoy.wait_for_log(&goal, WRITTEN_WITHIN, |log| find(log, request_id))?)
}

fn find(log: &str, request_id: &str) -> Option<Entry> {
    // The line asked for is among the newest.
    log.lines()
        .rev()
        .filter(|line| line.contains(request_id))
        .find_map(|line| {
            let json: Value =
                serde_json::from_str(line.get(line.find('{')?..=line.rfind('}')?)?).ok()?;
            if json["request_id"].as_str() != Some(request_id) {
                return None;
            }
            Some(Entry {
                prompt_tokens: json["prompt_tokens"].as_u64()?,
                completion_tokens: json["completion_tokens"].as_u64()?,
                cost_nanousd: json["cost_nanousd"].as_u64()?,
                as_asked_nanousd: json["as_asked_nanousd"].as_u64()?,
            })
        })
}
