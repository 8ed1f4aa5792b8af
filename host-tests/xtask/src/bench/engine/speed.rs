//! Prefill of one prompt and decode of 1, 8 and 16 sequences, of the backend and of llama.cpp's
//! server, which take turns. Ratios are medians of the rounds' ratios.

use super::prompts::{self, LONG_WORDS, SHORT_WORDS};
use super::servers::{self, Server};
use super::{Bench, Peers, QWEN, SMOLLM2, THREADS};
use crate::bench::report::{Metric, median};
use crate::bench::streams::{self, Streamed};
use crate::error::XtaskError;

const ROUNDS: usize = 5;
/// Sequences that decode together.
const SEQUENCES: [usize; 3] = [1, 8, 16];
/// Tokens of an answer: long enough for decode to outweigh the rest.
const DECODE_TOKENS: u64 = 48;

/// A model, and the least ratios to llama.cpp's server: of prefill, then of decode with 1, 8 and
/// 16 sequences.
const TARGETS: [(&str, f64, [f64; 3]); 2] = [
    (SMOLLM2, 2.0, [1.2, 2.5, 3.0]),
    (QWEN, 1.0, [1.0, 1.5, 2.0]),
];

/// Tokens a second of one round.
struct Round {
    prefill: f64,
    decode: [f64; SEQUENCES.len()],
}

/// Measures every model.
pub fn run(bench: &Bench<'_>) -> Result<Vec<Metric>, XtaskError> {
    let ours = servers::backend(bench)?;
    let mut metrics = Vec::new();
    for (model, prefill, decode) in TARGETS {
        let peer = match bench.peers {
            Peers::Measured => Some(servers::llama_cpp(bench.interrupt, model, THREADS)?),
            Peers::LeftOut => None,
        };
        let (mut our_rounds, mut peer_rounds) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            our_rounds.push(round(bench, &ours, model)?);
            if let Some(peer) = &peer {
                peer_rounds.push(round(bench, peer, model)?);
            }
        }
        metrics.push(metric(
            format!("{model}/prefill_512"),
            prefill,
            (&our_rounds, &peer_rounds),
            |round| round.prefill,
        ));
        for (place, (count, target)) in SEQUENCES.into_iter().zip(decode).enumerate() {
            let name = format!("{model}/decode_{count}");
            let rounds = (our_rounds.as_slice(), peer_rounds.as_slice());
            metrics.push(metric(name, target, rounds, |round| round.decode[place]));
        }
        metrics.push(gain(model, &our_rounds));
        metrics.push(alpha(model, &our_rounds));
        eprintln!("bench: {model} done");
    }
    Ok(metrics)
}

fn round(bench: &Bench<'_>, server: &Server, model: &'static str) -> Result<Round, XtaskError> {
    let address = server.address;
    let together = |count, words, max_tokens| {
        let asks = prompts::asks(model, count, words, max_tokens);
        bench
            .interrupt
            .race(move || streams::together(address, &asks))?
    };
    // The first request of a turn wakes threads and caches that slept while the other had its turn.
    together(1, SHORT_WORDS, 2)?;
    let prefilled: Vec<Streamed> = together(1, LONG_WORDS, 1)?;
    let tokens: u64 = prefilled.iter().map(|stream| stream.prompt_tokens).sum();
    let seconds = streams::wall(&prefilled).as_secs_f64();
    let mut decode = [0.0; SEQUENCES.len()];
    for (rate, count) in decode.iter_mut().zip(SEQUENCES) {
        *rate = decode_rate(&together(count, SHORT_WORDS, DECODE_TOKENS)?);
    }
    Ok(Round {
        prefill: tokens as f64 / seconds,
        decode,
    })
}

/// Tokens after the first of each sequence, over the time in which they came.
pub fn decode_rate(streams: &[Streamed]) -> f64 {
    let tokens: u64 = streams
        .iter()
        .map(|stream| stream.completion_tokens.saturating_sub(1))
        .sum();
    let first = streams.iter().map(Streamed::first).min();
    let last = streams.iter().map(Streamed::last).max();
    let seconds = first
        .zip(last)
        .map_or(0.0, |(first, last)| (last - first).as_secs_f64());
    if seconds == 0.0 {
        0.0
    } else {
        tokens as f64 / seconds
    }
}

fn metric(
    name: String,
    target: f64,
    (ours, peers): (&[Round], &[Round]),
    value: impl Fn(&Round) -> f64,
) -> Metric {
    let of = |rounds: &[Round]| rounds.iter().map(&value).collect::<Vec<f64>>();
    let (ours, peers) = (of(ours), of(peers));
    let metric = Metric::new("engine", name, "tokens/s");
    if peers.is_empty() {
        return metric.alone(median(&ours)).note("peers were left out");
    }
    let ratios: Vec<f64> = ours
        .iter()
        .zip(&peers)
        .map(|(ours, peer)| ours / peer)
        .collect();
    metric
        .beside(median(&ours), "llama.cpp server", median(&peers))
        .with_ratio(median(&ratios))
        .ratio_at_least(target)
}

/// What decoding eight together brings over one after another: 3 to 5 times, as the field has it.
fn gain(model: &str, rounds: &[Round]) -> Metric {
    let [one, eight, _] = [0, 1, 2].map(|place| {
        let rates = rounds.iter().map(|round| round.decode[place]);
        median(&rates.collect::<Vec<f64>>())
    });
    Metric::new("engine", format!("{model}/batching_gain_8"), "tokens/s")
        .beside(eight, "one at a time", one)
        .ratio_at_least(3.0)
}

/// X(B) = B^alpha * X(1): the exponent from one sequence to the most.
fn alpha(model: &str, rounds: &[Round]) -> Metric {
    let most = SEQUENCES.len() - 1;
    let exponents: Vec<f64> = rounds
        .iter()
        .map(|round| (round.decode[most] / round.decode[0]).ln() / (SEQUENCES[most] as f64).ln())
        .collect();
    Metric::new("engine", format!("{model}/batching_alpha"), "")
        .alone(median(&exponents))
        .note(format!(
            "X({}) = {}^alpha X(1)",
            SEQUENCES[most], SEQUENCES[most]
        ))
}
