//! The semantic cache: its decisions, its store, and real models behind it.

mod bound;
#[path = "../http/client.rs"]
mod client;
mod decisions;
mod embedding;
mod eval;
mod index;
#[path = "../http/server.rs"]
mod server;
mod serving;
mod store;
