//! A CUDA card: memory, kernels and one queue. This is the only file of the workspace that names
//! cudarc; those of this folder take its parts from here.
//!
//! CUDA's libraries are opened when they are first used, so a program with this inside starts on
//! any machine. cudarc panics where a library is missing: each is looked for first.

mod blas;
mod cache;
mod find;
mod image;
mod recording;

use super::matmul::{Library, Matmul};
use super::{Arg, CudaError, Device, Launch, Properties};
use blas::Blas;
use cudarc::{cublaslt, driver, nvrtc};
use driver::sys::{
    CUfunction_attribute as FunctionAttribute, CUlaunchAttribute, CUlaunchAttributeID,
    CUlaunchAttributeValue, CUlaunchConfig,
};
use driver::{CudaContext, CudaFunction, CudaModule, CudaStream, DriverError};
use std::collections::HashMap;
use std::ffi::c_void;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, OnceLock};

pub use find::FoundCard;
pub use image::{check_syntax, compile};

/// Most arguments of a kernel; they lie on the stack during a launch.
const ARGUMENTS_MAX: usize = 32;

/// The cards whose kernels have the instruction that waits for a predecessor: sm_90a.
const OVERLAPPING_CAPABILITY: (u32, u32) = (9, 0);

/// When a kernel may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// When the one before it has ended.
    InOrder,
    /// While the one before it ends; it waits for what it needs.
    Overlapping,
}

/// A card, with our kernels on it.
pub struct Card {
    found: FoundCard,
    functions: HashMap<&'static str, Function>,
    library: OnceLock<Library>,
    blas: Option<Blas>,
    module: Arc<CudaModule>,
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
}

/// Memory of a card, which is given back when this is dropped.
pub struct CardBuffer {
    address: u64,
    len: usize,
    context: Arc<CudaContext>,
}

struct Function {
    function: CudaFunction,
    /// The most that a launch may ask for as of now.
    shared_bytes: u32,
}

impl Card {
    /// Opens the card with this number and loads the kernels. If they are not inside this build
    /// they are compiled, which takes a minute or two, and kept in `cache_dir` for the next start;
    /// that folder must be writable only by who may run code here.
    ///
    /// # Errors
    /// There is no driver, no such card, or one of them is too old; or the kernels cannot be
    /// loaded.
    pub fn open(ordinal: usize, cache_dir: Option<&Path>) -> Result<Card, CudaError> {
        let found = FoundCard::find(ordinal)?;
        let context = CudaContext::new(ordinal).map_err(refused("open the device"))?;
        // SAFETY: there is one stream, so nothing is used on another.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(refused("make a stream"))?;
        let module = image::load(&context, found.properties.capability, cache_dir)?;
        Ok(Card {
            found,
            functions: HashMap::new(),
            library: OnceLock::new(),
            blas: None,
            module,
            stream,
            context,
        })
    }

    /// The card and its driver.
    pub fn found(&self) -> &FoundCard {
        &self.found
    }

    /// Queues a copy of all of `from` to the beginning of `to`.
    ///
    /// # Errors
    /// `to` is shorter, or the driver refuses.
    pub fn copy(&mut self, from: &CardBuffer, to: &CardBuffer) -> Result<(), CudaError> {
        require("copy", "destination", to, from.len)?;
        self.bind()?;
        // SAFETY: both are memory of the card of at least this length; they live on, because
        // giving memory back waits for the card.
        unsafe {
            driver::result::memcpy_dtod_async(
                to.address,
                from.address,
                from.len,
                self.stream.cu_stream(),
            )
        }
        .map_err(refused("copy on the device"))
    }

    /// Waits for everything that was queued.
    ///
    /// # Errors
    /// Some of it failed.
    pub fn wait(&mut self) -> Result<(), CudaError> {
        self.stream
            .synchronize()
            .map_err(refused("finish what was queued"))
    }

    /// Makes the card this thread's: a card may be handed to another thread.
    fn bind(&self) -> Result<(), CudaError> {
        self.context
            .bind_to_thread()
            .map_err(refused("use the device"))
    }

    fn allocate(&self, len: usize) -> Result<CardBuffer, CudaError> {
        self.bind()?;
        // SAFETY: what lies in the memory is written before it is read. An empty allocation is
        // refused, a buffer may be empty.
        let address = unsafe { driver::result::malloc_sync(len.max(1)) }
            .map_err(|e| refused(&format!("allocate {len} bytes"))(e))?;
        Ok(CardBuffer {
            address,
            len,
            context: Arc::clone(&self.context),
        })
    }

