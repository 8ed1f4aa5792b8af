//! What was measured, in words for people and as JSON lines.

use std::io::{self, Write};
use std::path::Path;

use farthing_core::route::GainCalibration;
use serde_json::json;

use super::train::Quality;

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

pub(super) fn quality(out: &mut impl Write, file: Option<&Path>, of: &Quality) -> io::Result<()> {
    let name = file.map_or("all".into(), |path| path.display().to_string());
    write!(
        out,
        "{name}: {} rows, weak {:.3}, strong {:.3}, ",
        of.rows, of.weak_accuracy, of.strong_accuracy
    )?;
    match of.apgr {
        Some((value, [low, high])) => writeln!(
            out,
            "APGR {value:.3} ({low:.3} to {high:.3}), by length {:.3}",
            of.apgr_length.unwrap_or(CHANCE)
        ),
        None => writeln!(out, "no APGR: the strong model is not better"),
    }
}

pub(super) fn quality_json(
    out: &mut impl Write,
    file: Option<&Path>,
    of: &Quality,
) -> io::Result<()> {
    let line = json!({"eval": "router", "metric": "apgr", "file": file, "rows": of.rows,
        "value": of.apgr.map(|(value, _)| value), "ci95": of.apgr.map(|(_, interval)| interval),
        "baseline": "length", "baseline_value": of.apgr_length,
        "weak_accuracy": of.weak_accuracy, "strong_accuracy": of.strong_accuracy});
    writeln!(out, "{line}")
}
