//! The semantic cache: its decisions, its store, and real models behind it.

mod bill;
mod bound;
mod calibration;
#[allow(dead_code, reason = "the server's own tests use more of it")]
#[path = "../http/client.rs"]
mod client;
mod decisions;
mod embedding;
mod eval;
mod index;
mod redis_store;
#[allow(dead_code, reason = "the server's own tests use more of it")]
#[path = "../http/server.rs"]
mod server;
mod serving;
mod store;
#[allow(dead_code, reason = "the providers' own tests use more of it")]
#[path = "../provider/stub.rs"]
mod stub;
#[path = "../valkey/mod.rs"]
mod valkey;
