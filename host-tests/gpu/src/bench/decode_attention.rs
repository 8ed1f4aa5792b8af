//! Decode attention at the heads of three models, contexts short and long, keys and values in
//! memory and not in the cache.

use super::{Bound, Timing};
use crate::paged::{Expanse, shuffled, u32_bytes};
use crate::random::Random;
use crate::stopwatch::{Stopwatch, copies};
use farthing_kernels::cuda::CudaError;
use farthing_kernels::cuda::decode_attention::{Operands, Shape, run};
use farthing_kernels::cuda::kv_layout::{KvKind, KvLayout};

/// A model, its heads, key heads and head size, and the contexts to time.
const MODELS: [(&str, usize, usize, usize, &[usize]); 3] = [
    ("Llama-3-8B", 32, 8, 128, &[1024, 4096, 32_768]),
    ("Qwen2.5-7B", 28, 4, 128, &[1024, 4096]),
    ("SmolLM2-135M", 9, 3, 64, &[1024]),
];
const SEQS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const BLOCK_SIZE: usize = 16;
/// Keys, and as many bytes of values: 256 sequences of 4096 tokens of Llama-3-8B.
const CACHE_BYTES: usize = 2 << 30;
/// Below so many bytes a call is too short for memory to be what bounds it.
const TARGET_BYTES_MIN: f64 = 32e6;
const TARGET: f64 = 0.75;

pub fn bench<D: Stopwatch>(device: &mut D) -> Result<Vec<Timing>, CudaError> {
    let mut random = Random::new(0);
    let expanse = Expanse::new(device, &mut random, CACHE_BYTES)?;
    let mut timings = Vec::new();
    for (model, heads, kv_heads, head_dim, contexts) in MODELS {
        for kind in [KvKind::F16, KvKind::I8] {
            let cache = expanse.fit(KvLayout {
                kind,
                blocks: 0,
                kv_heads,
                block_size: BLOCK_SIZE,
                head_dim,
            });
            let order = shuffled(&mut random, cache.blocks);
            for &context in contexts {
                for seqs in SEQS {
                    let shape = Shape {
                        seqs,
                        heads,
                        blocks_max: context / BLOCK_SIZE,
                        contexts_max: context,
                        scale: 1.0 / (head_dim as f32).sqrt(),
                        cache,
                    };
                    if seqs * shape.blocks_max <= cache.blocks {
                        let name = format!("{model} {kind:?} {context}");
                        timings.push(time(device, &expanse, &order, &shape, name)?);
                    }
                }
            }
        }
    }
    Ok(timings)
}

fn time<D: Stopwatch>(
    device: &mut D,
    expanse: &Expanse<D::Buffer>,
    order: &[u32],
    shape: &Shape,
    name: String,
) -> Result<Timing, CudaError> {
    let elements = shape.seqs * shape.heads * shape.cache.head_dim;
    let tokens = shape.seqs * shape.contexts_max;
    let kv_bytes = tokens * shape.cache.token_bytes();
    let blocks = shape.seqs * shape.blocks_max;
    let copies = copies(device, kv_bytes).min(order.len() / blocks);
    let tables = order
        .chunks_exact(blocks)
        .take(copies)
        .map(|table| device.upload(&u32_bytes(table)))
        .collect::<Result<Vec<_>, _>>()?;
    let q = device.filled(2 * elements, 0x3c)?;
    let out = device.filled(2 * elements, 0xff)?;
    let contexts = device.upload(&u32_bytes(&vec![shape.contexts_max as u32; shape.seqs]))?;
    let workspace_bytes = shape.workspace_bytes(device.properties())?;
    let workspace = device.filled(workspace_bytes, 0)?;
    let time_us = device.time_us(copies, &mut |device, copy| {
        let operands = Operands {
            q: &q,
            tables: &tables[copy],
            contexts: &contexts,
            cache: expanse.buffers(&shape.cache),
            out: &out,
            workspace: &workspace,
        };
        run(device, shape, &operands)
    })?;
    let bytes = (kv_bytes + 4 * elements) as f64;
    Ok(Timing {
        operation: "decode_attention",
        shape: name,
        rows: shape.seqs,
        time_us,
        bytes,
        operations: (4 * shape.heads * shape.cache.head_dim * tokens) as f64,
        bound: Bound::Memory,
        target: (bytes >= TARGET_BYTES_MIN).then_some(TARGET),
        peer_us: None,
    })
}
