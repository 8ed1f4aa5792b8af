//! Embedding look-up: rows of a table that stays in its file's format, widened to f32.
//!
//! The table is a GGUF tensor's bytes as they are. An id outside of the vocabulary, which only a
//! device can see, gives zeros.

use super::lengths::{check_lengths, dimension, rows, stepped};
use super::{Arg, CudaError, Device, Launch};
use crate::{Dtype, KernelError, dequantize_row};

/// Most columns.
pub const COLS_MAX: usize = 1 << 18;
/// Most tokens of a vocabulary.
pub const VOCABULARY_MAX: usize = 1 << 22;

/// Columns of a thread.
const COLS_OF_THREAD: usize = 4;
const THREADS_MAX: usize = 256;
const KERNEL: &str = "embedding";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Tokens to look up.
    pub rows: usize,
    /// A multiple of 4 and of the format's block.
    pub cols: usize,
    pub vocabulary: usize,
    pub dtype: Dtype,
}

impl Shape {
    /// How the kernel is started, and how many blocks share a row.
    ///
    /// # Errors
    /// The kernel does not take the shape.
    pub fn launch(&self) -> Result<(Launch, u32), CudaError> {
        let rows = rows(KERNEL, self.rows)?;
        let rule = "it must be a multiple of 4 and of the format's block, up to 262,144";
        let step = COLS_OF_THREAD.max(self.dtype.block_len());
        stepped(KERNEL, "cols", self.cols, step, COLS_MAX, rule)?;
        let rule = "it must be 1 to 4,194,304";
        let range = 1..=VOCABULARY_MAX;
        dimension(KERNEL, "vocabulary", self.vocabulary, range, rule)?;
        let wanted = self.cols / COLS_OF_THREAD;
        let parts = wanted.div_ceil(THREADS_MAX);
        let launch = Launch {
            kernel: match self.dtype {
                Dtype::F32 => "embedding_f32",
                Dtype::F16 => "embedding_f16",
                Dtype::BF16 => "embedding_bf16",
                Dtype::Q4_0 => "embedding_q4_0",
                Dtype::Q4_1 => "embedding_q4_1",
                Dtype::Q5_0 => "embedding_q5_0",
                Dtype::Q8_0 => "embedding_q8_0",
                Dtype::Q4K => "embedding_q4_k",
                Dtype::Q6K => "embedding_q6_k",
            },
            grid: [rows * parts as u32, 1, 1],
            threads: wanted.div_ceil(parts).next_multiple_of(32) as u32,
            shared_bytes: 0,
        };
        Ok((launch, parts as u32))
    }
}

pub struct Operands<'a, B> {
    /// u32 `[rows]`.
    pub ids: &'a B,
    /// `[vocabulary][cols]` in the format.
    pub table: &'a B,
    /// f32 `[rows][cols]`.
    pub out: &'a B,
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
    let (launch, parts) = shape.launch()?;
    let row_bytes = shape.dtype.row_bytes(shape.cols)?;
    check_lengths(
        device,
        KERNEL,
        &[
            ("ids", operands.ids, 4 * shape.rows),
            ("table", operands.table, shape.vocabulary * row_bytes),
            ("out", operands.out, 4 * shape.rows * shape.cols),
        ],
    )?;
    let arguments = [
        Arg::Buffer(operands.ids),
        Arg::Buffer(operands.table),
        Arg::Buffer(operands.out),
        Arg::U32(shape.cols as u32),
        Arg::U32(shape.vocabulary as u32),
        Arg::U64(row_bytes as u64),
        Arg::U32(parts),
    ];
    // SAFETY: the arguments are the kernel's in its order, and the buffers were just found to be as
    // long as the shape; the kernel reads no row of the table beyond the vocabulary.
    unsafe { device.launch(&launch, &arguments) }
}

/// The same in plain Rust.
///
/// # Errors
/// `table` has another length than the shape's.
pub fn reference(shape: &Shape, ids: &[u32], table: &[u8]) -> Result<Vec<f32>, KernelError> {
    let row_bytes = shape.dtype.row_bytes(shape.cols)?;
    let expected = shape.vocabulary * row_bytes;
    if table.len() != expected {
        return Err(KernelError::ByteLength {
            expected,
            actual: table.len(),
        });
    }
    let mut out = vec![0.0; ids.len() * shape.cols];
    for (&id, out) in ids.iter().zip(out.chunks_exact_mut(shape.cols)) {
        if (id as usize) < shape.vocabulary {
            let row = &table[id as usize * row_bytes..][..row_bytes];
            dequantize_row(shape.dtype, row, out)?;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        rows: 5,
        cols: 4096,
        vocabulary: 100,
        dtype: Dtype::Q6K,
    };

    #[test]
    fn every_column_has_a_thread() {
        for cols in [256, 768, 1536, 3584, 4096, 8192] {
            let (launch, parts) = Shape { cols, ..SHAPE }.launch().expect("a shape it takes");
            assert_eq!(launch.grid, [5 * parts, 1, 1]);
            assert!((parts * launch.threads) as usize * COLS_OF_THREAD >= cols);
            assert!(launch.threads as usize <= THREADS_MAX);
        }
    }

    #[test]
    fn other_shapes_are_refused_by_name() {
        for (refused, shape) in [
            ("rows", Shape { rows: 0, ..SHAPE }),
            ("cols", Shape { cols: 128, ..SHAPE }),
            (
                "vocabulary",
                Shape {
                    vocabulary: 0,
                    ..SHAPE
                },
            ),
        ] {
            match shape.launch() {
                Err(CudaError::Shape { name, .. }) => assert_eq!(name, refused),
                other => panic!("{refused}: {other:?}"),
            }
        }
    }
}
