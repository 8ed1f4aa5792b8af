//! Mooncake's traces (Qin et al., "Mooncake: Trading More Storage for Less Computation", FAST 2025;
//! <https://github.com/kvcache-ai/Mooncake>, FAST25-release): one JSON object a line, of which
//! `hash_ids` names the blocks of the prompt. Equal ids are equal blocks after equal blocks.

use farthing_core::limits::{REPLAY_BLOCKS_MAX, REPLAY_REQUESTS_MAX};
use serde::Deserialize;

/// One request of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Request {
    /// Names of the prompt's blocks, in order.
    pub hash_ids: Vec<u32>,
}

/// Reads a trace.
///
/// # Errors
/// What is wrong with it, and in which line.
pub fn parse(text: &str) -> Result<Vec<Request>, String> {
    let mut requests = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |problem: String| format!("line {}: {problem}", index + 1);
        if requests.len() == REPLAY_REQUESTS_MAX {
            return Err(wrong(format!("over {REPLAY_REQUESTS_MAX} requests")));
        }
        let request: Request =
            serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        if request.hash_ids.len() > REPLAY_BLOCKS_MAX {
            return Err(wrong(format!(
                "hash_ids has over {REPLAY_BLOCKS_MAX} blocks"
            )));
        }
        requests.push(request);
    }
    if requests.is_empty() {
        return Err("there is no request in it".to_owned());
    }
    Ok(requests)
}
