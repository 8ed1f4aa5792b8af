//! How near one sequence's decode comes to what memory can give: each token reads every weight, so
//! the file's bytes over the bandwidth bound it.

use super::prompts::{self, SHORT_WORDS};
use super::{Bench, QWEN, SMOLLM2, THREADS, servers, speed};
use crate::bench::report::{Metric, median};
use crate::bench::streams;
use crate::error::XtaskError;
use farthing_host_tests::paths;
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: usize = 5;
const DECODE_TOKENS: u64 = 64;
/// Words that one thread reads: far more than any cache holds.
const WORDS: usize = 32 << 20;
const PASSES: usize = 4;

/// Measures memory and decode in turns.
pub fn run(bench: &Bench<'_>) -> Result<Vec<Metric>, XtaskError> {
    let server = servers::backend(bench)?;
    let address = server.address;
    let memory: Vec<Vec<u64>> = (0..THREADS).map(|_| vec![1; WORDS]).collect();
    let mut metrics = Vec::new();
    for model in [SMOLLM2, QWEN] {
        let file = paths::models().join(format!("{model}.gguf"));
        let bytes = std::fs::metadata(&file)
            .map_err(XtaskError::file("read", &file))?
            .len() as f64;
        let (mut rates, mut limits, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let bandwidth = read_bytes_per_s(&memory);
            let asks = prompts::asks(model, 1, SHORT_WORDS, DECODE_TOKENS);
            let streams = bench
                .interrupt
                .race(move || streams::together(address, &asks))??;
            let rate = speed::decode_rate(&streams);
            limits.push(bandwidth / bytes);
            shares.push(rate * bytes / bandwidth);
            rates.push(rate);
        }
        let bandwidth = median(&limits) * bytes / 1e9;
        metrics.push(
            Metric::new("engine", format!("{model}/bandwidth_share"), "tokens/s")
                .beside(median(&rates), "memory's limit", median(&limits))
                .with_ratio(median(&shares))
                .note(format!("{bandwidth:.1} GB/s read by {THREADS} threads")),
        );
    }
    Ok(metrics)
}

/// What the threads read together in a second.
fn read_bytes_per_s(memory: &[Vec<u64>]) -> f64 {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for words in memory {
            scope.spawn(move || {
                for _ in 0..PASSES {
                    black_box(sum(black_box(words)));
                }
            });
        }
    });
    let bytes = memory.len() * WORDS * PASSES * size_of::<u64>();
    bytes as f64 / started.elapsed().as_secs_f64()
}

/// A sum in lanes, which the compiler makes vectors of.
fn sum(words: &[u64]) -> u64 {
    let mut lanes = [0u64; 32];
    for chunk in words.chunks_exact(lanes.len()) {
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.iter().fold(0, |sum, lane| sum.wrapping_add(*lane))
}
