//! What is shipped to run in production: every file of `envoy/` is read by what it is for, and what
//! Envoy runs is run by Envoy.

mod certificates;
mod istio;
mod production;
mod production_edge;
mod providers;
mod reload;
mod tls;
