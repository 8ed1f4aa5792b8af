//! How soon the first token comes where a prefix is known, and how evenly tokens come while
//! another prompt is prefilled.

use super::prompts::{self, SHORT_WORDS};
use super::{Bench, SMOLLM2, servers};
use crate::bench::report::{Metric, median};
use crate::bench::streams::{self, Ask, Streamed};
use crate::error::XtaskError;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 3;
/// Words of a shared prefix of 1,000 tokens, about.
const PREFIX_WORDS: usize = 860;
/// Words of a prompt of 4,000 tokens, about.
const INTRUDER_WORDS: usize = 3_440;
/// Sequences that decode while it is prefilled, and tokens of each: more than that takes.
const NEIGHBOURS: usize = 4;
const NEIGHBOUR_TOKENS: u64 = 1_200;
/// How long the neighbours decode alone before the long prompt comes.
const HEAD_START: Duration = Duration::from_millis(400);

/// Measures both.
pub fn run(bench: &Bench<'_>) -> Result<Vec<Metric>, XtaskError> {
    let server = servers::backend(bench)?;
    let address = server.address;
    let mut metrics = vec![shared_prefix(bench, address)?];
    metrics.extend(interference(bench, address)?);
    Ok(metrics)
}

/// The time to the first token of a prompt whose first 1,000 tokens the tenant has sent before.
fn shared_prefix(bench: &Bench<'_>, address: SocketAddr) -> Result<Metric, XtaskError> {
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let ask = |question: &str| Ask {
            model: SMOLLM2.to_string(),
            prompt: format!("{} {question}", prompts::text(round, PREFIX_WORDS)),
            max_tokens: 1,
            tenant: Some(format!("tenant-{round}")),
        };
        for (question, times) in [("Where is it?", &mut cold), ("Who was there?", &mut warm)] {
            let ask = ask(question);
            let streamed = bench
                .interrupt
                .race(move || streams::stream(address, &ask))??;
            times.push(streamed.first_token_ms());
        }
    }
    Ok(
        Metric::new("engine", "shared_prefix_1000/ttft_speedup", "ms")
            .beside(median(&cold), "warm", median(&warm))
            .ratio_at_least(10.0)
            .note("value: cold"),
    )
}

/// The times between tokens of sequences that decode, alone and while a prompt of 4,000 tokens is
/// prefilled.
fn interference(bench: &Bench<'_>, address: SocketAddr) -> Result<Vec<Metric>, XtaskError> {
    let (mut idle, mut busy, mut intruders) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let neighbours = prompts::asks(SMOLLM2, NEIGHBOURS, SHORT_WORDS, NEIGHBOUR_TOKENS);
        let asks = neighbours.clone();
        let alone = bench
            .interrupt
            .race(move || streams::together(address, &asks))??;
        idle.push(percentile_99(&gaps(&alone, None)));
        let intruder = Ask {
            model: SMOLLM2.to_string(),
            prompt: prompts::text(round, INTRUDER_WORDS),
            max_tokens: 1,
            tenant: None,
        };
        let (streams, intruder) = bench
            .interrupt
            .race(move || with_intruder(address, &neighbours, &intruder))??;
        let during = (intruder.started, intruder.last());
        busy.push(percentile_99(&gaps(&streams, Some(during))));
        intruders.push(intruder.first_token_ms());
    }
    let (idle, busy) = (median(&idle), median(&busy));
    Ok(vec![
        Metric::new("engine", "inter_token_p99_during_prefill_4000", "ms")
            .beside(busy, "idle", idle)
            .ratio_at_most(2.0),
        Metric::new("engine", "prefill_4000_beside_4_decoding/ttft", "ms")
            .alone(median(&intruders)),
    ])
}

/// The neighbours' streams and the long prompt's, which comes when they are at work.
fn with_intruder(
    address: SocketAddr,
    neighbours: &[Ask],
    intruder: &Ask,
) -> Result<(Vec<Streamed>, Streamed), XtaskError> {
    thread::scope(|scope| {
        let late = scope.spawn(|| {
            thread::sleep(HEAD_START);
            streams::stream(address, intruder)
        });
        let streams = streams::together(address, neighbours)?;
        let panicked = || XtaskError::Unexpected("a client of the benchmark panicked".to_string());
        let late = late.join().unwrap_or_else(|_| Err(panicked()))?;
        Ok((streams, late))
    })
}

/// Milliseconds between neighbouring pieces, of those that came in this time.
fn gaps(streams: &[Streamed], during: Option<(Instant, Instant)>) -> Vec<f64> {
    let inside = |at: &Instant| during.is_none_or(|(from, to)| (from..=to).contains(at));
    streams
        .iter()
        .flat_map(|stream| stream.pieces.windows(2))
        .filter(|pair| inside(&pair[1]))
        .map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3)
        .collect()
}

fn percentile_99(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get(sorted.len().saturating_sub(1) * 99 / 100)
        .copied()
        .unwrap_or(0.0)
}
