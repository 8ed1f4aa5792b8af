//! The gate of a feed-forward layer: `out = silu(gate) * up`, f16 in and out, f32 between.

use super::lengths::{check_lengths, rows, stepped};
use super::{Arg, CudaError, Device, Launch};

/// Most columns of one half.
pub const COLS_MAX: usize = 1 << 18;

/// Columns of a thread.
const COLS_OF_THREAD: usize = 8;
const THREADS_MAX: usize = 256;
const KERNEL: &str = "swiglu_f16";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub rows: usize,
    /// Columns of `out`, half of those of `gate_up`: a multiple of 8 up to [`COLS_MAX`].
    pub cols: usize,
}

impl Shape {
    /// How the kernel is started, and how many blocks share a row.
    ///
    /// # Errors
    /// The kernel does not take the shape.
    pub fn launch(&self) -> Result<(Launch, u32), CudaError> {
        let rows = rows(KERNEL, self.rows)?;
        let rule = "it must be a multiple of 8 up to 262,144";
        stepped(KERNEL, "cols", self.cols, COLS_OF_THREAD, COLS_MAX, rule)?;
        let wanted = self.cols / COLS_OF_THREAD;
        let parts = wanted.div_ceil(THREADS_MAX);
        let launch = Launch {
            kernel: KERNEL,
            grid: [rows * parts as u32, 1, 1],
            threads: wanted.div_ceil(parts).next_multiple_of(32) as u32,
            shared_bytes: 0,
        };
        Ok((launch, parts as u32))
    }
}

/// Queues the operation: `gate_up` f16 `[rows][2 * cols]`, a row's gates before its ups, and `out`
/// f16 `[rows][cols]`.
///
/// # Errors
/// The kernel does not take the shape, a buffer is too short for it, or the device fails.
pub fn run<D: Device>(
    device: &mut D,
    shape: &Shape,
    gate_up: &D::Buffer,
    out: &D::Buffer,
) -> Result<(), CudaError> {
    let (launch, parts) = shape.launch()?;
    let bytes = 2 * shape.rows * shape.cols;
    let lengths = [("gate_up", gate_up, 2 * bytes), ("out", out, bytes)];
    check_lengths(device, KERNEL, &lengths)?;
    let arguments = [
        Arg::Buffer(gate_up),
        Arg::Buffer(out),
        Arg::U32(shape.cols as u32),
        Arg::U32(parts),
    ];
    // SAFETY: the arguments are the kernel's in its order, and the buffers were just found to be as
    // long as the shape, which is all that it touches; it waits for its predecessor first.
    unsafe { device.launch_overlapping(&launch, &arguments) }
}

/// The same in plain Rust.
///
/// # Panics
/// If `gate_up` is no whole number of rows.
pub fn reference(gate_up: &[f32], cols: usize) -> Vec<f32> {
    assert!(gate_up.len().is_multiple_of(2 * cols), "rows of 2 * {cols}");
    let silu = |x: f64| x / (1.0 + (-x).exp());
    let mut out = Vec::with_capacity(gate_up.len() / 2);
    for row in gate_up.chunks_exact(2 * cols) {
        let (gates, ups) = row.split_at(cols);
        let pairs = gates.iter().zip(ups);
        out.extend(pairs.map(|(gate, up)| (silu(f64::from(*gate)) * f64::from(*up)) as f32));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_a_thread() {
        for (rows, cols, blocks, threads) in [
            (1, 8, 1, 32),
            (3, 1536, 3, 192),
            (2, 14_336, 14, 256),
            (1, 18_944, 10, 256),
        ] {
            let (launch, parts) = Shape { rows, cols }.launch().expect("a shape it takes");
            assert_eq!((launch.grid, launch.threads), ([blocks, 1, 1], threads));
            assert!((parts * launch.threads) as usize * COLS_OF_THREAD >= cols);
        }
    }

    #[test]
    fn other_shapes_are_refused_by_name() {
        for (rows, cols, refused) in [(0, 8, "rows"), (1, 0, "cols"), (1, 12, "cols")] {
            match (Shape { rows, cols }).launch() {
                Err(CudaError::Shape { name, .. }) => assert_eq!(name, refused),
                other => panic!("{rows} x {cols}: {other:?}"),
            }
        }
    }
}
