//! RMSNorm with the f16 output of a layer added, as it is between layers.

use super::models::{MODELS, ROWS, target};
use super::{Bound, Timing};
use crate::random::Random;
use crate::stopwatch::{Stopwatch, bf16_bytes, copies};
use farthing_kernels::cuda::CudaError;
use farthing_kernels::cuda::rms_norm::{Delta, Operands, Shape, run};

pub fn bench<D: Stopwatch>(device: &mut D) -> Result<Vec<Timing>, CudaError> {
    let mut timings = Vec::new();
    for model in &MODELS {
        for rows in ROWS {
            let shape = Shape {
                rows,
                cols: model.hidden,
            };
            timings.push(time(device, &shape, model.name)?);
        }
    }
    Ok(timings)
}

fn time<D: Stopwatch>(
    device: &mut D,
    shape: &Shape,
    name: &'static str,
) -> Result<Timing, CudaError> {
    let elements = shape.rows * shape.cols;
    // The stream is read and written, the delta read, the result written.
    let bytes = elements * (4 + 4 + 2 + 2) + 4 * shape.cols;
    let copies = copies(device, bytes);
    let mut random = Random::new(0);
    // Read as f32, two bf16 are a number from -1 to 1 as well.
    let weight = device.upload(&bf16_bytes(&mut random, 2 * shape.cols))?;
    let values = bf16_bytes(&mut random, 2 * elements);
    let mut buffers = Vec::with_capacity(copies);
    for _ in 0..copies {
        let residual = device.upload(&values)?;
        let delta = device.upload(&values[..2 * elements])?;
        buffers.push((residual, delta, device.filled(2 * elements, 0)?));
    }
    let time_us = device.time_us(copies, &mut |device, copy| {
        let (residual, delta, out) = &buffers[copy];
        let operands = Operands {
            residual,
            delta: Delta::F16(delta),
            weight: &weight,
            eps: 1e-5,
            out,
        };
        run(device, shape, &operands)
    })?;
    Ok(Timing {
        operation: "rms_norm",
        shape: format!("{name} {}", shape.cols),
        rows: shape.rows,
        time_us,
        bytes: bytes as f64,
        operations: 5.0 * elements as f64,
        bound: Bound::Memory,
        target: target(bytes as f64),
        peer_us: None,
    })
}
