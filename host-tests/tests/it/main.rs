//! One test binary: one link, and tests that share an Envoy can do so.

mod abi;
#[path = "../../../backend/tests/adversarial/mod.rs"]
mod adversarial;
mod deployment;
mod envoy;
mod tidy;
mod wasm_host;
