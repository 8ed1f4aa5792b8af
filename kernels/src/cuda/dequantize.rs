//! Packed weights as a plain matrix on the device (`dequantize.cu`); the reference is
//! [`Packed::unpack`](super::weights::Packed::unpack).

use super::lengths::check_lengths;
use super::weights::{DeviceWeights, WeightShape};
use super::{Arg, CudaError, Device, Launch, Properties};

/// Entry points in the order of the formats.
const KERNELS: [&str; 4] = [
    "dequantize_nibble_affine",
    "dequantize_nibble_symmetric",
    "dequantize_byte_symmetric",
    "dequantize_byte_half_groups",
];
/// Warps of a block, a tile each.
const WARPS: usize = 8;
/// Blocks of a multiprocessor, enough to keep its memory busy.
const BLOCKS: usize = 8;

/// How the kernel is started.
///
/// # Errors
/// The weights' shape is none.
pub fn launch(shape: &WeightShape, properties: &Properties) -> Result<Launch, CudaError> {
    shape.check()?;
    let tiles = shape.row_blocks() * shape.tiles();
    let blocks = tiles.div_ceil(WARPS);
    Ok(Launch {
        kernel: KERNELS[shape.format.index()],
        grid: [
            blocks.min(properties.multiprocessors as usize * BLOCKS) as u32,
            1,
            1,
        ],
        threads: WARPS as u32 * 32,
        shared_bytes: 0,
    })
}

/// Writes the weights to `out`, f16 `[rows, cols]`.
///
/// # Errors
/// The weights' shape is none, or a buffer is too short.
pub fn run<D: Device>(
    device: &mut D,
    weights: &DeviceWeights<D::Buffer>,
    out: &D::Buffer,
) -> Result<(), CudaError> {
    let shape = &weights.shape;
    let launch = launch(shape, device.properties())?;
    check_lengths(
        device,
        launch.kernel,
        &[
            ("quants", &weights.quants, shape.quant_bytes()),
            ("scales", &weights.scales, shape.scale_bytes()),
            ("out", out, shape.rows * shape.cols * 2),
        ],
    )?;
    let arguments = [
        Arg::Buffer(&weights.quants),
        Arg::Buffer(&weights.scales),
        Arg::U32(shape.rows as u32),
        Arg::U32(shape.cols as u32),
        Arg::U32(shape.group_shift()),
        Arg::Buffer(out),
    ];
    // SAFETY: these are the parameters of `DEQUANTIZE_ENTRY`, and the buffers have the lengths that
    // the shape asks for.
    unsafe { device.launch(&launch, &arguments) }
}
