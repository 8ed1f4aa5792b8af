//! Packed weights as a plain matrix on the device (`dequantize.cu`); the reference is
//! [`Packed::unpack`](super::weights::Packed::unpack).

use std::ops::Range;

use super::lengths::check_lengths;
use super::weights::{DeviceWeights, TILE_ROWS, WeightShape};
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
    run_band(device, weights, 0..weights.shape.rows, out)
}

/// Writes the weights of some outputs to `out`, f16 `[band, cols]`. The first of them is the first
/// of a tile.
///
/// # Errors
/// The weights' shape is none, the band is not in it, or a buffer is too short.
pub fn run_band<D: Device>(
    device: &mut D,
    weights: &DeviceWeights<D::Buffer>,
    band: Range<usize>,
    out: &D::Buffer,
) -> Result<(), CudaError> {
    let shape = &weights.shape;
    shape.check()?;
    let within = band.start < band.end && band.end <= shape.rows;
    if !within || !band.start.is_multiple_of(TILE_ROWS) {
        return Err(CudaError::Shape {
            kernel: KERNELS[shape.format.index()],
            name: "band",
            value: band.start,
            rule: "it begins with a tile of 64 and ends within the matrix",
        });
    }
    let of_band = WeightShape {
        rows: band.len(),
        ..*shape
    };
    let before = WeightShape {
        rows: band.start,
        ..*shape
    };
    let launch = launch(&of_band, device.properties())?;
    check_lengths(
        device,
        launch.kernel,
        &[
            ("quants", &weights.quants, shape.quant_bytes()),
            ("scales", &weights.scales, shape.scale_bytes()),
            ("out", out, of_band.rows * shape.cols * 2),
        ],
    )?;
    let arguments = [
        Arg::At(&weights.quants, before.quant_bytes()),
        Arg::At(&weights.scales, before.scale_bytes()),
        Arg::U32(of_band.rows as u32),
        Arg::U32(shape.cols as u32),
        Arg::U32(shape.group_shift()),
        Arg::Buffer(out),
    ];
    // SAFETY: these are the parameters of `DEQUANTIZE_ENTRY`, and the buffers have the lengths that
    // the shape asks for: tiles of outputs lie one after the other.
    unsafe { device.launch(&launch, &arguments) }
}

#[cfg(test)]
mod tests {
    use super::launch;
    use crate::cuda::Properties;
    use crate::cuda::weights::{Format, WeightShape};

    #[test]
    fn every_tile_has_a_warp_or_waits_for_one() {
        let card = Properties {
            name: "a card".to_string(),
            capability: (8, 0),
            multiprocessors: 10,
            shared_bytes_max: 163 << 10,
            l2_bytes: 40 << 20,
        };
        for (rows, cols, blocks) in [(1, 32, 1), (65, 128, 1), (64 * 9, 96, 4), (6400, 1024, 80)] {
            let shape = WeightShape {
                format: Format::ByteSymmetric,
                rows,
                cols,
                group: 32,
            };
            let launch = launch(&shape, &card).expect("a shape it takes");
            assert_eq!(launch.grid, [blocks, 1, 1], "{rows} x {cols}");
        }
    }
}
