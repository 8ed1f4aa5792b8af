//! The access log of `envoy/production.yaml`: every line is one JSON object with every field, and
//! the ledger inside it is another.

use super::production_edge::ProductionEdge;
use crate::envoy::bodies::{chat, completion};
use crate::envoy::edge::{SMALL, wait_until};
use farthing_host_tests::envoy::EnvoyConfig;
use farthing_host_tests::stub::Answer;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// What each ledger says, whatever became of its request. `shadow` and `sharing_group` are there
/// only where a policy is watched or an answer shared.
const LEDGER: [&str; 27] = [
    "aborted",
    "as_asked_nanousd",
    "cache_read_tokens",
    "cache_write_tokens",
    "capped",
    "completion_tokens",
    "complexity",
    "cost_nanousd",
    "endpoint",
    "error",
    "estimated",
    "model",
    "model_asked",
    "price_default",
    "prompt_tokens",
    "request_id",
    "reserved_nanousd",
    "reserved_tokens",
    "route",
    "saved_by",
    "saved_nanousd",
    "service_tier",
    "source",
    "status",
    "stream",
    "tenant",
    "tier",
];
const SAVED_BY: [&str; 5] = [
    "cache_nanousd",
    "cap_nanousd",
    "compaction_nanousd",
    "route_nanousd",
    "single_flight_nanousd",
];

fn names(object: &Map<String, Value>) -> BTreeSet<&str> {
    object.keys().map(String::as_str).collect()
}

/// The fields that the shipped file names.
fn shipped_fields() -> BTreeSet<String> {
    let mut config = EnvoyConfig::shipped("production.yaml").unwrap_or_else(|e| panic!("{e}"));
    let manager = config.http_connection_manager().expect("a manager");
    let format = &manager["access_log"][0]["typed_config"]["log_format"]["json_format"];
    let fields = format.as_mapping().expect("fields").keys();
    fields
        .map(|name| name.as_str().expect("a name").to_string())
        .collect()
}

/// Lines of Envoy's own log begin with a bracket.
fn access_lines(edge: &ProductionEdge) -> Vec<String> {
    let log = edge.envoy.log();
    let lines = log.lines().filter(|line| line.starts_with('{'));
    lines.map(str::to_string).collect()
}

#[test]
fn every_line_is_json_with_every_field() {
    let edge = ProductionEdge::start(|_, request| {
        match request.json()["messages"][0]["content"].as_str() {
            Some("fails") => Answer::json(500, "{}"),
            _ => completion("It says \"so\", \\ and \u{1f600}."),
        }
    });
    let quoted = "A \"quoted\" prompt, with \\ and a line\nbreak";
    let mut statuses = vec![200, 200, 500, 404, 400];
    for body in [
        chat(SMALL, quoted),
        chat(SMALL, quoted),
        chat(SMALL, "fails"),
        chat("no-such-model", quoted),
        Value::Null,
    ] {
        edge.ask(&body);
    }
    // Not judged by the filter, and not answered by it.
    edge.send("GET /healthz HTTP/1.1", b"");
    statuses.push(200);
    wait_until("every request is in the access log", || {
        access_lines(&edge).len() >= statuses.len()
    });
    let lines: Vec<Map<String, Value>> = access_lines(&edge)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let shipped = shipped_fields();
    let expected: BTreeSet<&str> = shipped.iter().map(String::as_str).collect();
    assert!(expected.contains("ledger"));
    for (line, status) in lines.iter().zip(&statuses) {
        assert_eq!(names(line), expected);
        assert_eq!(&line["status"], status, "{line:?}");
        assert!(line["duration_ms"].is_u64(), "{line:?}");
    }
    let judged = &lines[..statuses.len() - 1];
    assert!(lines.last().is_some_and(|line| line["ledger"].is_null()));
    for line in judged {
        check_ledger(line);
    }
    let sources = judged.iter().map(|line| line["source"].clone());
    let expected = ["model", "edge-cache", "model"].map(Value::from);
    assert!(sources.take(3).eq(expected), "{judged:?}");
}

/// The ledger of a line has every field, and says the same as the line where both say it.
fn check_ledger(line: &Map<String, Value>) {
    let text = line["ledger"].as_str().expect("a ledger, as text");
    let ledger: Map<String, Value> = serde_json::from_str(text).expect("JSON");
    assert_eq!(names(&ledger), BTreeSet::from(LEDGER));
    let saved_by = ledger["saved_by"].as_object().expect("parts");
    assert_eq!(names(saved_by), BTreeSet::from(SAVED_BY));
    assert_eq!(ledger["status"], line["status"]);
    for (in_ledger, in_line) in [("request_id", "request_id"), ("model", "model")] {
        if !line[in_line].is_null() {
            assert_eq!(ledger[in_ledger], line[in_line], "{in_line}: {text}");
        }
    }
}
