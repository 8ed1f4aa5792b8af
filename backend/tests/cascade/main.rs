//! The cascade: what is learned and decided, what its commands print, and how a running server asks
//! one model after the other.

#[path = "../http/client.rs"]
#[allow(dead_code, reason = "shared with the tests of the HTTP server")]
mod client;
mod commands;
mod decisions;
mod judging;
mod rows;
#[path = "../http/server.rs"]
#[allow(dead_code, reason = "shared with the tests of the HTTP server")]
mod server;
mod serving;
