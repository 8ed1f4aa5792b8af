//! Prefill attention of whole prompts at the heads of three models.

use super::{Bound, Timing};
use crate::paged::{Expanse, f16_bytes, shuffled, u32_bytes};
use crate::random::Random;
use crate::stopwatch::Stopwatch;
use farthing_kernels::cuda::CudaError;
use farthing_kernels::cuda::kv_layout::{KvKind, KvLayout};
use farthing_kernels::cuda::prefill_attention::{Operands, Shape, run};

/// A model, its heads, key heads and head size.
const MODELS: [(&str, usize, usize, usize); 3] = [
    ("Llama-3-8B", 32, 8, 128),
    ("Qwen2.5-7B", 28, 4, 128),
    ("SmolLM2-135M", 9, 3, 64),
];
/// Prompts and the tokens of each.
const PROMPTS: [(usize, usize); 3] = [(1, 2048), (1, 8192), (4, 512)];
const BLOCK_SIZE: usize = 16;
/// Keys, and as many bytes of values: 8192 tokens of Llama-3-8B and more.
const CACHE_BYTES: usize = 64 << 20;

pub fn bench<D: Stopwatch>(device: &mut D) -> Result<Vec<Timing>, CudaError> {
    let mut random = Random::new(0);
    let expanse = Expanse::new(device, &mut random, CACHE_BYTES)?;
    let mut timings = Vec::new();
    for (model, heads, kv_heads, head_dim) in MODELS {
        for kind in [KvKind::F16, KvKind::I8] {
            for (seqs, tokens) in PROMPTS {
                let cache = expanse.fit(KvLayout {
                    kind,
                    blocks: 0,
                    kv_heads,
                    block_size: BLOCK_SIZE,
                    head_dim,
                });
                let shape = Shape {
                    rows: seqs * tokens,
                    rows_max: tokens,
                    seqs,
                    heads,
                    blocks_max: tokens / BLOCK_SIZE,
                    scale: 1.0 / (head_dim as f32).sqrt(),
                    cache,
                };
                let name = format!("{model} {kind:?} {seqs}x{tokens}");
                timings.push(time(device, &expanse, &mut random, &shape, name)?);
            }
        }
    }
    Ok(timings)
}

fn time<D: Stopwatch>(
    device: &mut D,
    expanse: &Expanse<D::Buffer>,
    random: &mut Random,
    shape: &Shape,
    name: String,
) -> Result<Timing, CudaError> {
    let elements = shape.rows * shape.heads * shape.cache.head_dim;
    let tokens = shape.rows_max;
    let starts: Vec<u32> = (0..=shape.seqs).map(|seq| (seq * tokens) as u32).collect();
    let order = shuffled(random, shape.cache.blocks);
    let q = device.upload(&f16_bytes(&random.values(elements), 1.0))?;
    let row_starts = device.upload(&u32_bytes(&starts))?;
    let contexts = device.upload(&u32_bytes(&vec![tokens as u32; shape.seqs]))?;
    let tables = device.upload(&u32_bytes(&order[..shape.seqs * shape.blocks_max]))?;
    let out = device.filled(2 * elements, 0xff)?;
    // Arithmetic bounds it, so it does not matter that keys and values stay in the cache.
    let time_us = device.time_us(2, &mut |device, _| {
        let operands = Operands {
            q: &q,
            row_starts: &row_starts,
            contexts: &contexts,
            tables: &tables,
            cache: expanse.buffers(&shape.cache),
            out: &out,
        };
        run(device, shape, &operands)
    })?;
    let pairs = shape.seqs * tokens * (tokens + 1) / 2;
    Ok(Timing {
        operation: "prefill_attention",
        shape: name,
        rows: shape.rows,
        time_us,
        bytes: (shape.rows * shape.cache.token_bytes() + 4 * elements) as f64,
        operations: (4 * shape.heads * shape.cache.head_dim * pairs) as f64,
        bound: Bound::Arithmetic,
        target: None,
        peer_us: None,
    })
}
