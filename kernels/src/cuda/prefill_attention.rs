//! Causal attention of many new tokens over paged keys and values, sequences packed.
//!
//! The rows' own keys and values are in the cache before. What row starts, tables and contexts
//! point beyond is clamped, not read.

use super::decode_attention::{GROUP_MAX, Past};
use super::kv_layout::{KvBuffers, KvBytes, KvKind, KvLayout};
use super::lengths::{check_lengths, dimension, rows};
use super::{Arg, CudaError, Device, Launch};

/// Most sequences of a call: the blocks of a grid's third dimension.
pub const SEQS_MAX: usize = 65_535;

const KERNEL: &str = "prefill_attention";
const THREADS: u32 = 128;
const WARPS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Of all sequences.
    pub rows: usize,
    /// The most of one sequence. A longer one would be left out in part, so it must be exact or
    /// larger.
    pub rows_max: usize,
    pub seqs: usize,
    /// Query heads: up to [`GROUP_MAX`] times those of the keys.
    pub heads: usize,
    /// Columns of the block tables.
    pub blocks_max: usize,
    /// What scores are multiplied by; positive.
    pub scale: f32,
    pub cache: KvLayout,
}

pub struct Operands<'a, B> {
    /// f16 `[rows][heads][head_dim]`.
    pub q: &'a B,
    /// u32 `[seqs + 1]`: where each sequence's rows start, and the number of all rows.
    pub row_starts: &'a B,
    /// u32 `[seqs]`: tokens of each sequence, these rows being the last.
    pub contexts: &'a B,
    /// u32 `[seqs][blocks_max]`.
    pub tables: &'a B,
    pub cache: KvBuffers<'a, B>,
    /// f16 `[rows][heads * head_dim]`.
    pub out: &'a B,
}

impl Shape {
    /// How the kernel is started.
    ///
    /// # Errors
    /// The kernel does not take the shape.
    pub fn launch(&self) -> Result<Launch, CudaError> {
        self.check()?;
        // As the kernel's `Plan`: rows of a warp by 16, and keys of a tile.
        let (tiles, keys) = match self.cache.head_dim {
            256 => (1, 32),
            _ => (2, 64),
        };
        let lines = WARPS * tiles * 16;
        let queries = lines * self.cache.head_dim * size_of::<u16>();
        let scale = match self.cache.kind {
            KvKind::F16 => 0,
            KvKind::I8 => size_of::<f32>(),
        };
        let row = self.cache.head_dim * self.cache.kind.element_bytes() + scale;
        let blocks = (self.rows_max * self.group()).div_ceil(lines);
        Ok(Launch {
            kernel: match (self.cache.kind, self.cache.head_dim) {
                (KvKind::F16, 64) => "prefill_attention_f16_64",
                (KvKind::F16, 96) => "prefill_attention_f16_96",
                (KvKind::F16, 128) => "prefill_attention_f16_128",
                (KvKind::F16, _) => "prefill_attention_f16_256",
                (KvKind::I8, 64) => "prefill_attention_i8_64",
                (KvKind::I8, 96) => "prefill_attention_i8_96",
                (KvKind::I8, 128) => "prefill_attention_i8_128",
                (KvKind::I8, _) => "prefill_attention_i8_256",
            },
            grid: [blocks as u32, self.cache.kv_heads as u32, self.seqs as u32],
            threads: THREADS,
            shared_bytes: (queries + 2 * keys * 2 * row) as u32,
        })
    }

    /// Query heads of one key head.
    fn group(&self) -> usize {
        self.heads / self.cache.kv_heads
    }

    fn check(&self) -> Result<(), CudaError> {
        self.cache.check(KERNEL)?;
        rows(KERNEL, self.rows)?;
        let rule = "it must be 1 to the rows of all sequences";
        dimension(KERNEL, "rows_max", self.rows_max, 1..=self.rows, rule)?;
        let rule = "it must be 1 to 65,535";
        dimension(KERNEL, "seqs", self.seqs, 1..=SEQS_MAX, rule)?;
        let rule = "it must be 1 to 16 times the key heads";
        let most = GROUP_MAX * self.cache.kv_heads;
        dimension(KERNEL, "heads", self.heads, 1..=most, rule)?;
        if !self.heads.is_multiple_of(self.cache.kv_heads) {
            return Err(CudaError::Shape {
                kernel: KERNEL,
                name: "heads",
                value: self.heads,
                rule,
            });
        }
        let (most, rule) = (1 << 26, "it must be 1 to 67,108,863");
        dimension(KERNEL, "blocks_max", self.blocks_max, 1..=most - 1, rule)?;
        Ok(())
    }
}

