//! The decisions, from bytes to effects: tables of requests and configurations, and properties of
//! keys, money and budgets. Nothing here knows how the crate is built inside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
// A test that panics has found something; the library's own code may not.

mod answers;
mod budget;
mod cache;
mod cache_key;
mod cache_safety;
mod compaction;
mod config;
mod edge;
mod every_way_out;
mod flight;
mod golden;
mod ledger;
mod money;
mod paths;
mod price;
mod route;
mod route_robust;
mod self_check;
mod split;
mod sticky;
mod tenant;
mod tokens;
mod ways_in;
