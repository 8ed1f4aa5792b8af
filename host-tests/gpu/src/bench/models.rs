//! The sizes that the element-wise operations are timed at.

use farthing_kernels::{Dtype, RopeStyle};

/// What a layer's shapes come from.
pub struct Model {
    pub name: &'static str,
    /// Columns of the residual stream.
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Columns between the gate and the down projection.
    pub intermediate: usize,
    pub vocabulary: usize,
    pub rope: RopeStyle,
    pub has_bias: bool,
    /// Formats that files of it have the embedding table in.
    pub embeddings: [Dtype; 2],
}

pub const MODELS: [Model; 3] = [
    Model {
        name: "Llama-3-8B",
        hidden: 4096,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        intermediate: 14_336,
        vocabulary: 128_256,
        rope: RopeStyle::Interleaved,
        has_bias: false,
        embeddings: [Dtype::Q4K, Dtype::F16],
    },
    Model {
        name: "Qwen2.5-7B",
        hidden: 3584,
        heads: 28,
        kv_heads: 4,
        head_dim: 128,
        intermediate: 18_944,
        vocabulary: 152_064,
        rope: RopeStyle::Halves,
        has_bias: true,
        embeddings: [Dtype::Q6K, Dtype::Q4_0],
    },
    Model {
        name: "SmolLM2-135M",
        hidden: 576,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        intermediate: 1536,
        vocabulary: 49_152,
        rope: RopeStyle::Interleaved,
        has_bias: false,
        embeddings: [Dtype::Q8_0, Dtype::F16],
    },
];

/// Sequences that are decoded together, and the tokens of a long prompt.
pub const ROWS: [usize; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 4096];

/// Below so many bytes a call is too short for memory to be what bounds it: what is moved would
/// fit the cache, and starting and ending take as long.
const TARGET_BYTES_MIN: f64 = 64e6;
const TARGET: f64 = 0.80;

/// The share of the copy bandwidth to reach.
pub fn target(bytes: f64) -> Option<f64> {
    (bytes >= TARGET_BYTES_MIN).then_some(TARGET)
}
