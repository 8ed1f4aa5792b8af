//! Real parts around the filter and the backend, for tests, the demo and benchmarks: Envoy, the
//! backend binary, a scripted upstream and a small HTTP client. Blocking and std-only on purpose:
//! a test reads from top to bottom, and nothing here shares a runtime with what it measures.
//!
//! Reading order: [`paths`] says where things lie, [`process`] starts what must not outlive us,
//! [`envoy`] and [`backend`] are such processes, [`stub`] and [`client`] are the two ends.

#![forbid(unsafe_code)]

pub mod backend;
pub mod client;
pub mod envoy;
pub mod error;
pub mod http;
pub mod ledger;
pub mod paths;
pub mod ports;
pub mod process;
pub mod prometheus;
pub mod resources;
pub mod stub;

pub use error::HarnessError;
