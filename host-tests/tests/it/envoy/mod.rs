//! Real Envoy with the real filter, between our client and scripted upstreams.

pub mod bodies;
mod budgets;
mod caching;
mod configurations;
pub mod edge;
mod errors;
mod failures;
mod ledger;
mod observability;
mod routing;
mod single_flight;
mod vocabularies;
mod ways_in;
