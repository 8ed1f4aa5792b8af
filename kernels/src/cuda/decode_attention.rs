//! Attention of one new token for each sequence over its paged keys and values.
//!
//! Contexts and block tables are on the device, and the grid does not depend on them, so a recorded
//! graph serves any: the kernel deals the keys of all sequences to its blocks in equal runs.
//! A call whose largest context is known to be smaller only starts fewer blocks. What tables and
//! contexts point beyond is clamped, not read.

use super::kv_layout::{Half, KvBuffers, KvBytes, KvKind, KvLayout};
use super::lengths::{check_lengths, dimension};
use super::{Arg, CudaError, Device, Launch, Properties};

/// Most sequences of a call.
pub const SEQS_MAX: usize = 1 << 14;
/// Most query heads of one key head: the rows of a product.
pub const GROUP_MAX: usize = 16;

const KERNEL: &str = "decode_attention";
/// Blocks of a multiprocessor, if its memory holds them: one finishes while the other copies.
const BLOCKS_OF_MULTIPROCESSOR: usize = 2;
/// Steps of a warp that are in shared memory at once.
const STAGES: usize = 3;
/// f32 before a piece's sums: the largest score and the sum of each of the 16 rows.
const PIECE_HEAD: usize = 32;
/// Units are counted in 32 bits, with some left over.
const UNITS_MAX: usize = 1 << 31;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    pub seqs: usize,
    /// Query heads: up to [`GROUP_MAX`] times those of the keys.
    pub heads: usize,
    /// Columns of the block tables.
    pub blocks_max: usize,
    /// The longest context that is expected. A longer one is not wrong, only slower.
    pub contexts_max: usize,
    /// What scores are multiplied by; positive.
    pub scale: f32,
    pub cache: KvLayout,
}

pub struct Operands<'a, B> {
    /// f16 `[seqs][heads][head_dim]`.
    pub q: &'a B,
    /// u32 `[seqs][blocks_max]`.
    pub tables: &'a B,
    /// u32 `[seqs]`: tokens that the sequence sees. None gives zeros.
    pub contexts: &'a B,
    pub cache: KvBuffers<'a, B>,
    /// f16 `[seqs][heads * head_dim]`.
    pub out: &'a B,
    /// [`Shape::workspace_bytes`], zeroed when it is made; calls leave it ready for the next, of
    /// this shape or another.
    pub workspace: &'a B,
}

/// How a block is laid out, as the kernel's `Plan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// Keys of a warp's step.
    keys: usize,
    warps: usize,
    shared_bytes: usize,
}

impl Plan {
    fn new(cache: &KvLayout, group: usize) -> Plan {
        let row = cache.head_dim * cache.kind.element_bytes();
        let keys = if row >= 192 { 16 } else { 32 };
        let warps = if row >= 512 { 2 } else { 4 };
        let scale = match cache.kind {
            KvKind::F16 => 0,
            KvKind::I8 => size_of::<f32>(),
        };
        let stages = warps * STAGES * keys * 2 * (row + scale);
        let sums = warps * (PIECE_HEAD + group * (cache.head_dim + 8)) * size_of::<f32>();
        Plan {
            keys,
            warps,
            shared_bytes: stages.max(sums),
        }
    }

    /// Keys that blocks are dealt by.
    fn unit(&self) -> usize {
        self.keys * self.warps
    }

    /// Pieces whose weights fit in a block's shared memory, 16 f32 each.
    fn pieces_max(&self) -> usize {
        self.shared_bytes / 64 - 1
    }
}

impl Shape {
    /// How the kernel is started.
    ///
    /// # Errors
    /// The kernel does not take the shape.
    pub fn launch(&self, properties: &Properties) -> Result<Launch, CudaError> {
        self.check()?;
        let plan = Plan::new(&self.cache, self.group());
        Ok(Launch {
            kernel: match (self.cache.kind, self.cache.head_dim) {
                (KvKind::F16, 64) => "decode_attention_f16_64",
                (KvKind::F16, 96) => "decode_attention_f16_96",
                (KvKind::F16, 128) => "decode_attention_f16_128",
                (KvKind::F16, _) => "decode_attention_f16_256",
                (KvKind::I8, 64) => "decode_attention_i8_64",
                (KvKind::I8, 96) => "decode_attention_i8_96",
                (KvKind::I8, 128) => "decode_attention_i8_128",
                (KvKind::I8, _) => "decode_attention_i8_256",
            },
            grid: [self.blocks(properties, &plan) as u32, 1, 1],
            threads: (plan.warps * 32) as u32,
            shared_bytes: plan.shared_bytes as u32,
        })
    }

