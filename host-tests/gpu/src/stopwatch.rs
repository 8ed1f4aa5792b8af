//! Timing on a device.

use farthing_kernels::cuda::{CudaError, Device};

/// A device that can time what runs on it.
pub trait Stopwatch: Device {
    /// Median microseconds of one call. The `copies` calls, each told its number, are recorded
    /// once and replayed many times back to back, so that the gaps between launches do not count;
    /// calls should rotate among operands that do not fit in the cache together.
    ///
    /// # Errors
    /// A call fails, or the device does.
    fn time_us(
        &mut self,
        copies: usize,
        call: &mut dyn FnMut(&mut Self, usize) -> Result<(), CudaError>,
    ) -> Result<f64, CudaError>;
}
