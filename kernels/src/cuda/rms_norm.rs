//! RMSNorm, with the sum of the residual stream and a layer's output before it.
//!
//! `residual += delta; out = residual / sqrt(mean(residual^2) + eps) * weight`: the stream is f32
//! and written back, `out` is f16.

use super::lengths::{check_lengths, rows, stepped};
use super::{Arg, CudaError, Device, Launch};

/// Most columns: four for each of a block's threads, four times.
pub const COLS_MAX: usize = 16_384;

/// Up to so many rows a row gets as many threads as it can use; beyond, blocks of
/// [`THREADS_OF_MANY_ROWS`] keep a card busier.
const FEW_ROWS: usize = 256;
const THREADS_MAX: usize = 1024;
const THREADS_OF_MANY_ROWS: usize = 256;
const KERNEL: &str = "rms_norm";

/// The residual stream's dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub rows: usize,
    /// A multiple of 4 up to [`COLS_MAX`].
    pub cols: usize,
}

/// What is added to the residual stream first, `[rows][cols]`.
pub enum Delta<'a, B> {
    /// Nothing: the stream is only read.
    None,
    F16(&'a B),
    F32(&'a B),
}

pub struct Operands<'a, B> {
    /// f32 `[rows][cols]`, in place.
    pub residual: &'a B,
    pub delta: Delta<'a, B>,
    /// f32 `[cols]`.
    pub weight: &'a B,
    pub eps: f32,
    /// f16 `[rows][cols]`.
    pub out: &'a B,
}

impl Shape {
    /// How the kernel is started.
    ///
    /// # Errors
    /// The kernel does not take the shape.
    pub fn launch(&self) -> Result<Launch, CudaError> {
        let rows = rows(KERNEL, self.rows)?;
        let rule = "it must be a multiple of 4 up to 16,384";
        let cols = stepped(KERNEL, "cols", self.cols, 4, COLS_MAX, rule)? as usize;
        let groups = cols / 4;
        let wanted = match self.rows {
            0..=FEW_ROWS => THREADS_MAX,
            _ => THREADS_OF_MANY_ROWS,
        };
        let (kernel, each) = match groups.div_ceil(wanted) {
            1 => ("rms_norm_1", 1),
            2 => ("rms_norm_2", 2),
            _ => ("rms_norm_4", 4),
        };
        Ok(Launch {
            kernel,
            grid: [rows, 1, 1],
            threads: groups.div_ceil(each).next_multiple_of(32) as u32,
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
    let elements = shape.rows * shape.cols;
    let (kind, delta) = match operands.delta {
        Delta::None => (0, None),
        Delta::F16(delta) => (1, Some((delta, 2 * elements))),
        Delta::F32(delta) => (2, Some((delta, 4 * elements))),
    };
    check_lengths(
        device,
        KERNEL,
        &[
            ("residual", operands.residual, 4 * elements),
            ("weight", operands.weight, 4 * shape.cols),
            ("out", operands.out, 2 * elements),
        ],
    )?;
    if let Some((delta, needed)) = delta {
        check_lengths(device, KERNEL, &[("delta", delta, needed)])?;
    }
    let arguments = [
        Arg::Buffer(operands.residual),
        delta.map_or(Arg::Null, |(delta, _)| Arg::Buffer(delta)),
        Arg::U32(kind),
        Arg::Buffer(operands.weight),
        Arg::F32(operands.eps),
        Arg::Buffer(operands.out),
        Arg::U32(shape.cols as u32),
    ];
    // SAFETY: the arguments are the kernel's in its order, and the buffers were just found to be as
    // long as the shape, which is all that it touches; it waits for its predecessor before it
    // touches anything but the weight.
    unsafe { device.launch_overlapping(&launch, &arguments) }
}

/// The same in plain Rust: changes `residual` and answers the normalised rows.
///
/// # Panics
/// If the lengths do not fit together.
pub fn reference(
    residual: &mut [f32],
    delta: Option<&[f32]>,
    weight: &[f32],
    eps: f32,
) -> Vec<f32> {
    if let Some(delta) = delta {
        assert_eq!(delta.len(), residual.len(), "delta is as long as residual");
        for (residual, delta) in residual.iter_mut().zip(delta) {
            *residual += delta;
        }
    }
    let mut out = Vec::with_capacity(residual.len());
    for row in residual.chunks_exact(weight.len()) {
        let squares: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
        let scale = 1.0 / (squares / row.len() as f64 + f64::from(eps)).sqrt();
        let scaled = row.iter().zip(weight);
        out.extend(scaled.map(|(x, weight)| (f64::from(*x) * scale * f64::from(*weight)) as f32));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_a_thread() {
        for (rows, cols, kernel, threads) in [
            (1, 4, "rms_norm_1", 32),
            (1, 576, "rms_norm_1", 160),
            (8, 3584, "rms_norm_1", 896),
            (8, 4096, "rms_norm_1", 1024),
            (8, 8192, "rms_norm_2", 1024),
            (8, 16_384, "rms_norm_4", 1024),
            (4096, 576, "rms_norm_1", 160),
            (4096, 1536, "rms_norm_2", 192),
            (4096, 4096, "rms_norm_4", 256),
            (4096, 16_384, "rms_norm_4", 1024),
        ] {
            let launch = Shape { rows, cols }.launch().expect("a shape it takes");
            assert_eq!((launch.kernel, launch.threads), (kernel, threads), "{cols}");
            assert_eq!(launch.grid, [rows as u32, 1, 1]);
        }
    }

    #[test]
    fn other_shapes_are_refused_by_name() {
        for (rows, cols, refused) in [
            (0, 64, "rows"),
            (usize::MAX, 64, "rows"),
            (1, 0, "cols"),
            (1, 66, "cols"),
            (1, 16_388, "cols"),
        ] {
            match (Shape { rows, cols }).launch() {
                Err(CudaError::Shape { name, .. }) => assert_eq!(name, refused),
                other => panic!("{rows} x {cols}: {other:?}"),
            }
        }
    }
}
