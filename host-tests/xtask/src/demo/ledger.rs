//! The filter's ledger, read back from Envoy's access log: what a streamed answer cost is known
//! only when it has ended, too late for a header.

use farthing_host_tests::envoy::Envoy;
use farthing_host_tests::ledger;
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
    let ledger = ledger::find(log, request_id)?;
    let amount = |field: &str| ledger[field].as_u64();
    Some(Entry {
        prompt_tokens: amount("prompt_tokens")?,
        completion_tokens: amount("completion_tokens")?,
        cost_nanousd: amount("cost_nanousd")?,
        as_asked_nanousd: amount("as_asked_nanousd")?,
    })
}
