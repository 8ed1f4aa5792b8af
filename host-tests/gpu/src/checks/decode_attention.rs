//! Attention of one token a sequence: contexts around every boundary, all kinds and head sizes,
//! grouped heads, blocks in any order among blocks of garbage, and two calls in one workspace.

use super::{Extent, Outcome, relative_error};
use crate::floats::worse;
use crate::paged::{Paged, f16_bytes, f16_values, u32_bytes};
use crate::random::Random;
use farthing_kernels::cuda::decode_attention::{Operands, Shape, reference, run};
use farthing_kernels::cuda::kv_layout::{KvKind, KvLayout};
use farthing_kernels::cuda::{CudaError, Device};

const TOLERANCE: f64 = 1e-3;

/// Heads, key heads, head size, block size, and the contexts of the sequences.
type Case = (usize, usize, usize, usize, &'static [u32]);

const SMALL: [Case; 10] = [
    (9, 3, 64, 16, &[1, 5, 0, 257, 100]),
    (28, 4, 128, 16, &[33]),
    (32, 8, 128, 32, &[17, 16]),
    (4, 4, 128, 16, &[100, 64, 1]),
    (16, 1, 128, 16, &[257]),
    (8, 1, 64, 32, &[0]),
    (3, 1, 64, 16, &[600, 1, 0, 31]),
    (6, 2, 96, 32, &[129, 48]),
    (4, 1, 256, 16, &[150, 3]),
    // More sequences than threads.
    (1, 1, 64, 16, &[3; 150]),
];

const FULL: [Case; 5] = [
    (32, 8, 128, 16, &[4096, 1000, 0, 1]),
    (28, 4, 128, 32, &[2049]),
    (9, 3, 64, 16, &[5000, 70, 512, 513]),
    (16, 1, 256, 32, &[3000]),
    (32, 32, 128, 16, &[700; 9]),
];

pub fn check<D: Device>(
    device: &mut D,
    extent: Extent,
    random: &mut Random,
) -> Result<Vec<Outcome>, CudaError> {
    let full: &[Case] = match extent {
        Extent::Small => &[],
        Extent::Full => &FULL,
    };
    let mut outcomes = Vec::new();
    for case in SMALL.iter().chain(full) {
        for kind in [KvKind::F16, KvKind::I8] {
            outcomes.push(compare(device, random, *case, kind)?);
        }
    }
    Ok(outcomes)
}

fn compare<D: Device>(
    device: &mut D,
    random: &mut Random,
    (heads, kv_heads, head_dim, block_size, contexts): Case,
    kind: KvKind,
) -> Result<Outcome, CudaError> {
    let layout = KvLayout {
        kind,
        blocks: 0,
        kv_heads,
        block_size,
        head_dim,
    };
    let paged = Paged::new(random, layout, contexts);
    let shape = Shape {
        seqs: contexts.len(),
        heads,
        blocks_max: paged.blocks_max,
        contexts_max: contexts.iter().copied().max().unwrap_or(0) as usize,
        scale: 1.0 / (head_dim as f32).sqrt(),
        cache: paged.bytes.layout,
    };
    let q = f16_bytes(&random.values(shape.seqs * heads * head_dim), 4.0);
    let wanted = reference(
        &shape,
        &paged.bytes,
        &f16_values(&q),
        &paged.tables,
        contexts,
    );
    let (q_buffer, uploaded) = (device.upload(&q)?, paged.upload(device)?);
    let contexts_buffer = device.upload(&u32_bytes(contexts))?;
    let workspace_bytes = shape.workspace_bytes(device.properties())?;
    let workspace = device.filled(workspace_bytes, 0)?;
    // The second call finds what the first has left in the workspace, and expects one key.
    let mut error = 0.0f64;
    for contexts_max in [shape.contexts_max, 1] {
        let out = device.filled(q.len(), 0xff)?;
        run(
            device,
            &Shape {
                contexts_max,
                ..shape
            },
            &Operands {
                q: &q_buffer,
                tables: &uploaded.tables,
                contexts: &contexts_buffer,
                cache: uploaded.buffers(),
                out: &out,
                workspace: &workspace,
            },
        )?;
        let got = f16_values(&device.download(&out)?);
        error = worse(error, relative_error(&got, &wanted));
    }
    let shown = &contexts[..contexts.len().min(5)];
    Ok(Outcome {
        operation: "decode_attention",
        case: format!("{kind:?} {heads}/{kv_heads}x{head_dim} blocks of {block_size} {shown:?}"),
        error,
        tolerance: TOLERANCE,
    })
}
