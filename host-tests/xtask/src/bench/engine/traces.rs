//! The engine's decisions on recorded traces: prefix hits of a bounded pool beside plain LRU's, and
//! what holding requests back would do. The traces lie beside the checkout or in `FARTHING_DATA`.

use super::{Bench, tool};
use crate::bench::report::{Goal, Metric};
use crate::error::XtaskError;
use farthing_host_tests::paths;
use std::ffi::OsStr;
use std::path::Path;

const MOONCAKE: &str = "mooncake/conversation_trace.jsonl";
const AZURE: &str = "azure_llm/AzureLLMInferenceTrace_conv.csv";
/// Blocks of 512 tokens: from what one card holds to where LRU finds nearly all.
const BLOCKS: &str = "1000,5000,10000,20000,30000,50000";
/// What plain LRU may find of an unbounded pool's hits for more to be asked.
const NEARLY_ALL: f64 = 0.95;
/// A card for which the trace's own rate is no overload: milliseconds of a step, microseconds of a
/// prompt's token and of a sequence that decodes.
const STEP_COST: [&str; 6] = [
    "--step-us=8000",
    "--prefill-token-us=20",
    "--decode-token-us=50",
    "--step-tokens=2048",
    "--running-max=256",
    "--requests=2000",
];

/// Replays both.
pub fn run(bench: &Bench<'_>) -> Result<Vec<Metric>, XtaskError> {
    let mut metrics = Vec::new();
    for (file, replay) in [
        (MOONCAKE, mooncake as fn(&Bench<'_>, &Path) -> _),
        (AZURE, azure),
    ] {
        let path = paths::data(file);
        if path.exists() {
            metrics.extend(replay(bench, &path)?);
        } else {
            let reason = format!("not measured: FARTHING_DATA has no {file}");
            let metric = Metric::new("engine", format!("replay/{file}"), "");
            metrics.push(metric.not_measured(1.0, Goal::RatioAtLeast, &reason));
        }
    }
    Ok(metrics)
}

fn mooncake(bench: &Bench<'_>, trace: &Path) -> Result<Vec<Metric>, XtaskError> {
    let arguments = [
        "replay".as_ref(),
        "mooncake".as_ref(),
        trace.as_os_str(),
        "--json".as_ref(),
        "--blocks".as_ref(),
        BLOCKS.as_ref(),
    ];
    let lines = tool::json_lines(bench.interrupt, arguments)?;
    let metric = |line: &serde_json::Value| {
        let percent = |field| Ok::<f64, XtaskError>(tool::number(line, field)? * 100.0);
        let name = format!("mooncake/prefix_hits_{}_blocks", line["blocks"]);
        let (lru, unbounded) = (percent("baseline_value")?, percent("unbounded")?);
        let metric = Metric::new("engine", name, "%")
            .beside(percent("value")?, "plain LRU", lru)
            .note(format!("an unbounded pool: {unbounded:.1} %"));
        // Where plain LRU finds all but nothing is left to win.
        Ok(match lru < NEARLY_ALL * unbounded {
            true => metric.ratio_at_least(1.0),
            false => metric,
        })
    };
    lines.iter().map(metric).collect()
}

/// First tokens with a window beside those without, at each speed. The engine itself holds nothing
/// back, so it is what the rows without a window are.
fn azure(bench: &Bench<'_>, trace: &Path) -> Result<Vec<Metric>, XtaskError> {
    let mut arguments = vec![trace.as_os_str()];
    arguments.splice(0..0, ["replay", "azure"].map(OsStr::new));
    arguments.extend(["--json", "--windows-ms=0,50,100", "--speeds=1,10,50"].map(OsStr::new));
    arguments.extend(STEP_COST.map(OsStr::new));
    let lines = tool::json_lines(bench.interrupt, arguments)?;
    let mut metrics = Vec::new();
    for line in lines.iter().filter(|line| line["window_ms"] != 0) {
        let none = lines
            .iter()
            .find(|none| none["speed"] == line["speed"] && none["window_ms"] == 0);
        let none = none.unwrap_or(&serde_json::Value::Null);
        let name = format!(
            "azure/window_{}_ms/{}x/ttft_p50",
            line["window_ms"], line["speed"]
        );
        let first = |line| tool::number(line, "first_token_ms_p50");
        let cost = |line| tool::number(line, "busy_us_per_token");
        let note = format!(
            "a token computes in {:.0} us, without a window in {:.0}",
            cost(line)?,
            cost(none)?
        );
        let metric = Metric::new("engine", name, "ms");
        metrics.push(
            metric
                .beside(first(line)?, "no window, as served", first(none)?)
                .note(note),
        );
    }
    Ok(metrics)
}
