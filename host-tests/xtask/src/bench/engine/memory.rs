//! What a model takes in fewer bits, beside F16: its weights, what the process holds, and what that
//! costs in perplexity.

use super::{Bench, SMOLLM2, THREADS, tool};
use crate::bench::report::Metric;
use crate::error::XtaskError;
use farthing_host_tests::paths;
use farthing_host_tests::process::run_folder;
use std::path::{Path, PathBuf};

/// The formats, and the most that each may take of F16 by what the field says of 8 and of 4 bits:
/// as if scales took nothing.
const FORMATS: [(&str, f64); 4] = [
    ("q8_0", 0.5),
    ("q4_1", 0.25),
    ("q4_k", 0.25),
    ("q4_0", 0.25),
];

/// Quantizes the model to each format and measures it.
pub fn run(bench: &Bench<'_>) -> Result<Vec<Metric>, XtaskError> {
    let folder = run_folder("bench")?;
    let original = paths::models().join(format!("{SMOLLM2}.gguf"));
    let f16 = quantize(bench, &original, "f16", &folder)?.0;
    let f16_resident = resident_mib(bench, &f16)?;
    let mut metrics = Vec::new();
    for (format, share) in FORMATS {
        let (file, report) = quantize(bench, &f16, format, &folder)?;
        let mib = |field| Ok::<f64, XtaskError>(tool::number(&report, field)? / f64::from(1 << 20));
        let bits = tool::number(&report, "bits_per_weight_after")?;
        let before = tool::number(&report, "perplexity_before")?;
        let after = tool::number(&report, "perplexity_after")?;
        let percent = (after / before - 1.0) * 100.0;
        metrics.push(
            Metric::new("engine", format!("memory/{format}/weights"), "MiB")
                .beside(mib("bytes_after")?, "F16", mib("bytes_before")?)
                .ratio_at_most(share)
                .note(format!(
                    "{bits:.2} bits a weight with scales and a head of 8 bits; \
                     perplexity {before:.2} to {after:.2}, {percent:+.2} %"
                )),
        );
        metrics.push(
            Metric::new("engine", format!("memory/{format}/resident"), "MiB").beside(
                resident_mib(bench, &file)?,
                "F16",
                f16_resident,
            ),
        );
    }
    Ok(metrics)
}

/// Makes `to` of the file. Returns where it is, and what was said of it.
fn quantize(
    bench: &Bench<'_>,
    from: &Path,
    to: &str,
    folder: &Path,
) -> Result<(PathBuf, serde_json::Value), XtaskError> {
    let out = folder.join(format!("{to}.gguf"));
    let text = paths::workspace_root().join("backend/tests/data/perplexity.txt");
    let arguments = [
        "quantize".as_ref(),
        "--requantize".as_ref(),
        "--force".as_ref(),
        "--json".as_ref(),
        "--to".as_ref(),
        to.as_ref(),
        "--from".as_ref(),
        from.as_os_str(),
        "--out".as_ref(),
        out.as_os_str(),
        "--text".as_ref(),
        text.as_os_str(),
    ];
    let lines = tool::json_lines(bench.interrupt, arguments)?;
    let report = lines.into_iter().next().unwrap_or_default();
    Ok((out, report))
}

/// What a process holds that has answered with this model.
fn resident_mib(bench: &Bench<'_>, model: &Path) -> Result<f64, XtaskError> {
    let json = model.with_extension("jsonl");
    let threads = THREADS.to_string();
    let arguments = [
        "bench".as_ref(),
        "--model".as_ref(),
        model.as_os_str(),
        "--threads".as_ref(),
        threads.as_ref(),
        "--prompt-tokens".as_ref(),
        "64".as_ref(),
        "--generate-tokens".as_ref(),
        "16".as_ref(),
        "--sequences".as_ref(),
        "1".as_ref(),
        "--repetitions".as_ref(),
        "1".as_ref(),
        "--json".as_ref(),
        json.as_os_str(),
    ];
    tool::json_lines(bench.interrupt, arguments)?;
    let text = std::fs::read_to_string(&json).map_err(XtaskError::file("read", &json))?;
    let lines = tool::values(text.lines());
    let line = lines.iter().find(|line| line["metric"] == "rss_mib");
    tool::number(line.unwrap_or(&serde_json::Value::Null), "value")
}
