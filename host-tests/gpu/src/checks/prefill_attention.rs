//! Attention of many tokens: with and without tokens before them, more and fewer than a block has,
//! all kinds and head sizes, grouped heads, blocks in any order among blocks of garbage.

use super::{Extent, Outcome, relative_error};
use crate::paged::{Paged, f16_bytes, f16_values, u32_bytes};
use crate::random::Random;
use farthing_kernels::cuda::kv_layout::{KvKind, KvLayout};
use farthing_kernels::cuda::prefill_attention::{Operands, Shape, reference, run};
use farthing_kernels::cuda::{CudaError, Device};

const TOLERANCE: f64 = 1e-3;

/// Heads, key heads, head size, block size, and of each sequence its rows and the tokens before.
type Case = (usize, usize, usize, usize, &'static [(u32, u32)]);

const SMALL: [Case; 8] = [
    (9, 3, 64, 16, &[(1, 0), (5, 16), (0, 3), (65, 0)]),
    (28, 4, 128, 16, &[(19, 0), (2, 31)]),
    (32, 8, 128, 32, &[(17, 47)]),
    (4, 4, 128, 16, &[(16, 0), (1, 100)]),
    (2, 1, 64, 32, &[(130, 127)]),
    (16, 1, 128, 16, &[(9, 192)]),
    (6, 2, 96, 16, &[(50, 20)]),
    (2, 1, 256, 32, &[(70, 5), (1, 0)]),
];

const FULL: [Case; 5] = [
    (32, 8, 128, 16, &[(512, 0), (100, 1000)]),
    (28, 4, 128, 32, &[(300, 0), (64, 64), (1, 512)]),
    (9, 3, 64, 16, &[(1000, 24)]),
    (8, 8, 256, 16, &[(200, 100)]),
    (32, 32, 96, 16, &[(129, 1)]),
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
    (heads, kv_heads, head_dim, block_size, sequences): Case,
    kind: KvKind,
) -> Result<Outcome, CudaError> {
    let layout = KvLayout {
        kind,
        blocks: 0,
        kv_heads,
        block_size,
        head_dim,
    };
    let contexts: Vec<u32> = sequences
        .iter()
        .map(|(rows, before)| rows + before)
        .collect();
    let mut row_starts = vec![0];
    for (rows, _) in sequences {
        row_starts.push(row_starts[row_starts.len() - 1] + rows);
    }
    let paged = Paged::new(random, layout, &contexts);
    let rows = row_starts[sequences.len()] as usize;
    let rows_max = sequences.iter().map(|(rows, _)| *rows).max().unwrap_or(0);
    let shape = Shape {
        rows,
        rows_max: rows_max as usize,
        seqs: sequences.len(),
        heads,
        blocks_max: paged.blocks_max,
        scale: 1.0 / (head_dim as f32).sqrt(),
        cache: paged.bytes.layout,
    };
    let q = f16_bytes(&random.values(rows * heads * head_dim), 4.0);
    let wanted = reference(
        &shape,
        &paged.bytes,
        &f16_values(&q),
        &paged.tables,
        &row_starts,
        &contexts,
    );
    let uploaded = paged.upload(device)?;
    let out = device.filled(q.len(), 0xff)?;
    let operands = Operands {
        q: &device.upload(&q)?,
        row_starts: &device.upload(&u32_bytes(&row_starts))?,
        contexts: &device.upload(&u32_bytes(&contexts))?,
        tables: &uploaded.tables,
        cache: uploaded.buffers(),
        out: &out,
    };
    run(device, &shape, &operands)?;
    let got = f16_values(&device.download(&out)?);
    Ok(Outcome {
        operation: "prefill_attention",
        case: format!(
            "{kind:?} {heads}/{kv_heads}x{head_dim} blocks of {block_size} {sequences:?}"
        ),
        error: relative_error(&got, &wanted),
        tolerance: TOLERANCE,
    })
}