    /// The kernel of a launch, allowed as much shared memory as that asks for.
    fn function(&mut self, launch: &Launch) -> Result<driver::sys::CUfunction, CudaError> {
        let function = match self.functions.get_mut(launch.kernel) {
            Some(function) => function,
            None => {
                let function = Function::load(&self.module, launch.kernel)?;
                self.functions.entry(launch.kernel).or_insert(function)
            }
        };
        if launch.shared_bytes > function.shared_bytes {
            let action = || {
                let (kernel, bytes) = (launch.kernel, launch.shared_bytes);
                format!("give {kernel} {bytes} bytes of shared memory")
            };
            let bytes = i32::try_from(launch.shared_bytes).unwrap_or(i32::MAX);
            function
                .function
                .set_attribute(
                    FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                    bytes,
                )
                .map_err(|e| refused(&action())(e))?;
            function.shared_bytes = launch.shared_bytes;
        }
        Ok(function.function.cu_function())
    }
}

impl Function {
    fn load(module: &Arc<CudaModule>, kernel: &'static str) -> Result<Function, CudaError> {
        let function = module.load_function(kernel).map_err(|error| match error {
            DriverError(driver::sys::CUresult::CUDA_ERROR_NOT_FOUND) => CudaError::NoKernel {
                kernel: kernel.to_string(),
            },
            error => refused(&format!("load the kernel {kernel}"))(error),
        })?;
        // SAFETY: the function was just loaded.
        let shared_bytes = unsafe {
            driver::result::function::get_function_attribute(
                function.cu_function(),
                FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
            )
        }
        .map_err(|e| refused(&format!("look at the kernel {kernel}"))(e))?;
        Ok(Function {
            function,
            shared_bytes: u32::try_from(shared_bytes).unwrap_or(0),
        })
    }
}

impl Device for Card {
    type Buffer = CardBuffer;

    fn properties(&self) -> &Properties {
        &self.found.properties
    }

    fn filled(&mut self, len: usize, byte: u8) -> Result<CardBuffer, CudaError> {
        let buffer = self.allocate(len)?;
        if len > 0 {
            // SAFETY: the buffer has `len` bytes.
            unsafe {
                driver::result::memset_d8_async(buffer.address, byte, len, self.stream.cu_stream())
            }
            .map_err(refused("fill memory"))?;
        }
        Ok(buffer)
    }

    fn upload(&mut self, bytes: &[u8]) -> Result<CardBuffer, CudaError> {
        let buffer = self.allocate(bytes.len())?;
        if !bytes.is_empty() {
            // SAFETY: the buffer is as long as `bytes`, which outlive the copy: it is waited for.
            unsafe {
                driver::result::memcpy_htod_async(buffer.address, bytes, self.stream.cu_stream())
            }
            .map_err(refused("copy to the device"))?;
            self.wait()?;
        }
        Ok(buffer)
    }

    fn download(&mut self, buffer: &CardBuffer) -> Result<Vec<u8>, CudaError> {
        let mut bytes = vec![0; buffer.len];
        self.bind()?;
        if !bytes.is_empty() {
            // SAFETY: `bytes` is as long as the buffer and outlives the copy, which is waited for.
            unsafe {
                driver::result::memcpy_dtoh_async(
                    &mut bytes,
                    buffer.address,
                    self.stream.cu_stream(),
                )
            }
            .map_err(refused("copy from the device"))?;
        }
        self.wait()?;
        Ok(bytes)
    }

    fn len(&self, buffer: &CardBuffer) -> usize {
        buffer.len
    }

