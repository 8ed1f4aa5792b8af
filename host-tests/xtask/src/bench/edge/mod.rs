//! What the filter costs: Envoy with it, beside the same Envoy without it, beside Envoy answering
//! by itself, and beside other gateways. All have the same upstream and the same clients, and take
//! turns within each round, so that a noisy moment of the machine meets all of them.

mod answers;
mod bodies;
pub mod busy_envoy;
mod configs;
mod gateways;
mod lab;
mod memory;
mod peers;
mod reasons;
mod sizes;
mod speed;
mod streaming;
mod texts;
mod tokens;

use super::report::Metric;
use crate::cli::BenchOptions;
use crate::error::XtaskError;
use crate::signals::Interrupt;
use lab::Lab;
use std::time::Instant;

/// The part that installs other gateways, some 200 MB of packages.
const PEERS: &str = "peers";

/// A part of the benchmark, by its name.
type Part = (
    &'static str,
    fn(&mut Lab) -> Result<Vec<Metric>, XtaskError>,
);

const PARTS: [Part; 6] = [
    ("speed", speed::run),
    ("sizes", sizes::run),
    ("streaming", streaming::run),
    ("tokens", tokens::run),
    ("memory", memory::run),
    (PEERS, peers::run),
];

/// Measures every part, or the one that was asked for.
pub fn run(options: &BenchOptions, interrupt: &Interrupt) -> Result<Vec<Metric>, XtaskError> {
    let mut lab = Lab::start(interrupt)?;
    let mut metrics = Vec::new();
    for (name, part) in PARTS {
        if options.only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        if options.without_peers && name == PEERS {
            eprintln!("bench: not beside other gateways, as was asked for");
            continue;
        }
        let started = Instant::now();
        metrics.extend(part(&mut lab)?);
        let seconds = started.elapsed().as_secs_f64();
        eprintln!("bench: {name} ({seconds:.0} s)");
    }
    if metrics.is_empty() {
        let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        return Err(XtaskError::Unexpected(format!(
            "--only takes one of {}",
            names.join(", ")
        )));
    }
    Ok(reasons::explain(metrics))
}
