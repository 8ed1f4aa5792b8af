//! SwiGLU between the projections of a feed-forward layer.

use super::models::{MODELS, ROWS, target};
use super::{Bound, Timing};
use crate::random::Random;
use crate::stopwatch::{Stopwatch, bf16_bytes, copies};
use farthing_kernels::cuda::CudaError;
use farthing_kernels::cuda::swiglu::{Shape, run};

pub fn bench<D: Stopwatch>(device: &mut D) -> Result<Vec<Timing>, CudaError> {
    let mut timings = Vec::new();
    for model in &MODELS {
        for rows in ROWS {
            let shape = Shape {
                rows,
                cols: model.intermediate,
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
    let bytes = elements * (2 + 2 + 2);
    let copies = copies(device, bytes);
    // Read as f16, a bf16 below 1 is a number below 2.
    let values = bf16_bytes(&mut Random::new(0), 2 * elements);
    let mut buffers = Vec::with_capacity(copies);
    for _ in 0..copies {
        buffers.push((device.upload(&values)?, device.filled(2 * elements, 0)?));
    }
    let time_us = device.time_us(copies, &mut |device, copy| {
        let (gate_up, out) = &buffers[copy];
        run(device, shape, gate_up, out)
    })?;
    Ok(Timing {
        operation: "swiglu",
        shape: format!("{name} {}", shape.cols),
        rows: shape.rows,
        time_us,
        bytes: bytes as f64,
        operations: 6.0 * elements as f64,
        bound: Bound::Memory,
        target: target(bytes as f64),
        peer_us: None,
    })
}
