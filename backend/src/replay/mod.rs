//! `farthing replay`: parts of the engine on recorded traces. [`mooncake`] reads a trace of
//! prompts' blocks and [`measure`] counts what a pool of blocks would have saved; [`azure`] reads
//! one of arrivals and [`coalesce`] holds requests back. All purely; here files are read and
//! results said.

pub mod azure;
pub mod coalesce;
pub mod measure;
pub mod mooncake;

use std::fs;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::Path;

use farthing_core::limits::{
    ENGINE_RUNNING_MAX, ENGINE_STEP_TOKENS_MAX, REPLAY_BYTES_MAX, REPLAY_POOL_BLOCKS_MAX,
};
use serde_json::json;

use crate::cli::{ReplayAzureArgs, ReplayMooncakeArgs};
use crate::error::BackendError;
use coalesce::{Experiment, Outcome, StepCost, simulate};
use measure::PrefixHits;

/// `farthing replay mooncake`: replays a trace at each size of the pool that is asked for.
///
/// # Errors
/// The file cannot be read or is not such a trace, by its line; the result cannot be printed.
pub fn replay_mooncake(args: &ReplayMooncakeArgs) -> Result<(), BackendError> {
    let blocks = args.blocks.iter().map(|blocks| blocks.get()).max();
    check("--blocks", blocks.unwrap_or(0), REPLAY_POOL_BLOCKS_MAX)?;
    let text = read(&args.file)?;
    let requests = mooncake::parse(&text).map_err(|problem| wrong(&args.file, problem))?;
    let mut out = io::stdout().lock();
    for blocks in &args.blocks {
        let hits = PrefixHits::measure(&requests, blocks.get());
        let said = if args.json {
            report_json(&mut out, blocks.get(), &hits)
        } else {
            report(&mut out, blocks.get(), &hits)
        };
        said.map_err(|source| BackendError::Io {
            what: "standard output".to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// `farthing replay azure`: replays a trace at each speed, with each window.
///
/// # Errors
/// The file cannot be read or is not such a trace, by its line; the result cannot be printed.
pub fn replay_azure(args: &ReplayAzureArgs) -> Result<(), BackendError> {
    check("--running-max", args.running_max.get(), ENGINE_RUNNING_MAX)?;
    check(
        "--step-tokens",
        args.step_tokens.get(),
        ENGINE_STEP_TOKENS_MAX,
    )?;
    let text = read(&args.file)?;
    let mut requests = azure::parse(&text).map_err(|problem| wrong(&args.file, problem))?;
    requests.truncate(args.requests.map_or(usize::MAX, NonZeroUsize::get));
    let cost = StepCost {
        step_us: args.step_us.get().into(),
        prefill_token_us: args.prefill_token_us.into(),
        decode_token_us: args.decode_token_us.into(),
    };
    let mut out = io::stdout().lock();
    for speed in &args.speeds {
        for &window_ms in &args.windows_ms {
            let experiment = Experiment {
                speed: speed.get().into(),
                window_us: (window_ms > 0).then(|| window_ms.saturating_mul(1_000)),
                cost,
                step_tokens: args.step_tokens.get(),
                running_max: args.running_max.get(),
            };
            let outcome = simulate(&requests, &experiment);
            let said = if args.json {
                window_json(&mut out, speed.get(), window_ms, &outcome)
            } else {
                window_line(&mut out, speed.get(), window_ms, &outcome)
            };
            said.map_err(|source| BackendError::Io {
                what: "standard output".to_owned(),
                source,
            })?;
        }
    }
    Ok(())
}

/// A trace's text, which is bounded.
fn read(path: &Path) -> Result<String, BackendError> {
    let failed = |source| BackendError::Io {
        what: path.display().to_string(),
        source,
    };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    let mut bounded = file.take(REPLAY_BYTES_MAX + 1);
    let bytes = bounded.read_to_string(&mut text).map_err(failed)?;
    if bytes as u64 > REPLAY_BYTES_MAX {
        return Err(wrong(
            path,
            format!("the file has over {REPLAY_BYTES_MAX} bytes"),
        ));
    }
    Ok(text)
}

fn check(argument: &str, value: usize, max: usize) -> Result<(), BackendError> {
    if value <= max {
        return Ok(());
    }
    Err(BackendError::Config {
        path: argument.to_owned(),
        message: format!("{value} is over {max}"),
    })
}

fn wrong(path: &Path, problem: String) -> BackendError {
    BackendError::Trace(format!("{}: {problem}", path.display()))
}

fn window_line(
    out: &mut impl Write,
    speed: u32,
    window_ms: u64,
    outcome: &Outcome,
) -> io::Result<()> {
    writeln!(
        out,
        "{speed} x, window {window_ms} ms: first token p50 {:.0} ms, p99 {:.0} ms, answer p50 {:.0} ms, \
         {:.1} decode together, {:.0} us a token",
        outcome.first_token_ms_p50,
        outcome.first_token_ms_p99,
        outcome.answer_ms_p50,
        outcome.decoding,
        outcome.busy_us_per_token
    )
}

fn window_json(
    out: &mut impl Write,
    speed: u32,
    window_ms: u64,
    outcome: &Outcome,
) -> io::Result<()> {
    let line = json!({"replay": "azure", "speed": speed, "window_ms": window_ms,
        "first_token_ms_p50": outcome.first_token_ms_p50,
        "first_token_ms_p99": outcome.first_token_ms_p99, "answer_ms_p50": outcome.answer_ms_p50,
        "decoding": outcome.decoding, "busy_us_per_token": outcome.busy_us_per_token,
        "generated_tokens": outcome.generated_tokens});
    writeln!(out, "{line}")
}

fn report(out: &mut impl Write, blocks: usize, hits: &PrefixHits) -> io::Result<()> {
    let percent = |count| 100.0 * hits.share(count);
    writeln!(
        out,
        "{blocks} blocks, {} requests of {} blocks: {:.2} % hit, plain LRU {:.2} %, unbounded {:.2} %",
        hits.requests,
        hits.asked,
        percent(hits.pool),
        percent(hits.lru),
        percent(hits.unbounded)
    )
}

fn report_json(out: &mut impl Write, blocks: usize, hits: &PrefixHits) -> io::Result<()> {
    let line = json!({"replay": "mooncake", "metric": "prefix_hit_share", "blocks": blocks,
        "value": hits.share(hits.pool), "baseline": "lru", "baseline_value": hits.share(hits.lru),
        "unbounded": hits.share(hits.unbounded), "requests": hits.requests,
        "asked_blocks": hits.asked, "hit_blocks": hits.pool});
    writeln!(out, "{line}")
}
