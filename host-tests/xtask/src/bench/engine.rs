//! What batching brings: prefill and decode of each model with 1, 4 and 8 sequences, and the wall
//! time of 8 requests together beside the same 8 one after another. Over HTTP, as clients see it.
//!
//! The requests carry no tenant, so that no sequence finds another's prefix in the cache.

use super::report::{Metric, median};
use super::streams::{self, Ask, Streamed};
use crate::error::XtaskError;
use crate::signals::Interrupt;
use farthing_host_tests::backend::{Backend, BackendOptions};
use std::net::SocketAddr;

const MODELS: [&str; 2] = ["smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct"];
const SEQUENCES: [usize; 3] = [1, 4, 8];
const ROUNDS: usize = 3;
/// Words of a long prompt: some 350 tokens.
const PREFILL_WORDS: usize = 300;
/// Long enough for decode to outweigh the rest.
const DECODE_TOKENS: u64 = 48;

/// Measures every model.
pub fn run(interrupt: &Interrupt) -> Result<Vec<Metric>, XtaskError> {
    let backend = interrupt.race(|| Backend::start(&BackendOptions::new()))??;
    let address = backend.address();
    let mut metrics = Vec::new();
    for model in MODELS {
        for ask in asks(model, 1, PREFILL_WORDS, 2) {
            interrupt.race(move || streams::one_by_one(address, &[ask]))??;
        }
        metrics.extend(prefill(address, model, interrupt)?);
        metrics.extend(decode(address, model, interrupt)?);
        eprintln!("bench: {model} done");
    }
    Ok(metrics)
}

/// Prompt tokens a second until every sequence has its first token.
fn prefill(
    address: SocketAddr,
    model: &'static str,
    interrupt: &Interrupt,
) -> Result<Vec<Metric>, XtaskError> {
    let mut rates = vec![Vec::new(); SEQUENCES.len()];
    for _ in 0..ROUNDS {
        for (place, count) in SEQUENCES.into_iter().enumerate() {
            let asks = asks(model, count, PREFILL_WORDS, 1);
            let streams = interrupt.race(move || streams::together(address, &asks))??;
            let tokens: u64 = streams.iter().map(|stream| stream.prompt_tokens).sum();
            rates[place].push(tokens as f64 / streams::wall(&streams).as_secs_f64());
        }
    }
    Ok(beside_one(model, "prefill", &rates))
}

/// Completion tokens a second, and what being together is worth.
fn decode(
    address: SocketAddr,
    model: &'static str,
    interrupt: &Interrupt,
) -> Result<Vec<Metric>, XtaskError> {
    let mut rates = vec![Vec::new(); SEQUENCES.len()];
    let (mut together_s, mut sequential_s) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (place, count) in SEQUENCES.into_iter().enumerate() {
            let asks = asks(model, count, 4, DECODE_TOKENS);
            let streams = interrupt.race(move || streams::together(address, &asks))??;
            rates[place].push(decode_rate(&streams));
            if count == SEQUENCES[SEQUENCES.len() - 1] {
                together_s.push(streams::wall(&streams).as_secs_f64());
            }
        }
        let asks = asks(model, SEQUENCES[SEQUENCES.len() - 1], 4, DECODE_TOKENS);
        let streams = interrupt.race(move || streams::one_by_one(address, &asks))??;
        sequential_s.push(streams::wall(&streams).as_secs_f64());
    }
    let mut metrics = beside_one(model, "decode", &rates);
    let (together, sequential) = (median(&together_s), median(&sequential_s));
    // Requests a second, so that a ratio above 1 is the gain.
    let per_s = |seconds: f64| SEQUENCES[SEQUENCES.len() - 1] as f64 / seconds;
    metrics.push(
        Metric::new("engine", format!("{model}/8_together"), "1/s")
            .beside(per_s(together), "one after another", per_s(sequential))
            .ratio_at_least(1.0),
    );
    Ok(metrics)
}

/// Tokens after the first of each sequence, over the time in which they came.
fn decode_rate(streams: &[Streamed]) -> f64 {
    let tokens: u64 = streams
        .iter()
        .map(|stream| stream.completion_tokens.saturating_sub(1))
        .sum();
    let first = streams.iter().map(|stream| stream.first).min();
    let last = streams.iter().map(|stream| stream.last).max();
    let seconds = first
        .zip(last)
        .map_or(0.0, |(first, last)| (last - first).as_secs_f64());
    if seconds == 0.0 {
        0.0
    } else {
        tokens as f64 / seconds
    }
}

/// Each number of sequences beside a single one.
fn beside_one(model: &str, what: &str, rates: &[Vec<f64>]) -> Vec<Metric> {
    let one = rates.first().map_or(0.0, |rates| median(rates));
    SEQUENCES
        .iter()
        .zip(rates)
        .map(|(count, rates)| {
            Metric::new("engine", format!("{model}/{what}_{count}"), "tokens/s").beside(
                median(rates),
                "one sequence",
                one,
            )
        })
        .collect()
}

/// Different prompts, so that no two sequences are the same work.
fn asks(model: &str, count: usize, words: usize, max_tokens: u64) -> Vec<Ask> {
    const VOCABULARY: [&str; 12] = [
        "river", "stone", "market", "window", "engine", "letter", "garden", "north", "silver",
        "table", "winter", "harbour",
    ];
    (0..count)
        .map(|index| {
            let words = (0..words)
                .map(|word| VOCABULARY[(word * 5 + word * word / (index + 2) + index) % 12]);
            let text: Vec<&str> = words.collect();
            Ask {
                model: model.to_string(),
                prompt: format!("Story {index} about the {}", text.join(" ")),
                max_tokens,
            }
        })
        .collect()
}
