//! Bias, rotation and the write into the cache, every token at a place of its own.

use super::models::{MODELS, Model, ROWS, target};
use super::{Bound, Timing};
use crate::floats::f32_bytes;
use crate::paged::{shuffled, u32_bytes};
use crate::random::Random;
use crate::stopwatch::{Stopwatch, bf16_bytes, copies};
use farthing_kernels::RopeTable;
use farthing_kernels::cuda::CudaError;
use farthing_kernels::cuda::kv_layout::{KvBuffers, KvKind, KvLayout};
use farthing_kernels::cuda::rope_kv::{Operands, Shape, run};

const POSITIONS: usize = 8192;
const BLOCK_SIZE: usize = 16;

pub fn bench<D: Stopwatch>(device: &mut D) -> Result<Vec<Timing>, CudaError> {
    let mut timings = Vec::new();
    for model in &MODELS {
        for kind in [KvKind::F16, KvKind::I8] {
            for rows in ROWS {
                timings.push(time(device, model, &shape_of(model, kind, rows))?);
            }
        }
    }
    Ok(timings)
}

fn shape_of(model: &Model, kind: KvKind, rows: usize) -> Shape {
    let cache = KvLayout {
        kind,
        blocks: rows.div_ceil(BLOCK_SIZE),
        kv_heads: model.kv_heads,
        block_size: BLOCK_SIZE,
        head_dim: model.head_dim,
    };
    Shape {
        rows,
        heads: model.heads,
        style: model.rope,
        positions: POSITIONS,
        cache,
    }
}

/// One call's operands that others must not find in the cache.
struct Copy<B> {
    qkv: B,
    q_out: B,
    keys: B,
    values: B,
    key_scales: B,
    value_scales: B,
}

fn time<D: Stopwatch>(device: &mut D, model: &Model, shape: &Shape) -> Result<Timing, CudaError> {
    let (rows, cache) = (shape.rows, shape.cache);
    let kind = cache.kind;
    let q_bytes = 2 * rows * model.heads * model.head_dim;
    let qkv_elements = rows * shape.width();
    let bytes = 2 * qkv_elements + q_bytes + rows * (cache.token_bytes() + 8);
    let mut random = Random::new(0);
    let table = RopeTable::new(model.head_dim, 1e6, POSITIONS)?;
    let cosines = device.upload(&f32_bytes(table.cosines()))?;
    let sines = device.upload(&f32_bytes(table.sines()))?;
    let bias = device.upload(&bf16_bytes(&mut random, 2 * shape.width()))?;
    let mut positions = shuffled(&mut random, POSITIONS);
    positions.truncate(rows);
    let positions = device.upload(&u32_bytes(&positions))?;
    let mut slots = shuffled(&mut random, cache.blocks * BLOCK_SIZE);
    slots.truncate(rows);
    let slots = device.upload(&u32_bytes(&slots))?;
    let qkv = bf16_bytes(&mut random, qkv_elements);
    let mut buffers = Vec::new();
    for _ in 0..copies(device, bytes) {
        buffers.push(Copy {
            qkv: device.upload(&qkv)?,
            q_out: device.filled(q_bytes, 0)?,
            keys: device.filled(cache.bytes(), 0)?,
            values: device.filled(cache.bytes(), 0)?,
            key_scales: device.filled(cache.scale_bytes(), 0)?,
            value_scales: device.filled(cache.scale_bytes(), 0)?,
        });
    }
    let time_us = device.time_us(buffers.len(), &mut |device, copy| {
        let copy = &buffers[copy];
        let scales = (&copy.key_scales, &copy.value_scales);
        let operands = Operands {
            qkv: &copy.qkv,
            bias: model.has_bias.then_some(&bias),
            positions: &positions,
            slots: &slots,
            cosines: &cosines,
            sines: &sines,
            q_out: &copy.q_out,
            cache: KvBuffers {
                keys: &copy.keys,
                values: &copy.values,
                scales: (kind == KvKind::I8).then_some(scales),
            },
        };
        run(device, shape, &operands)
    })?;
    Ok(Timing {
        operation: "rope_kv",
        shape: format!(
            "{} {}/{}x{} {kind:?}",
            model.name, model.heads, model.kv_heads, model.head_dim
        ),
        rows,
        time_us,
        bytes: bytes as f64,
        operations: 4.0 * qkv_elements as f64,
        bound: Bound::Memory,
        target: target(bytes as f64),
        peer_us: None,
    })
}
