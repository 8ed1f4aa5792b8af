//! A CUDA device that is none: the kernels, compiled as C++, on the CPU.
//!
//! A block's threads are fibers; blocks run one after the other. Results are those of a card up to
//! the order of sums, and what a card would let pass is an error: threads that do not all come to
//! a barrier, accesses beyond a buffer or the shared memory, misaligned ones, arguments of another
//! type than the kernel's. Memory that nobody wrote, shared memory included, is no number, and a
//! copy in the background arrives only when the thread waits for it.
//!
//! The device itself is C++ (`runtime.h`, `emulator.h`), because the kernels are.

mod buffer;
mod library;
mod native;

pub use buffer::Buffer;

use farthing_kernels::cuda::matmul::{Library, Matmul};
use farthing_kernels::cuda::{Arg, CudaError, Device, Launch, Properties};
use native::Argument;

/// The emulated device.
pub struct Emulator {
    properties: Properties,
}

impl Default for Emulator {
    fn default() -> Emulator {
        Emulator::new((9, 0), 4)
    }
}

impl Emulator {
    /// One that says it has this capability and so many multiprocessors, which is what operations
    /// choose their kernels and grids by.
    pub fn new(capability: (u32, u32), multiprocessors: u32) -> Emulator {
        let properties = Properties {
            name: "emulator".into(),
            capability,
            multiprocessors,
            shared_bytes_max: 227 * 1024,
            l2_bytes: 8 << 20,
        };
        Emulator { properties }
    }
}

impl Device for Emulator {
    type Buffer = Buffer;

    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn filled(&mut self, len: usize, byte: u8) -> Result<Buffer, CudaError> {
        Ok(Buffer::filled(len, byte))
    }

    fn upload(&mut self, bytes: &[u8]) -> Result<Buffer, CudaError> {
        Ok(Buffer::of(bytes))
    }

    fn download(&mut self, buffer: &Buffer) -> Result<Vec<u8>, CudaError> {
        Ok(buffer.bytes())
    }

    fn len(&self, buffer: &Buffer) -> usize {
        buffer.len()
    }

    unsafe fn launch(
        &mut self,
        launch: &Launch,
        arguments: &[Arg<'_, Buffer>],
    ) -> Result<(), CudaError> {
        let refused = |reason: String| CudaError::Driver {
            action: format!("run {}", launch.kernel),
            reason,
        };
        if launch.shared_bytes > self.properties.shared_bytes_max {
            return Err(refused(format!(
                "{} bytes of shared memory are more than the {} of a block",
                launch.shared_bytes, self.properties.shared_bytes_max
            )));
        }
        let given: Vec<Argument<'_>> = arguments.iter().map(Argument::from).collect();
        // What a kernel touches is checked while it runs, so the caller need not be right about it
        // as long as the compiler could put the checks in.
        native::launch(launch, &given)?;
        for (index, argument) in given.iter().enumerate() {
            if argument
                .buffer
                .is_some_and(|buffer| !buffer.guards_are_whole())
            {
                return Err(refused(format!(
                    "it wrote outside the buffer of argument {index}"
                )));
            }
        }
        Ok(())
    }

    fn library(&self) -> Library {
        Library::Present
    }

    fn matmul(&mut self, product: &Matmul<'_, Buffer>) -> Result<(), CudaError> {
        product.check(self)?;
        library::matmul(product);
        Ok(())
    }
}

impl<'a> From<&Arg<'a, Buffer>> for Argument<'a> {
    fn from(argument: &Arg<'a, Buffer>) -> Argument<'a> {
        let of = |kind, value| Argument {
            kind,
            value,
            buffer: None,
        };
        match *argument {
            Arg::Buffer(buffer) => Argument::pointer(buffer, 0),
            Arg::At(buffer, offset) => Argument::pointer(buffer, offset),
            Arg::Null => of(b'p', 0),
            Arg::U32(value) => of(b'u', u64::from(value)),
            Arg::U64(value) => of(b'l', value),
            Arg::F32(value) => of(b'f', u64::from(value.to_bits())),
        }
    }
}
