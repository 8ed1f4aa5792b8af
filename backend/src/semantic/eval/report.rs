//! What was measured, in words for people and as JSON lines.

use std::io::{self, Write};

use serde_json::json;

use crate::error::BackendError;
use crate::semantic::interval;

/// A share of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub hits: u64,
    pub sample: u64,
}

/// One number, beside that of the cache that goes by cosine alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric {
    pub name: &'static str,
    pub share: Share,
    pub baseline: Share,
}

impl Share {
    /// 0 of nothing.
    pub(super) fn value(self) -> f64 {
        self.hits as f64 / self.sample.max(1) as f64
    }
}

pub(super) fn json(out: &mut impl Write, eval: &str, metrics: &[Metric]) -> io::Result<()> {
    for metric in metrics {
        let Share { hits, sample } = metric.share;
        let line = json!({"eval": eval, "metric": metric.name, "value": metric.share.value(),
            "ci95": interval::ci95(hits, sample), "hits": hits, "sample": sample,
            "baseline": "cosine@0.90", "baseline_value": metric.baseline.value()});
        writeln!(out, "{line}")?;
    }
    Ok(())
}

pub(super) fn table(out: &mut impl Write, metrics: &[Metric]) -> io::Result<()> {
    writeln!(
        out,
        "{:28}{:>9}   {:20}{:>12}",
        "", "verified", "95 %", "cosine 0.90"
    )?;
    for metric in metrics {
        let [low, high] = interval::ci95(metric.share.hits, metric.share.sample);
        writeln!(
            out,
            "{:28}{:>7.2} %   {:20}{:>10.2} %",
            metric.name,
            metric.share.value() * 100.0,
            format!("{:.2} to {:.2}", low * 100.0, high * 100.0),
            metric.baseline.value() * 100.0
        )?;
    }
    Ok(())
}

pub(super) fn cannot_print(error: io::Error) -> BackendError {
    BackendError::SemanticEval(format!("cannot print: {error}"))
}
