//! One file of timings for each operation.

mod decode_attention;
mod dense_product;
mod embedding;
mod models;
mod prefill_attention;
mod product;
mod rms_norm;
mod rope_kv;
mod sample;
mod swiglu;

use crate::stopwatch::Stopwatch;
use farthing_kernels::cuda::CudaError;

/// How long one operation takes at one shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    pub operation: &'static str,
    /// The model or the matrix that the shape is from.
    pub shape: String,
    /// Rows (tokens, sequences) of the call.
    pub rows: usize,
    pub time_us: f64,
    /// The fewest bytes that must move through the card's memory.
    pub bytes: f64,
    /// Floating-point operations, a multiplication and an addition being two.
    pub operations: f64,
    /// Whether memory or arithmetic bounds it.
    pub bound: Bound,
    /// The share of that bound to reach, if one is set.
    pub target: Option<f64>,
    /// How long cuBLASLt takes for the same product with dense bf16 weights, where it was timed. An
    /// operation that arithmetic bounds is then held against it.
    pub peer_us: Option<f64>,
}

/// What bounds an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Memory,
    Arithmetic,
}

/// Timings of one operation.
pub type Bench<D> = fn(&mut D) -> Result<Vec<Timing>, CudaError>;

/// Every operation's timings by name.
pub fn all<D: Stopwatch>() -> Vec<(&'static str, Bench<D>)> {
    vec![
        ("decode_attention", decode_attention::bench),
        ("dense_product", dense_product::bench),
        ("embedding", embedding::bench),
        ("prefill_attention", prefill_attention::bench),
        ("product", product::bench),
        ("rms_norm", rms_norm::bench),
        ("rope_kv", rope_kv::bench),
        ("sample", sample::bench),
        ("swiglu", swiglu::bench),
    ]
}
