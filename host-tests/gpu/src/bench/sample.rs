//! Sampling: the likeliest token, which reads the logits once, and draws, which read them twice or
//! more. Bytes are those of one reading.

use super::models::{MODELS, ROWS};
use super::{Bound, Timing};
use crate::floats::f32_bytes;
use crate::random::Random;
use crate::stopwatch::{Stopwatch, copies};
use farthing_kernels::cuda::CudaError;
use farthing_kernels::cuda::sample::{Operands, SampleParameters, SampleScores, Shape, run};

/// More sequences are not decoded together.
const ROWS_MAX: usize = 256;
/// Values that rows of logits are tiled with.
const TILE: usize = 1 << 20;

pub fn bench<D: Stopwatch>(device: &mut D) -> Result<Vec<Timing>, CudaError> {
    let plain = SampleParameters {
        temperature: 1.0,
        uniform: 0.5,
        ..SampleParameters::GREEDY
    };
    let top_p = SampleParameters {
        temperature: 0.8,
        top_p: 0.95,
        ..plain
    };
    let top_k = SampleParameters { top_k: 50, ..plain };
    let mut random = Random::new(0);
    // About normal, from -12 to 12: of a vocabulary some tens of tokens are likely.
    let tile: Vec<f32> = (0..TILE)
        .map(|_| random.values(6).iter().sum::<f32>() * 2.0)
        .collect();
    let mut timings = Vec::new();
    for model in &MODELS {
        for rows in ROWS.into_iter().filter(|rows| *rows <= ROWS_MAX) {
            let shape = Shape {
                rows,
                vocabulary: model.vocabulary,
            };
            let logits = tile.iter().copied().cycle();
            let logits: Vec<f32> = logits.take(rows * model.vocabulary).collect();
            let logits = f32_bytes(&logits);
            let mut buffers = Vec::new();
            for _ in 0..copies(device, logits.len()) {
                buffers.push(device.upload(&logits)?);
            }
            for (name, parameters) in [
                ("greedy", &SampleParameters::GREEDY),
                ("temperature 1", &plain),
                ("top_p 0.95", &top_p),
                ("top_k 50", &top_k),
            ] {
                let name = format!("{} {} {name}", model.name, model.vocabulary);
                timings.push(time(device, &shape, parameters, &buffers, name)?);
            }
        }
    }
    Ok(timings)
}

fn time<D: Stopwatch>(
    device: &mut D,
    shape: &Shape,
    parameters: &SampleParameters,
    logits: &[D::Buffer],
    name: String,
) -> Result<Timing, CudaError> {
    let parameters = device.upload(&parameters.to_bytes().repeat(shape.rows))?;
    let tokens = device.filled(4 * shape.rows, 0)?;
    let scores = device.filled(SampleScores::BYTES * shape.rows, 0)?;
    let time_us = device.time_us(logits.len(), &mut |device, copy| {
        let operands = Operands {
            logits: &logits[copy],
            parameters: &parameters,
            history: None,
            tokens: &tokens,
            scores: &scores,
        };
        run(device, shape, &operands)
    })?;
    let elements = (shape.rows * shape.vocabulary) as f64;
    Ok(Timing {
        operation: "sample",
        shape: name,
        rows: shape.rows,
        time_us,
        bytes: 4.0 * elements,
        operations: 10.0 * elements,
        bound: Bound::Memory,
        target: None,
        peer_us: None,
    })
}
