//! The operations on a CUDA device.
//!
//! Each operation is two files: the kernel (`.cu`), and beside it (`.rs`) the shapes it takes, its
//! launch parameters and the reference in plain Rust that it is tested against. A call checks its
//! shapes and the lengths of its buffers, so it cannot reach beyond them. Activations are f16, sums
//! and the residual stream f32.

mod card;
pub mod copy;
pub mod decode_attention;
pub mod dense_product;
pub mod dequantize;
mod device;
pub mod embedding;
mod error;
pub mod gemm_hopper;
pub mod gemm_large;
pub mod gemm_small;
pub mod gemv;
pub mod kv_layout;
mod launch;
mod lengths;
pub mod matmul;
pub mod multiply;
pub mod prefill_attention;
pub mod product;
pub mod rms_norm;
pub mod rope_kv;
pub mod sample;
mod sources;
pub mod spans;
pub mod store_sums;
pub mod swiglu;
pub mod weights;

pub use card::{Card, CardBuffer, FoundCard, check_syntax, compile};
pub use device::{Device, Properties};
pub use error::CudaError;
pub use launch::{Arg, Launch};
pub use sources::Target;
