//! Models that others serve: decisions as such, recorded shapes of each API both ways, and the
//! server between clients and providers of every kind, good and bad.

#[allow(dead_code, reason = "the tests of the server use the rest")]
#[path = "../http/client.rs"]
mod client;
#[allow(dead_code, reason = "the tests of the server use the rest")]
#[path = "../http/server.rs"]
mod server;

mod configurations;
mod decisions;
mod failures;
mod hints;
mod patience;
mod recorded;
mod secrets;
mod serving;
mod stub;
mod tls;