    /// Bytes of the workspace.
    ///
    /// # Errors
    /// The kernel does not take the shape.
    pub fn workspace_bytes(&self, properties: &Properties) -> Result<usize, CudaError> {
        self.check()?;
        let blocks = self.blocks(properties, &Plan::new(&self.cache, self.group()));
        let arrivals = (self.seqs * self.cache.kv_heads).next_multiple_of(4);
        let piece = PIECE_HEAD + self.group() * self.cache.head_dim;
        Ok((arrivals + blocks * 2 * piece) * size_of::<f32>())
    }

    /// Query heads of one key head.
    fn group(&self) -> usize {
        self.heads / self.cache.kv_heads
    }

    /// As many blocks as keep the card busy, but none without a unit. Few key heads are cut into
    /// more pieces the more blocks there are, so then a multiprocessor gets one; with i8, where
    /// widening takes longer than a single block's copies, it still gets all it has room for.
    fn blocks(&self, properties: &Properties, plan: &Plan) -> usize {
        let heads = self.seqs * self.cache.kv_heads;
        let multiprocessors = properties.multiprocessors as usize;
        let fitting = properties.shared_bytes_max as usize / plan.shared_bytes;
        let each = match self.cache.kind {
            KvKind::F16 if heads < multiprocessors => 1,
            _ => fitting.clamp(1, BLOCKS_OF_MULTIPROCESSOR),
        };
        let units = heads.saturating_mul(self.contexts_max.div_ceil(plan.unit()).max(1));
        (multiprocessors * each)
            .min(units)
            .clamp(1, plan.pieces_max())
    }

    fn check(&self) -> Result<(), CudaError> {
        self.cache.check(KERNEL)?;
        let rule = "it must be 1 to 16,384";
        dimension(KERNEL, "seqs", self.seqs, 1..=SEQS_MAX, rule)?;
        let rule = "it must be 1 to 16 times the key heads";
        let most = GROUP_MAX * self.cache.kv_heads;
        dimension(KERNEL, "heads", self.heads, 1..=most, rule)?;
        if !self.heads.is_multiple_of(self.cache.kv_heads) {
            return Err(shape_error("heads", self.heads, rule));
        }
        let rule = "its slots in all heads and sequences must fit u32";
        let (block_size, unit) = (
            self.cache.block_size,
            Plan::new(&self.cache, self.group()).unit(),
        );
        let most = (u32::MAX as usize / 2 / block_size)
            .min(UNITS_MAX / (self.seqs * self.cache.kv_heads) * unit / block_size);
        dimension(KERNEL, "blocks_max", self.blocks_max, 1..=most, rule)?;
        Ok(())
    }
}