/// Queues the operation.
///
/// # Errors
/// The kernel does not take the shape, a buffer is too short for it, or the device fails.
pub fn run<D: Device>(
    device: &mut D,
    shape: &Shape,
    operands: &Operands<'_, D::Buffer>,
) -> Result<(), CudaError> {
    let launch = shape.launch()?;
    let elements = shape.rows * shape.heads * shape.cache.head_dim;
    operands.cache.check(device, &shape.cache, KERNEL)?;
    check_lengths(
        device,
        KERNEL,
        &[
            ("q", operands.q, 2 * elements),
            ("row_starts", operands.row_starts, 4 * (shape.seqs + 1)),
            ("contexts", operands.contexts, 4 * shape.seqs),
            ("tables", operands.tables, 4 * shape.seqs * shape.blocks_max),
            ("out", operands.out, 2 * elements),
        ],
    )?;
    let [keys, values, key_scales, value_scales] = operands.cache.arguments();
    let arguments = [
        Arg::Buffer(operands.q),
        keys,
        values,
        key_scales,
        value_scales,
        Arg::Buffer(operands.tables),
        Arg::Buffer(operands.row_starts),
        Arg::Buffer(operands.contexts),
        Arg::Buffer(operands.out),
        Arg::U32(shape.rows as u32),
        Arg::U32(shape.group() as u32),
        Arg::U32(shape.cache.kv_heads as u32),
        Arg::U32(shape.cache.blocks as u32),
        Arg::U32(shape.blocks_max as u32),
        Arg::U32(shape.cache.block_size as u32),
        Arg::F32(shape.scale * std::f32::consts::LOG2_E),
    ];
    // SAFETY: the arguments are the kernel's in its order, the buffers were just found to be as
    // long as the shape, and the kernel clamps rows to q, contexts to tables and blocks to the
    // cache.
    unsafe { device.launch(&launch, &arguments) }
}

/// The same in plain Rust: `q` is `[rows][heads][head_dim]`, and so is the answer.
///
/// # Panics
/// If the lengths do not fit together, or a table leads beyond the cache.
pub fn reference(
    shape: &Shape,
    cache: &KvBytes,
    q: &[f32],
    tables: &[u32],
    row_starts: &[u32],
    contexts: &[u32],
) -> Vec<f32> {
    let head_dim = shape.cache.head_dim;
    let mut out = vec![0.0; q.len()];
    for (seq, context) in contexts.iter().enumerate() {
        let table = &tables[seq * shape.blocks_max..][..shape.blocks_max];
        let rows = row_starts[seq] as usize..row_starts[seq + 1] as usize;
        for head in 0..shape.heads {
            let past = Past::gather(cache, table, head / shape.group(), *context as usize);
            for row in rows.clone() {
                // Its own position and all before it.
                let seen = past.len() - (rows.end - row) + 1;
                let of = (row * shape.heads + head) * head_dim..;
                let attended = past.attend(&q[of.clone()][..head_dim], seen, shape.scale);
                out[of][..head_dim].copy_from_slice(&attended);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        rows: 4096,
        rows_max: 2048,
        seqs: 3,
        heads: 28,
        blocks_max: 128,
        scale: 0.088,
        cache: KvLayout {
            kind: KvKind::F16,
            blocks: 4096,
            kv_heads: 4,
            block_size: 16,
            head_dim: 128,
        },
    };

    #[test]
    fn blocks_cover_the_longest_sequence() {
        for (rows_max, heads, blocks) in [(1, 28, 1), (18, 28, 1), (19, 28, 2), (2048, 28, 112)] {
            let shape = Shape {
                rows_max,
                heads,
                ..SHAPE
            };
            let launch = shape.launch().expect("a shape");
            assert_eq!(launch.grid, [blocks, 4, 3], "{rows_max} {heads}");
        }
    }

    #[test]
    fn every_kind_fits_an_ada_card() {
        for kind in [KvKind::F16, KvKind::I8] {
            for head_dim in [64, 96, 128, 256] {
                let cache = KvLayout {
                    kind,
                    head_dim,
                    ..SHAPE.cache
                };
                let launch = Shape { cache, ..SHAPE }.launch().expect("a shape");
                assert!(launch.shared_bytes <= 101_376, "{cache:?} {launch:?}");
            }
        }
    }

    #[test]
    fn other_shapes_are_refused_by_name() {
        for (name, shape) in [
            ("rows", Shape { rows: 0, ..SHAPE }),
            (
                "rows_max",
                Shape {
                    rows_max: 4097,
                    ..SHAPE
                },
            ),
            (
                "seqs",
                Shape {
                    seqs: 65_536,
                    ..SHAPE
                },
            ),
            ("heads", Shape { heads: 30, ..SHAPE }),
            (
                "blocks_max",
                Shape {
                    blocks_max: 0,
                    ..SHAPE
                },
            ),
        ] {
            match shape.launch() {
                Err(CudaError::Shape { name: refused, .. }) => assert_eq!(refused, name),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
