//! Embedding look-up of random tokens, with the table in the formats that files have it in.

use super::models::{MODELS, Model, ROWS, target};
use super::{Bound, Timing};
use crate::paged::u32_bytes;
use crate::random::Random;
use crate::stopwatch::{Stopwatch, bf16_bytes, copies};
use farthing_kernels::Dtype;
use farthing_kernels::cuda::CudaError;
use farthing_kernels::cuda::embedding::{Operands, Shape, run};

pub fn bench<D: Stopwatch>(device: &mut D) -> Result<Vec<Timing>, CudaError> {
    let mut timings = Vec::new();
    for model in &MODELS {
        for dtype in model.embeddings {
            timings.extend(time_all(device, model, dtype)?);
        }
    }
    Ok(timings)
}

fn time_all<D: Stopwatch>(
    device: &mut D,
    model: &Model,
    dtype: Dtype,
) -> Result<Vec<Timing>, CudaError> {
    let row_bytes = dtype.row_bytes(model.hidden)?;
    let mut random = Random::new(0);
    let table = bf16_bytes(&mut random, model.vocabulary * row_bytes / 2);
    let table = device.upload(&table)?;
    let mut timings = Vec::new();
    for rows in ROWS {
        let shape = Shape {
            rows,
            cols: model.hidden,
            vocabulary: model.vocabulary,
            dtype,
        };
        let elements = rows * shape.cols;
        let bytes = rows * (4 + row_bytes) + 4 * elements;
        let copies = copies(device, bytes);
        let mut buffers = Vec::with_capacity(copies);
        for _ in 0..copies {
            let id = |_| random.below(model.vocabulary) as u32;
            let ids: Vec<u32> = (0..rows).map(id).collect();
            let ids = device.upload(&u32_bytes(&ids))?;
            buffers.push((ids, device.filled(4 * elements, 0)?));
        }
        let time_us = device.time_us(copies, &mut |device, copy| {
            let (ids, out) = &buffers[copy];
            let table = &table;
            run(device, &shape, &Operands { ids, table, out })
        })?;
        timings.push(Timing {
            operation: "embedding",
            shape: format!("{} {} {dtype:?}", model.name, model.hidden),
            rows,
            time_us,
            bytes: bytes as f64,
            operations: 2.0 * elements as f64,
            bound: Bound::Memory,
            target: target(bytes as f64),
            peer_us: None,
        });
    }
    Ok(timings)
}
