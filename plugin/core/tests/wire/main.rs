//! The wire, tested as its users see it: bytes in, decisions and bytes out. Cases and what they
//! must give are data under `tests/golden/wire`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics fails, which is what it is for"
)]

mod answers;
mod forms;
mod json;
mod passing;
mod requests;
mod streams;

use farthing_core::wire::Endpoint;
use serde_json::Value;

/// A file of `tests/golden/wire`.
fn golden(name: &str) -> String {
    let path = format!("{}/tests/golden/wire/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A file of cases.
fn cases(name: &str) -> Vec<Value> {
    serde_json::from_str(&golden(name)).unwrap()
}

/// An endpoint by its name in the cases.
fn endpoint(name: &str) -> Endpoint {
    match name {
        "chat" => Endpoint::ChatCompletions,
        "completions" => Endpoint::Completions,
        "embeddings" => Endpoint::Embeddings,
        "responses" => Endpoint::Responses,
        "messages" => Endpoint::Messages,
        other => panic!("no endpoint {other}"),
    }
}
