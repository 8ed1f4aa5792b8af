//! Real Envoy with the real filter, between our client and scripted upstreams.

pub mod bodies;
mod broken_streams;
mod budgets;
mod caching;
mod configurations;
pub mod edge;
mod errors;
mod failures;
mod ledger;
mod malformed;
mod observability;
mod routing;
mod single_flight;
mod traps;
mod vocabularies;
mod ways_in;