fn shape_error(name: &'static str, value: usize, rule: &'static str) -> CudaError {
    CudaError::Shape {
        kernel: KERNEL,
        name,
        value,
        rule,
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
    let launch = shape.launch(device.properties())?;
    let workspace = shape.workspace_bytes(device.properties())?;
    let elements = shape.seqs * shape.heads * shape.cache.head_dim;
    operands.cache.check(device, &shape.cache, KERNEL)?;
    check_lengths(
        device,
        KERNEL,
        &[
            ("q", operands.q, 2 * elements),
            ("tables", operands.tables, 4 * shape.seqs * shape.blocks_max),
            ("contexts", operands.contexts, 4 * shape.seqs),
            ("out", operands.out, 2 * elements),
            ("workspace", operands.workspace, workspace),
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
        Arg::Buffer(operands.contexts),
        Arg::Buffer(operands.out),
        Arg::Buffer(operands.workspace),
        Arg::U32(shape.seqs as u32),
        Arg::U32(shape.group() as u32),
        Arg::U32(shape.cache.kv_heads as u32),
        Arg::U32(shape.cache.blocks as u32),
        Arg::U32(shape.blocks_max as u32),
        Arg::U32(shape.cache.block_size as u32),
        Arg::F32(shape.scale * std::f32::consts::LOG2_E),
    ];
    // SAFETY: the arguments are the kernel's in its order, the buffers were just found to be as
    // long as the shape, and the kernel clamps contexts to tables and blocks to the cache.
    unsafe { device.launch(&launch, &arguments) }
}

// === In plain Rust ===

/// The same in plain Rust: `q` is `[seqs][heads][head_dim]`, and so is the answer.
///
/// # Panics
/// If the lengths do not fit together, or a table leads beyond the cache.
pub fn reference(
    shape: &Shape,
    cache: &KvBytes,
    q: &[f32],
    tables: &[u32],
    contexts: &[u32],
) -> Vec<f32> {
    let head_dim = shape.cache.head_dim;
    let mut out = vec![0.0; q.len()];
    for (seq, context) in contexts.iter().enumerate() {
        let table = &tables[seq * shape.blocks_max..][..shape.blocks_max];
        for kv_head in 0..shape.cache.kv_heads {
            let past = Past::gather(cache, table, kv_head, *context as usize);
            for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
                let of = (seq * shape.heads + head) * head_dim..;
                let attended = past.attend(&q[of.clone()][..head_dim], past.len(), shape.scale);
                out[of][..head_dim].copy_from_slice(&attended);
            }
        }
    }
    out
}

/// What one key head of a sequence remembers: `[tokens][head_dim]` each.
pub(super) struct Past {
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
}

impl Past {
    /// The first `context` tokens.
    pub(super) fn gather(cache: &KvBytes, table: &[u32], kv_head: usize, context: usize) -> Past {
        let block_size = cache.layout.block_size;
        let read = |half| {
            let slots = (0..context)
                .map(|token| table[token / block_size] as usize * block_size + token % block_size);
            slots.map(|slot| cache.read(half, slot, kv_head)).collect()
        };
        Past {
            keys: read(Half::Keys),
            values: read(Half::Values),
        }
    }

    /// Tokens.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// One query over the first `seen` tokens.
    pub(super) fn attend(&self, q: &[f32], seen: usize, scale: f32) -> Vec<f32> {
        let scores = self.keys[..seen].iter().map(|key| {
            let products = q.iter().zip(key).map(|(q, k)| f64::from(*q * *k));
            products.sum::<f64>() * f64::from(scale)
        });
        let scores: Vec<f64> = scores.collect();
        let largest = scores.iter().fold(f64::MIN, |a, b| a.max(*b));
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut out = vec![0.0f64; q.len()];
        for (weight, value) in weights.iter().zip(&self.values) {
            for (out, value) in out.iter_mut().zip(value) {
                *out += weight / sum * f64::from(*value);
            }
        }
        out.iter().map(|x| *x as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        seqs: 1,
        heads: 32,
        blocks_max: 2048,
        contexts_max: 32_768,
        scale: 0.088,
        cache: KvLayout {
            kind: KvKind::F16,
            blocks: 4096,
            kv_heads: 8,
            block_size: 16,
            head_dim: 128,
        },
    };

    fn hopper() -> Properties {
        Properties {
            name: "H100".into(),
            capability: (9, 0),
            multiprocessors: 132,
            shared_bytes_max: 232_448,
            l2_bytes: 50 << 20,
        }
    }

    #[test]
    fn blocks_fill_the_card_and_none_is_without_work() {
        for (seqs, contexts_max, blocks) in [
            (1, 32_768, 132),
            (1, 64, 8),
            (1, 65, 16),
            (1, 0, 8),
            (16, 32_768, 132),
            (17, 32_768, 264),
            (256, 1024, 264),
            (256, 1, 264),
        ] {
            let shape = Shape {
                seqs,
                contexts_max,
                ..SHAPE
            };
            let launch = shape.launch(&hopper()).expect("a shape");
            assert_eq!(launch.grid, [blocks, 1, 1], "{seqs} {contexts_max}");
            assert_eq!((launch.threads, launch.shared_bytes), (128, 98_304));
        }
    }

    #[test]
    fn every_kind_fits_an_ada_card() {
        for kind in [KvKind::F16, KvKind::I8] {
            for head_dim in [64, 96, 128, 256] {
                for kv_heads in [2, 32] {
                    let cache = KvLayout {
                        kind,
                        head_dim,
                        kv_heads,
                        ..SHAPE.cache
                    };
                    let shape = Shape { cache, ..SHAPE };
                    let launch = shape.launch(&hopper()).expect("a shape");
                    assert!(launch.shared_bytes <= 101_376, "{cache:?} {launch:?}");
                }
            }
        }
    }

    #[test]
    fn the_workspace_holds_arrivals_and_two_pieces_a_block() {
        let arrivals = 8;
        let pieces = 132 * 2 * (32 + 4 * 128);
        let bytes = SHAPE.workspace_bytes(&hopper());
        assert_eq!(bytes, Ok(4 * (arrivals + pieces)));
    }

    #[test]
    fn other_shapes_are_refused_by_name() {
        for (name, shape) in [
            ("seqs", Shape { seqs: 0, ..SHAPE }),
            ("heads", Shape { heads: 0, ..SHAPE }),
            ("heads", Shape { heads: 33, ..SHAPE }),
            (
                "heads",
                Shape {
                    heads: 136,
                    ..SHAPE
                },
            ),
            (
                "blocks_max",
                Shape {
                    blocks_max: 0,
                    ..SHAPE
                },
            ),
            (
                "blocks_max",
                Shape {
                    blocks_max: usize::MAX,
                    ..SHAPE
                },
            ),
        ] {
            match shape.launch(&hopper()) {
                Err(CudaError::Shape { name: refused, .. }) => assert_eq!(refused, name),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
