//! What a device must do for the operations of this folder: hold buffers and run kernels.
//!
//! There are two: a card ([`super::Card`]), and the emulator of `host-tests/gpu`, which runs the
//! same sources on the CPU. Operations are written once, for either.

use super::matmul::{Library, Matmul};
use super::{Arg, CudaError, Launch};

/// What launch parameters depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    /// As the driver names it.
    pub name: String,
    /// Major and minor compute capability: (9, 0) is a Hopper card.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Most bytes of shared memory that a block can have.
    pub shared_bytes_max: u32,
    /// Bytes of the second-level cache.
    pub l2_bytes: usize,
}

/// Memory and a queue of kernels that run one after the other.
pub trait Device {
    /// Memory of the device.
    type Buffer;

    fn properties(&self) -> &Properties;

    /// Memory of `len` bytes, each of which is `byte`.
    ///
    /// # Errors
    /// The device has not so much memory.
    fn filled(&mut self, len: usize, byte: u8) -> Result<Self::Buffer, CudaError>;

    /// A copy of `bytes`.
    ///
    /// # Errors
    /// The device has not so much memory.
    fn upload(&mut self, bytes: &[u8]) -> Result<Self::Buffer, CudaError>;

    /// The buffer's bytes after everything that was launched before.
    ///
    /// # Errors
    /// An earlier launch failed.
    fn download(&mut self, buffer: &Self::Buffer) -> Result<Vec<u8>, CudaError>;

    /// Bytes of a buffer.
    fn len(&self, buffer: &Self::Buffer) -> usize;

    /// Queues a kernel.
    ///
    /// # Safety
    /// The arguments must be those of the kernel, and what it reads and writes must lie within the
    /// buffers given.
    ///
    /// # Errors
    /// The device has no such kernel or cannot start it.
    unsafe fn launch(
        &mut self,
        launch: &Launch,
        arguments: &[Arg<'_, Self::Buffer>],
    ) -> Result<(), CudaError>;

    /// Queues a kernel that may begin while the one before it ends, as those are written to that
    /// call `wait_for_predecessor` of `intrinsics.cuh`. A device that cannot starts it in order.
    ///
    /// # Safety
    /// As of [`Device::launch`], and the kernel waits for its predecessor where it has to.
    ///
    /// # Errors
    /// As above.
    unsafe fn launch_overlapping(
        &mut self,
        launch: &Launch,
        arguments: &[Arg<'_, Self::Buffer>],
    ) -> Result<(), CudaError> {
        // SAFETY: the caller promises what `launch` asks for.
        unsafe { self.launch(launch, arguments) }
    }

    /// Whether this device can do dense products: on a card, whether cuBLASLt is installed.
    fn library(&self) -> Library;

    /// Queues a dense product.
    ///
    /// # Errors
    /// The library is not there or does not take the shape, or a buffer is too short.
    fn matmul(&mut self, product: &Matmul<'_, Self::Buffer>) -> Result<(), CudaError>;
}