    unsafe fn launch(
        &mut self,
        launch: &Launch,
        arguments: &[Arg<'_, CardBuffer>],
    ) -> Result<(), CudaError> {
        // SAFETY: the caller promises what `start` asks for.
        unsafe { self.start(launch, arguments, Start::InOrder) }
    }

    unsafe fn launch_overlapping(
        &mut self,
        launch: &Launch,
        arguments: &[Arg<'_, CardBuffer>],
    ) -> Result<(), CudaError> {
        let start = if self.found.properties.capability == OVERLAPPING_CAPABILITY {
            Start::Overlapping
        } else {
            Start::InOrder
        };
        // SAFETY: as above, and the caller promises that the kernel waits where it has to.
        unsafe { self.start(launch, arguments, start) }
    }

    fn library(&self) -> Library {
        *self.library.get_or_init(blas::find)
    }

    fn matmul(&mut self, product: &Matmul<'_, CardBuffer>) -> Result<(), CudaError> {
        product.check(self)?;
        self.bind()?;
        let mut blas = match self.blas.take() {
            Some(blas) => blas,
            None => Blas::open(self.library(), self.allocate(blas::WORKSPACE_BYTES)?)?,
        };
        let multiplied = blas.matmul(product, self.stream.cu_stream().cast());
        self.blas = Some(blas);
        multiplied
    }
}

impl Card {
    /// Queues a kernel.
    ///
    /// # Safety
    /// As of [`Device::launch`]; one that overlaps must wait for its predecessor where it has to.
    unsafe fn start(
        &mut self,
        launch: &Launch,
        arguments: &[Arg<'_, CardBuffer>],
        start: Start,
    ) -> Result<(), CudaError> {
        self.bind()?;
        let function = self.function(launch)?;
        // The driver reads as many bytes of each as the kernel's parameter has; all of CUDA's hosts
        // put the low bytes first.
        let mut values = [0u64; ARGUMENTS_MAX];
        let mut pointers = [ptr::null_mut::<c_void>(); ARGUMENTS_MAX];
        if arguments.len() > ARGUMENTS_MAX {
            return Err(CudaError::Shape {
                kernel: launch.kernel,
                name: "arguments",
                value: arguments.len(),
                rule: "a kernel has at most 32",
            });
        }
        for (value, argument) in values.iter_mut().zip(arguments) {
            *value = value_of(launch.kernel, argument)?;
        }
        for (pointer, value) in pointers.iter_mut().zip(&mut values) {
            *pointer = ptr::from_mut(value).cast();
        }
        let mut attribute = CUlaunchAttribute {
            id: CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: CUlaunchAttributeValue { pad: [0; 64] },
        };
        attribute.value.programmaticStreamSerializationAllowed = 1;
        let config = CUlaunchConfig {
            gridDimX: launch.grid[0],
            gridDimY: launch.grid[1],
            gridDimZ: launch.grid[2],
            blockDimX: launch.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: launch.shared_bytes,
            hStream: self.stream.cu_stream(),
            attrs: &raw mut attribute,
            numAttrs: match start {
                Start::InOrder => 0,
                Start::Overlapping => 1,
            },
        };
        // SAFETY: the function is of a module that lives as long as we, the pointers are to values
        // that live until the call returns, and the caller promises that they are its arguments.
        unsafe {
            driver::sys::cuLaunchKernelEx(&config, function, pointers.as_mut_ptr(), ptr::null_mut())
        }
        .result()
        .map_err(|e| refused(&format!("start {}", launch.kernel))(e))
    }
}

/// What the kernel gets for an argument, in the low bytes.
fn value_of(kernel: &'static str, argument: &Arg<'_, CardBuffer>) -> Result<u64, CudaError> {
    Ok(match *argument {
        Arg::Buffer(buffer) => buffer.address,
        Arg::At(buffer, offset) => {
            require(kernel, "an argument", buffer, offset)?;
            buffer.address + offset as u64
        }
        Arg::Null => 0,
        Arg::U32(value) => u64::from(value),
        Arg::U64(value) => value,
        Arg::F32(value) => u64::from(value.to_bits()),
    })
}

impl Drop for CardBuffer {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // A failure is an earlier launch's: the next call meets it too.
            // SAFETY: the memory is ours and given back once; the driver waits for what uses it.
            let _ = unsafe { driver::result::free_sync(self.address) };
        }
    }
}

/// An error unless the buffer has `needed` bytes.
fn require(
    kernel: &'static str,
    name: &'static str,
    buffer: &CardBuffer,
    needed: usize,
) -> Result<(), CudaError> {
    if needed > buffer.len {
        return Err(CudaError::BufferTooShort {
            kernel,
            name,
            actual: buffer.len,
            needed,
        });
    }
    Ok(())
}

/// The driver's error, with what it does not do.
fn refused(action: &str) -> impl FnOnce(DriverError) -> CudaError + use<> {
    let action = action.to_string();
    move |error| {
        let words = error.error_string().ok();
        let words = words.map_or("no reason given".into(), |words| words.to_string_lossy());
        CudaError::Driver {
            action,
            reason: format!("{words} ({:?})", error.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Card, CardBuffer};
    use crate::cuda::CudaError;

    #[test]
    fn a_card_can_be_handed_to_another_thread() {
        fn require_send<T: Send>() {}
        require_send::<Card>();
        require_send::<CardBuffer>();
    }

    /// On any machine: an error with its reason or a card, and never a panic.
    #[test]
    fn a_card_that_is_not_there_is_an_error() {
        let error = Card::open(usize::MAX, None).map(|_| ()).unwrap_err();
        let expected = matches!(
            error,
            CudaError::NoDriver
                | CudaError::NoDevice { .. }
                | CudaError::DriverTooOld { .. }
                | CudaError::Driver { .. }
        );
        assert!(expected, "{error}");
    }
}
