//! One file of checks for each operation.

mod copy;
mod cublaslt;
mod decode_attention;
mod dense_product;
mod embedding;
mod prefill_attention;
pub mod product;
mod rms_norm;
mod rope_kv;
mod sample;
mod store_sums;
mod swiglu;

use crate::random::Random;
use farthing_kernels::cuda::{CudaError, Device};

/// How large the shapes of a check are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What the emulator does in a second or two; odd shapes and every branch.
    Small,
    /// Those and the shapes of real models.
    Full,
}

/// What one comparison found.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub operation: &'static str,
    /// The shape and variant, for a reader.
    pub case: String,
    /// The distance from the reference; what is no number anywhere makes it no number.
    pub error: f64,
    /// What rounding may make of it.
    pub tolerance: f64,
}

impl Outcome {
    /// Whether the outputs are right; not a number is not.
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// `|out - reference| / |reference|` in the Euclidean norm.
pub fn relative_error(out: &[f32], reference: &[f32]) -> f64 {
    assert_eq!(out.len(), reference.len(), "one element each");
    let (mut difference, mut size) = (0.0, 0.0);
    for (out, reference) in out.iter().zip(reference) {
        difference += (f64::from(*out) - f64::from(*reference)).powi(2);
        size += f64::from(*reference).powi(2);
    }
    if size == 0.0 {
        difference.sqrt()
    } else {
        (difference / size).sqrt()
    }
}

/// Checks of one operation.
pub type Check<D> = fn(&mut D, Extent, &mut Random) -> Result<Vec<Outcome>, CudaError>;

/// Those whose products a library does, in part: its kernels are not ours to look into.
pub const OF_LIBRARY: [&str; 2] = ["cublaslt", "dense_product"];

/// Every operation's checks by name.
pub fn all<D: Device>() -> Vec<(&'static str, Check<D>)> {
    vec![
        ("copy", copy::check),
        ("cublaslt", cublaslt::check),
        ("decode_attention", decode_attention::check),
        ("dense_product", dense_product::check),
        ("dequantize", product::dequantize),
        ("embedding", embedding::check),
        ("gemm_hopper", product::gemm_hopper),
        ("gemm_large", product::gemm_large),
        ("gemm_small", product::gemm_small),
        ("gemv", product::gemv),
        ("prefill_attention", prefill_attention::check),
        ("rms_norm", rms_norm::check),
        ("rope_kv", rope_kv::check),
        ("sample", sample::check),
        ("store_sums", store_sums::check),
        ("swiglu", swiglu::check),
    ]
}
