//! Every decision of Farthing, with no I/O: time, seeds and the shared store are arguments, so the
//! filter (wasm, in Envoy) and the backend (native) decide alike and tests need no host.
//!
//! Reading order: [`wire`] turns bytes into types, [`config`] says what is wanted, [`exchange`] is
//! the life of one request and calls the rest.

pub mod base64;
pub mod bpe;
pub mod budget;
pub mod cache;
pub mod cache_key;
pub mod compaction;
pub mod config;
mod digits;
pub mod error;
pub mod exchange;
mod keyed_hash;
pub mod ledger;
pub mod limits;
pub mod metrics;
pub mod money;
pub mod price;
pub mod route;
pub mod store;
pub mod tenant;
pub mod tokens;
pub mod vocabulary;
pub mod wire;
