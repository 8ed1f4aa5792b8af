//! What can be wrong with a device, its driver, its kernels or a shape given to one of them.

/// Why something cannot be done on a CUDA device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// libcuda is not installed.
    #[error("no CUDA driver: libcuda is not on this machine")]
    NoDriver,
    /// The driver is there, but no card.
    #[error("no CUDA device: the driver sees {devices} devices, number {ordinal} was asked for")]
    NoDevice { ordinal: usize, devices: usize },
    /// The driver is older than the kernels ask for.
    #[error(
        "the CUDA driver is too old: it speaks CUDA {}.{}, {}.{} is needed",
        found / 1000, found % 1000 / 10, needed / 1000, needed % 1000 / 10
    )]
    DriverTooOld { found: u32, needed: u32 },
    /// The card is older than the kernels ask for.
    #[error(
        "{name} has compute capability {}.{}; the kernels need 8.0 or later",
        capability.0, capability.1
    )]
    TooOldCard {
        name: String,
        capability: (u32, u32),
    },
    /// Kernels that are compiled at start, and the compiler is not installed.
    #[error(
        "this build has no compiled kernels and NVRTC is not on this machine; \
         install libnvrtc or use a build with kernels inside"
    )]
    NoCompiler,
    /// The compiler refuses the kernels; its first words.
    #[error("the kernels do not compile for {target}: {log}")]
    Compile { target: String, log: String },
    /// A dense product, and the library that does them is not installed.
    #[error("dense products need cuBLASLt: libcublasLt is not on this machine")]
    NoLibrary,
    /// Our kernels refuse a product, and there is no library to do it.
    #[error(
        "no kernel multiplies {rows} x {cols} weights with {tokens} tokens on {card} ({reason}), \
         and libcublasLt is not on this machine, with which cuBLASLt would"
    )]
    NoRoad {
        rows: usize,
        cols: usize,
        tokens: usize,
        card: String,
        reason: String,
    },
    /// A kernel is not among those that were loaded.
    #[error("there is no kernel named {kernel}")]
    NoKernel { kernel: String },
    /// The driver refuses something.
    #[error("CUDA cannot {action}: {reason}")]
    Driver { action: String, reason: String },
    /// A kernel does not take this shape.
    #[error("{kernel} does not take {name} = {value}: {rule}")]
    Shape {
        kernel: &'static str,
        name: &'static str,
        value: usize,
        rule: &'static str,
    },
    /// A buffer is shorter than the shape asks for.
    #[error("{kernel}: {name} has {actual} bytes, its shape needs {needed}")]
    BufferTooShort {
        kernel: &'static str,
        name: &'static str,
        actual: usize,
        needed: usize,
    },
    /// A weight's format or shape cannot be packed for the device.
    #[error("weights cannot be packed for the device: {0}")]
    Weights(#[from] crate::KernelError),
}
