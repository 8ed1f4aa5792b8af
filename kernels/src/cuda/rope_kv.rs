//! Bias, rotary embedding and the write into the cache, between the projection and attention.
//!
//! Positions and slots are on the device, so only the kernel can check them: a row whose position
//! is beyond the table is left out entirely, and one whose slot is beyond the cache ([`NO_SLOT`])
//! has its query written and no key and value.

use super::kv_layout::{Half, KvBuffers, KvBytes, KvKind, KvLayout};
use super::lengths::{check_lengths, dimension, rows};
use super::{Arg, CudaError, Device, Launch};
use crate::{ROPE_POSITIONS_MAX, RopeStyle, RopeTable, rope};

/// The slot of a row whose key and value are not kept, such as padding.
pub const NO_SLOT: u32 = u32::MAX;
/// Most query heads.
pub const HEADS_MAX: usize = 1024;

/// Dimensions of a thread: eight of either half of a head.
const DIMENSIONS_OF_THREAD: usize = 16;
const THREADS_MAX: usize = 512;
const KERNEL: &str = "rope_kv";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub rows: usize,
    /// Query heads.
    pub heads: usize,
    pub style: RopeStyle,
    /// Positions of the table.
    pub positions: usize,
    pub cache: KvLayout,
}

pub struct Operands<'a, B> {
    /// f16 `[rows][(heads + 2 * kv_heads) * head_dim]`: queries, keys, values.
    pub qkv: &'a B,
    /// f32, one row of that.
    pub bias: Option<&'a B>,
    /// u32 `[rows]`.
    pub positions: &'a B,
    /// u32 `[rows]`.
    pub slots: &'a B,
    /// f32 `[positions][head_dim / 2]`, and the same of the sines.
    pub cosines: &'a B,
    pub sines: &'a B,
    /// f16 `[rows][heads][head_dim]`.
    pub q_out: &'a B,
    pub cache: KvBuffers<'a, B>,
}

impl Shape {
    /// Columns of a row of `qkv`.
    pub fn width(&self) -> usize {
        (self.heads + 2 * self.cache.kv_heads) * self.cache.head_dim
    }

    /// Threads that share a head: a power of two, so that a warp has whole heads.
    fn group(&self) -> usize {
        (self.cache.head_dim / DIMENSIONS_OF_THREAD).next_power_of_two()
    }

    /// How the kernel is started.
    ///
    /// # Errors
    /// The kernel does not take the shape.
    pub fn launch(&self) -> Result<Launch, CudaError> {
        let rows = rows(KERNEL, self.rows)?;
        self.cache.check(KERNEL)?;
        let rule = "it must be 1 to 1,024";
        dimension(KERNEL, "heads", self.heads, 1..=HEADS_MAX, rule)?;
        let (range, rule) = (1..=ROPE_POSITIONS_MAX, "it must be 1 to 1,048,576");
        dimension(KERNEL, "positions", self.positions, range, rule)?;
        let threads = (self.heads + 2 * self.cache.kv_heads) * self.group();
        Ok(Launch {
            kernel: match (self.style, self.cache.kind) {
                (RopeStyle::Interleaved, KvKind::F16) => "rope_kv_interleaved_f16",
                (RopeStyle::Halves, KvKind::F16) => "rope_kv_halves_f16",
                (RopeStyle::Interleaved, KvKind::I8) => "rope_kv_interleaved_i8",
                (RopeStyle::Halves, KvKind::I8) => "rope_kv_halves_i8",
            },
            grid: [rows, 1, 1],
            threads: threads.next_multiple_of(32).min(THREADS_MAX) as u32,
            shared_bytes: 0,
        })
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
    let layout = &shape.cache;
    let table_bytes = 4 * shape.positions * (layout.head_dim / 2);
    let q_bytes = 2 * shape.rows * shape.heads * layout.head_dim;
    check_lengths(
        device,
        KERNEL,
        &[
            ("qkv", operands.qkv, 2 * shape.rows * shape.width()),
            ("positions", operands.positions, 4 * shape.rows),
            ("slots", operands.slots, 4 * shape.rows),
            ("cosines", operands.cosines, table_bytes),
            ("sines", operands.sines, table_bytes),
            ("q_out", operands.q_out, q_bytes),
        ],
    )?;
    if let Some(bias) = operands.bias {
        check_lengths(device, KERNEL, &[("bias", bias, 4 * shape.width())])?;
    }
    operands.cache.check(device, layout, KERNEL)?;
    let [keys, values, key_scales, value_scales] = operands.cache.arguments();
    let arguments = [
        Arg::Buffer(operands.qkv),
        operands.bias.map_or(Arg::Null, Arg::Buffer),
        Arg::Buffer(operands.positions),
        Arg::Buffer(operands.slots),
        Arg::Buffer(operands.cosines),
        Arg::Buffer(operands.sines),
        Arg::U32(shape.positions as u32),
        Arg::Buffer(operands.q_out),
        keys,
        values,
        key_scales,
        value_scales,
        Arg::U32(shape.heads as u32),
        Arg::U32(layout.kv_heads as u32),
        Arg::U32(layout.head_dim as u32),
        Arg::U32(layout.block_size as u32),
        Arg::U32((layout.blocks * layout.block_size) as u32),
        Arg::U32(shape.group() as u32),
    ];
    // SAFETY: the arguments are the kernel's in its order, and the buffers were just found to be as
    // long as the shape; the kernel compares each position and slot with the table and the cache.
    // It waits for its predecessor first.
    unsafe { device.launch_overlapping(&launch, &arguments) }
}

/// What [`reference`] reads.
pub struct Inputs<'a> {
    /// As of [`Operands`], in f32.
    pub qkv: &'a [f32],
    pub bias: Option<&'a [f32]>,
    pub positions: &'a [u32],
    pub slots: &'a [u32],
    pub table: &'a RopeTable,
}

