//! What the backend's engine does, over HTTP as clients see it: beside llama.cpp's server with the
//! same model, threads and requests in turn; how latency holds while others prefill; what a shared
//! prefix saves; how near it is to what memory can give; what fewer bits and guessing ahead bring;
//! recorded traces; what answering for less costs where it saves nothing; and how it fares beside a
//! busy Envoy.

mod bandwidth;
mod beside_envoy;
mod latency;
mod memory;
mod overhead;
mod prompts;
mod servers;
mod speculation;
mod speed;
mod tool;
mod traces;

pub use servers::llama_cpp;

use super::report::Metric;
use crate::cli::BenchOptions;
use crate::error::XtaskError;
use crate::signals::Interrupt;
use std::time::Instant;

/// Threads that compute, of either server.
const THREADS: usize = 2;
const SMOLLM2: &str = "smollm2-135m-instruct";
const QWEN: &str = "qwen2.5-coder-0.5b-instruct";

/// What a part needs.
struct Bench<'a> {
    interrupt: &'a Interrupt,
    peers: Peers,
}

/// Whether llama.cpp is built and measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peers {
    Measured,
    LeftOut,
}

/// A part of the benchmark, by its name.
type Part = (
    &'static str,
    fn(&Bench<'_>) -> Result<Vec<Metric>, XtaskError>,
);

const PARTS: [Part; 8] = [
    ("speed", speed::run),
    ("latency", latency::run),
    ("bandwidth", bandwidth::run),
    ("memory", memory::run),
    ("speculation", speculation::run),
    ("traces", traces::run),
    ("overhead", overhead::run),
    ("beside-envoy", beside_envoy::run),
];

/// Measures every part, or the one that was asked for.
pub fn run(options: &BenchOptions, interrupt: &Interrupt) -> Result<Vec<Metric>, XtaskError> {
    let peers = if options.without_peers {
        Peers::LeftOut
    } else {
        Peers::Measured
    };
    let bench = Bench { interrupt, peers };
    let mut metrics = Vec::new();
    for (name, part) in PARTS {
        if options.only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let started = Instant::now();
        metrics.extend(part(&bench)?);
        eprintln!("bench: {name} ({:.0} s)", started.elapsed().as_secs_f64());
    }
    if metrics.is_empty() {
        let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        return Err(XtaskError::Unexpected(format!(
            "--only takes one of {}",
            names.join(", ")
        )));
    }
    Ok(metrics)
}
