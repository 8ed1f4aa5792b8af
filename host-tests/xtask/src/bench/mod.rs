//! `cargo xtask bench`: figures with a peer beside them, from one run on one machine. A missed
//! target is reported and fails nothing: machines differ, and a report must come to its end.

mod cache;
mod edge;
mod engine;
mod load;
mod report;
mod streams;

pub use engine::llama_cpp;

use crate::cli::{BenchName, BenchOptions};
use crate::error::XtaskError;
use crate::signals::Interrupt;
use crate::{build, fetch, runs};

/// Runs one benchmark, prints its table and writes its metrics.
pub fn run(options: &BenchOptions, interrupt: &Interrupt) -> Result<(), XtaskError> {
    let metrics = match options.name {
        BenchName::Cache => cache::run(interrupt)?,
        BenchName::Edge => {
            fetch::without_models(interrupt)?;
            build::filter(interrupt)?;
            build::bare_filter(interrupt)?;
            edge::run(options, interrupt)?
        }
        BenchName::Engine => {
            fetch::everything(interrupt)?;
            build::everything(interrupt)?;
            engine::run(options, interrupt)?
        }
    };
    runs::remove_own();
    report::print(&metrics);
    match &options.json {
        Some(path) => report::write_json(path, &metrics),
        None => Ok(()),
    }
}
