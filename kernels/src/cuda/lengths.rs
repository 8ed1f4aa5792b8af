//! Whether shapes are within a kernel's limits and buffers as long as shapes ask for.

use std::ops::RangeInclusive;

use super::{CudaError, Device};

/// Most rows (tokens, sequences) of one call.
pub const ROWS_MAX: usize = 1 << 20;

/// Each is a buffer's name, the buffer, and the bytes that the shape needs of it.
///
/// # Errors
/// The first buffer that is too short.
pub(super) fn check_lengths<D: Device>(
    device: &D,
    kernel: &'static str,
    lengths: &[(&'static str, &D::Buffer, usize)],
) -> Result<(), CudaError> {
    for &(name, buffer, needed) in lengths {
        let actual = device.len(buffer);
        if actual < needed {
            return Err(CudaError::BufferTooShort {
                kernel,
                name,
                actual,
                needed,
            });
        }
    }
    Ok(())
}

/// A dimension as the kernels count it.
///
/// # Errors
/// It is not within `range`, which must be below 2^32.
pub(super) fn dimension(
    kernel: &'static str,
    name: &'static str,
    value: usize,
    range: RangeInclusive<usize>,
    rule: &'static str,
) -> Result<u32, CudaError> {
    match u32::try_from(value) {
        Ok(narrow) if range.contains(&value) => Ok(narrow),
        _ => Err(CudaError::Shape {
            kernel,
            name,
            value,
            rule,
        }),
    }
}

/// Rows of a call.
///
/// # Errors
/// There are none, or more than [`ROWS_MAX`].
pub(super) fn rows(kernel: &'static str, value: usize) -> Result<u32, CudaError> {
    dimension(
        kernel,
        "rows",
        value,
        1..=ROWS_MAX,
        "it must be 1 to 1,048,576",
    )
}

/// A dimension of which threads take `step` elements at once.
///
/// # Errors
/// It is zero, above `max`, or no multiple of `step`.
pub(super) fn stepped(
    kernel: &'static str,
    name: &'static str,
    value: usize,
    step: usize,
    max: usize,
    rule: &'static str,
) -> Result<u32, CudaError> {
    let value = dimension(kernel, name, value, step..=max, rule)?;
    if value.is_multiple_of(step as u32) {
        Ok(value)
    } else {
        Err(CudaError::Shape {
            kernel,
            name,
            value: value as usize,
            rule,
        })
    }
}
