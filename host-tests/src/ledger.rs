//! The filter's ledger as Envoy's access log prints it: one field of a JSON line that holds the
//! ledger's own JSON as text.

use serde_json::Value;

/// The ledger of every request in Envoy's output, oldest first; requests without one are left out.
pub fn lines(log: &str) -> Vec<Value> {
    log.lines().filter_map(of_line).collect()
}

/// The ledger of the request with this id, the newest if there are several.
pub fn find(log: &str, request_id: &str) -> Option<Value> {
    log.lines()
        .rev()
        .filter(|line| line.contains(request_id))
        .filter_map(of_line)
        .find(|ledger| ledger["request_id"] == request_id)
}

fn of_line(line: &str) -> Option<Value> {
    // Envoy's own log and its access log share one output.
    let line: Value = serde_json::from_str(line).ok()?;
    serde_json::from_str(line["ledger"].as_str()?).ok()
}
