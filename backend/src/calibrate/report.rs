//! What was measured, in words for people and as JSON lines.

use std::io::{self, Write};
use std::path::Path;

use farthing_core::route::GainCalibration;
use serde_json::json;

use super::quality::Quality;
use crate::pre_router::Measured;
use crate::semantic::interval;

/// Of the share of the gap between the models that is closed, on average over all shares of
/// prompts that may go to the strong one.
const CHANCE: f64 = 0.5;

pub(super) fn calibration(
    out: &mut impl Write,
    calibration: &GainCalibration,
    base64: &str,
) -> io::Result<()> {
    let measured = calibration.measured;
    writeln!(out, "{} rows; APGR of", measured.rows)?;
    writeln!(
        out,
        "  this calibration, cross-validated  {:.3}",
        measured.apgr
    )?;
    if let Some(files_out) = measured.apgr_files_out {
        writeln!(out, "  the same, whole files left out     {files_out:.3}")?;
    }
    writeln!(
        out,
        "  the length of the prompt           {:.3}",
        measured.apgr_length
    )?;
    writeln!(out, "  chance                             {CHANCE:.3}")?;
    writeln!(out, "\nFor the filter's configuration:\n")?;
    writeln!(out, "routing:\n  calibration: {base64}")
}

pub(super) fn pre_router(out: &mut impl Write, measured: &Measured, file: &Path) -> io::Result<()> {
    let known = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    writeln!(out, "{} rows; APGR of", measured.rows)?;
    for (what, value) in [
        ("this pre-router, cross-validated", known(measured.apgr)),
        (
            "the same, whole files left out",
            known(measured.apgr_files_out),
        ),
        ("the length of the prompt", known(measured.apgr_length)),
        ("chance", known(Some(CHANCE))),
    ] {
        writeln!(out, "  {what:34} {value}")?;
    }
    writeln!(
        out,
        "asking the strong model where it gains: {:.3} right, {:.3} of prompts\n\
         the stated probability that the weak one is right is off by {:.3}\n\
         written to {}",
        measured.accuracy,
        measured.cost_share,
        measured.ece,
        file.display()
    )
}

pub(super) fn quality(out: &mut impl Write, file: Option<&Path>, of: &Quality) -> io::Result<()> {
    let name = file.map_or("all".into(), |path| path.display().to_string());
    write!(
        out,
        "{name}: {} rows, weak {:.3}, strong {:.3}, ",
        of.rows, of.weak_accuracy, of.strong_accuracy
    )?;
    match of.apgr {
        Some((value, [low, high])) => write!(
            out,
            "APGR {value:.3} ({low:.3} to {high:.3}), by length {:.3}",
            of.apgr_length.unwrap_or(CHANCE)
        )?,
        None => write!(out, "no APGR: the strong model is not better")?,
    }
    if let (Some(share), Some(length)) = (of.cost_share_95, of.cost_share_95_length) {
        write!(
            out,
            "; 95 % of strong at {share:.3} of its calls, by length {length:.3}"
        )?;
    }
    writeln!(
        out,
        "; where it gains: {:.3} right at {:.3} of its calls",
        of.accuracy(),
        of.cost_share()
    )
}

/// A line for each metric; the one that counts comes first.
pub(super) fn quality_json(
    out: &mut impl Write,
    file: Option<&Path>,
    of: &Quality,
) -> io::Result<()> {
    let rows = of.rows as u64;
    let best_alone = of.weak_accuracy.max(of.strong_accuracy);
    for (metric, value, ci95, (baseline, baseline_value)) in [
        (
            "apgr",
            of.apgr.map(|(value, _)| value),
            of.apgr.map(|(_, interval)| interval),
            ("length", of.apgr_length),
        ),
        (
            "accuracy",
            Some(of.accuracy()),
            Some(interval::ci95(of.right as u64, rows)),
            ("better_model_alone", Some(best_alone)),
        ),
        (
            "cost_share",
            Some(of.cost_share()),
            Some(interval::ci95(of.to_strong as u64, rows)),
            ("strong_alone", Some(1.0)),
        ),
        (
            "cost_share_at_95_percent",
            of.cost_share_95,
            None,
            ("length", of.cost_share_95_length),
        ),
    ] {
        let line = json!({"eval": "router", "metric": metric, "file": file, "rows": of.rows,
            "value": value, "ci95": ci95, "baseline": baseline,
            "baseline_value": baseline_value, "random": (metric == "apgr").then_some(CHANCE),
            "weak_accuracy": of.weak_accuracy, "strong_accuracy": of.strong_accuracy});
        writeln!(out, "{line}")?;
    }
    Ok(())
}
