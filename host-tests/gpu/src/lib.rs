//! The CUDA kernels against their references.
//!
//! A check draws fresh random inputs, poisons the outputs, runs an operation on a
//! [`Device`](farthing_kernels::cuda::Device) and compares with the reference. The same checks run
//! on a card and on the emulator, which is how they run where there is no card. [`bench`] times the
//! operations at the shapes of real models, on a card only.

pub mod bench;
pub mod checks;
pub mod floats;
pub mod paged;
pub mod random;
pub mod stopwatch;
