//! A plain copy, byte for byte.

use super::{Extent, Outcome};
use crate::random::Random;
use farthing_kernels::cuda::{CudaError, Device, copy};

/// Copies of lengths that fill no block, some blocks, and more than all of them at once.
///
/// # Errors
/// The device fails.
pub fn check<D: Device>(
    device: &mut D,
    extent: Extent,
    random: &mut Random,
) -> Result<Vec<Outcome>, CudaError> {
    let lengths: &[usize] = match extent {
        Extent::Small => &[16, 16 * 2047, 16 * 5000],
        Extent::Full => &[16, 16 * 2047, 1 << 27],
    };
    let mut outcomes = Vec::new();
    for &len in lengths {
        let bytes: Vec<u8> = (0..len).map(|_| random.bits() as u8).collect();
        let (from, to) = (device.upload(&bytes)?, device.filled(len, 0xff)?);
        copy::run(device, &from, &to, len)?;
        let copied = device.download(&to)?;
        let unlike = copied.iter().zip(&bytes).filter(|(a, b)| a != b).count();
        outcomes.push(Outcome {
            operation: "copy",
            case: format!("{len} bytes"),
            error: unlike as f64,
            tolerance: 0.0,
        });
    }
    Ok(outcomes)
}
