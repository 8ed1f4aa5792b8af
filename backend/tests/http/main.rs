//! The HTTP server over real sockets, with the real SmolLM2 and MiniLM behind it: raw bytes in,
//! bytes out. One server is shared by all tests; those that watch counters start their own.

mod answers;
mod client;
mod connections;
mod disconnects;
mod overload;
mod refusals;
mod server;
mod stored;