/// The same in plain Rust. Rows of `queries` that the kernel leaves out are not touched.
///
/// # Panics
/// If lengths do not fit the shape.
pub fn reference(shape: &Shape, inputs: &Inputs<'_>, queries: &mut [f32], cache: &mut KvBytes) {
    let layout = shape.cache;
    let (head_dim, q_width) = (layout.head_dim, shape.heads * layout.head_dim);
    let k_width = layout.kv_heads * head_dim;
    let rows = inputs.qkv.chunks_exact(shape.width());
    for (row, (qkv, queries)) in rows.zip(queries.chunks_exact_mut(q_width)).enumerate() {
        let position = inputs.positions[row] as usize;
        if position >= shape.positions {
            continue;
        }
        let mut qkv = qkv.to_vec();
        if let Some(bias) = inputs.bias {
            qkv.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
        }
        let turned = &mut qkv[..q_width + k_width];
        rope(turned, head_dim, position, inputs.table, shape.style);
        queries.copy_from_slice(&qkv[..q_width]);
        let slot = inputs.slots[row] as usize;
        if slot >= layout.blocks * layout.block_size {
            continue;
        }
        let (keys, values) = qkv[q_width..].split_at(k_width);
        for (half, heads) in [(Half::Keys, keys), (Half::Values, values)] {
            for (head, elements) in heads.chunks_exact(head_dim).enumerate() {
                cache.write(half, slot, head, elements);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        rows: 7,
        heads: 32,
        style: RopeStyle::Halves,
        positions: 8192,
        cache: KvLayout {
            kind: KvKind::I8,
            blocks: 10,
            kv_heads: 8,
            block_size: 16,
            head_dim: 128,
        },
    };

    #[test]
    fn heads_get_whole_groups_of_threads() {
        for (heads, head_dim, threads) in
            [(32, 128, 384), (9, 64, 128), (1, 96, 160), (64, 256, 512)]
        {
            let cache = KvLayout {
                head_dim,
                ..SHAPE.cache
            };
            let shape = Shape {
                heads,
                cache,
                ..SHAPE
            };
            let launch = shape.launch().expect("a shape it takes");
            assert_eq!((launch.grid, launch.threads), ([7, 1, 1], threads));
            assert_eq!(launch.kernel, "rope_kv_halves_i8");
        }
    }

    #[test]
    fn other_shapes_are_refused_by_name() {
        let cache = KvLayout {
            head_dim: 80,
            ..SHAPE.cache
        };
        for (refused, shape) in [
            ("rows", Shape { rows: 0, ..SHAPE }),
            ("heads", Shape { heads: 0, ..SHAPE }),
            (
                "positions",
                Shape {
                    positions: 0,
                    ..SHAPE
                },
            ),
            ("head_dim", Shape { cache, ..SHAPE }),
        ] {
            match shape.launch() {
                Err(CudaError::Shape { name, .. }) => assert_eq!(name, refused),
                other => panic!("{refused}: {other:?}"),
            }
        }
    }
}
