//! A plain copy on the device (`copy.cu`), whose speed is the limit of every other kernel that
//! memory bounds. Its reference is the bytes themselves.

use super::lengths::check_lengths;
use super::{Arg, CudaError, Device, Launch, Properties};

const KERNEL: &str = "copy_bytes";
const THREADS: usize = 512;
/// Loads of a thread that are under way together, of sixteen bytes each.
const LOADS: usize = 4;
/// Blocks of a multiprocessor: enough to keep its memory busy.
const BLOCKS: usize = 16;

/// How `len` bytes are copied.
///
/// # Errors
/// `len` is no multiple of 16.
pub fn launch(len: usize, properties: &Properties) -> Result<Launch, CudaError> {
    if len == 0 || !len.is_multiple_of(16) {
        return Err(CudaError::Shape {
            kernel: KERNEL,
            name: "len",
            value: len,
            rule: "a multiple of 16",
        });
    }
    let blocks = len.div_ceil(16 * THREADS * LOADS);
    Ok(Launch {
        kernel: KERNEL,
        grid: [
            blocks.min(properties.multiprocessors as usize * BLOCKS) as u32,
            1,
            1,
        ],
        threads: THREADS as u32,
        shared_bytes: 0,
    })
}

/// Copies the first `len` bytes.
///
/// # Errors
/// `len` is no multiple of 16, or a buffer is shorter.
pub fn run<D: Device>(
    device: &mut D,
    from: &D::Buffer,
    to: &D::Buffer,
    len: usize,
) -> Result<(), CudaError> {
    let launch = launch(len, device.properties())?;
    check_lengths(device, KERNEL, &[("from", from, len), ("to", to, len)])?;
    let arguments = [
        Arg::Buffer(from),
        Arg::Buffer(to),
        Arg::U64((len / 16) as u64),
    ];
    // SAFETY: these are the parameters of `copy_bytes`, and both buffers have `len` bytes.
    unsafe { device.launch(&launch, &arguments) }
}
