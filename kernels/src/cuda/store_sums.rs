//! Sums of a library's product put where our own products put theirs (`store_sums.cu`).

use half::f16;

use super::lengths::{check_lengths, dimension, rows};
use super::matmul::Part;
use super::product::Store;
use super::{Arg, CudaError, Device, Launch};

/// Most columns of the sums, and of what they are stored in.
pub const COLS_MAX: usize = crate::MATRIX_ROWS_MAX;
/// Most columns of the sums of one call.
pub const BAND_COLS_MAX: usize = 1 << 18;

const THREADS: usize = 256;
const COLS_OF_THREAD: usize = 4;
const KERNEL: &str = "store_sums_f32";

/// Which sums are stored where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub tokens: usize,
    /// Columns of the sums.
    pub cols: usize,
    /// Columns of the output, of which those from `first` on are written.
    pub out_cols: usize,
    pub first: usize,
    pub store: Store,
}

/// The operands of one call.
pub struct Operands<'a, B> {
    /// f32 `[tokens, cols]`.
    pub sums: Part<'a, B>,
    /// f32 `[out_cols]`.
    pub bias: Option<&'a B>,
    /// f16 or f32 `[tokens, out_cols]`, from this token on.
    pub out: &'a B,
    pub first_token: usize,
}

impl Shape {
    /// How the kernel is started, and how many blocks share a token.
    ///
    /// # Errors
    /// The kernel does not take the shape.
    pub fn launch(&self) -> Result<(Launch, u32), CudaError> {
        let rows = rows(KERNEL, self.tokens)?;
        let rule = "it must be 1 to 262,144";
        dimension(KERNEL, "cols", self.cols, 1..=BAND_COLS_MAX, rule)?;
        let rule = "it must be at most 4,194,304";
        dimension(KERNEL, "out_cols", self.out_cols, 1..=COLS_MAX, rule)?;
        let end = self.first.saturating_add(self.cols);
        let rule = "the columns must lie within those of the output";
        dimension(KERNEL, "first", end, 1..=self.out_cols, rule)?;
        let parts = self.cols.div_ceil(THREADS * COLS_OF_THREAD) as u32;
        let launch = Launch {
            kernel: KERNEL,
            grid: [rows * parts, 1, 1],
            threads: THREADS as u32,
            shared_bytes: 0,
        };
        Ok((launch, parts))
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
    let (launch, parts) = shape.launch()?;
    let Operands { bias, out, .. } = *operands;
    let sums = &operands.sums;
    let token_bytes = shape.out_cols * shape.store.output_bytes();
    let offset = operands.first_token.saturating_mul(token_bytes);
    let end = offset.saturating_add(shape.tokens * token_bytes);
    check_lengths(
        device,
        KERNEL,
        &[
            (
                "sums",
                sums.buffer,
                sums.offset + 4 * shape.tokens * shape.cols,
            ),
            ("out", out, end),
            (
                "bias",
                bias.unwrap_or(out),
                bias.map_or(0, |_| 4 * shape.out_cols),
            ),
        ],
    )?;
    let arguments = [
        Arg::At(sums.buffer, sums.offset),
        Arg::At(out, offset),
        bias.map_or(Arg::Null, Arg::Buffer),
        Arg::U32(shape.cols as u32),
        Arg::U32(parts),
        Arg::U32(shape.out_cols as u32),
        Arg::U32(shape.first as u32),
        Arg::U32(shape.store as u32),
    ];
    // SAFETY: the arguments are the kernel's in its order, and the buffers were just found to be as
    // long as the shape, which is all that it touches.
    unsafe { device.launch(&launch, &arguments) }
}

/// The same in plain Rust, for one element; `before` is what was there.
pub fn reference(sum: f32, bias: Option<f32>, before: f32, store: Store) -> f32 {
    let value = sum + bias.unwrap_or(0.0);
    match store {
        Store::F16 => {
            let most = f16::MAX.to_f32();
            f16::from_f32(value.clamp(-most, most)).to_f32()
        }
        Store::F32 => value,
        Store::Add => before + value,
    }
}

#[cfg(test)]
mod tests {
    use super::{BAND_COLS_MAX, COLS_OF_THREAD, Shape, THREADS};
    use crate::cuda::CudaError;
    use crate::cuda::product::Store;

    const SHAPE: Shape = Shape {
        tokens: 3,
        cols: 100,
        out_cols: 300,
        first: 200,
        store: Store::F16,
    };

    #[test]
    fn every_column_has_a_thread() {
        for (cols, parts) in [(1, 1), (1024, 1), (1025, 2), (BAND_COLS_MAX, 256)] {
            let shape = Shape {
                cols,
                out_cols: BAND_COLS_MAX,
                first: 0,
                ..SHAPE
            };
            let (launch, of_token) = shape.launch().expect("a shape it takes");
            assert_eq!((launch.grid, of_token), ([3 * parts, 1, 1], parts));
            assert!(parts as usize * THREADS * COLS_OF_THREAD >= cols);
        }
    }

    #[test]
    fn other_shapes_are_refused_by_name() {
        for (shape, refused) in [
            (Shape { tokens: 0, ..SHAPE }, "rows"),
            (Shape { cols: 0, ..SHAPE }, "cols"),
            (
                Shape {
                    out_cols: 0,
                    ..SHAPE
                },
                "out_cols",
            ),
            (
                Shape {
                    first: 201,
                    ..SHAPE
                },
                "first",
            ),
        ] {
            match shape.launch() {
                Err(CudaError::Shape { name, .. }) => assert_eq!(name, refused),
                other => panic!("{shape:?}: {other:?}"),
            }
        }
    }
}
