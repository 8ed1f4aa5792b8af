//! Decode while Envoy answers as fast as it can on the same cores: neither may stop the other.

use super::prompts::{self, SHORT_WORDS};
use super::{Bench, SMOLLM2, servers};
use crate::bench::edge::busy_envoy;
use crate::bench::report::{Metric, median};
use crate::bench::streams;
use crate::error::XtaskError;

const ROUNDS: usize = 3;
const SEQUENCES: usize = 4;
const DECODE_TOKENS: u64 = 96;

/// Measures decode and Envoy, each alone and both together.
pub fn run(bench: &Bench<'_>) -> Result<Vec<Metric>, XtaskError> {
    let server = servers::backend(bench)?;
    let address = server.address;
    let mut envoy = busy_envoy::start(bench.interrupt)?;
    let decode = move || -> Result<f64, XtaskError> {
        let asks = prompts::asks(SMOLLM2, SEQUENCES, SHORT_WORDS, DECODE_TOKENS);
        let streams = streams::together(address, &asks)?;
        let tokens: u64 = streams.iter().map(|stream| stream.completion_tokens).sum();
        Ok(tokens as f64 / streams::wall(&streams).as_secs_f64())
    };
    let (mut alone, mut together, mut envoy_alone, mut envoy_together) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(bench.interrupt.race(decode)??);
        envoy_alone.push(envoy.requests_per_s()?);
        let decoding = std::thread::spawn(decode);
        envoy_together.push(envoy.requests_per_s()?);
        let panicked = || XtaskError::Unexpected("a client of the benchmark panicked".to_string());
        together.push(decoding.join().unwrap_or_else(|_| Err(panicked()))?);
    }
    Ok(vec![
        Metric::new("engine", "beside_busy_envoy/decode_4", "tokens/s").beside(
            median(&together),
            "alone",
            median(&alone),
        ),
        Metric::new("engine", "beside_busy_envoy/envoy", "1/s").beside(
            median(&envoy_together),
            "alone",
            median(&envoy_alone),
        ),
    ])
}
