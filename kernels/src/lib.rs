//! Numeric kernels of the backend, one operation a file.
//!
//! Every operation has a plain Rust version, which says what is computed, and versions for wider
//! instruction sets, chosen once at run time ([`InstructionSet`]). Weights are repacked at load
//! ([`Matrix::pack`]) so that one vector register holds the same columns of sixteen output rows;
//! activations are quantized to int8 blocks ([`Activations`]), and the products are exact integer
//! sums scaled in f32. A row's result does not depend on the rows that are computed beside it, so
//! a sequence gets the same answer alone and in a batch.
//!
//! Shapes are row-major. Functions panic on shapes that contradict each other: those come from
//! the caller's code, never from a request. What comes from a file (formats, sizes, bytes) is
//! checked and answered with a [`KernelError`].

mod activations;
mod add;
mod attention;
mod block;
mod block_maxima;
pub mod cuda;
mod dequantize;
mod disjoint;
mod dtype;
mod error;
mod exp;
mod exp_weights;
mod gelu;
mod half_float;
mod hamming;
mod instruction_set;
mod kv_cache;
mod kv_page;
mod lanes;
mod layer_norm;
mod layout;
mod linear;
mod matmul;
mod matrix;
mod pack;
mod quantize;
mod rms_norm;
mod rope;
mod row_product;
mod self_attention;
mod softmax;
mod swiglu;
mod thread_pool;

pub use activations::{Activations, Keep};
pub use add::{add, add_bias};
pub use attention::{AttentionRow, Operands, paged_attention, paged_attention_with};
pub use block_maxima::{LOGITS_PER_BLOCK, block_maxima};
pub use dequantize::dequantize_row;
pub use dtype::Dtype;
pub use error::KernelError;
pub use exp::exp;
pub use exp_weights::exp_weights;
pub use gelu::gelu;
pub use hamming::add_hamming;
pub use instruction_set::InstructionSet;
pub use kv_cache::{KvCache, KvDtype};
pub use layer_norm::layer_norm;
pub use linear::{Activation, Linear};
pub use matmul::{Store, matmul, matmul_group, matmul_with};
pub use matrix::Matrix;
pub use quantize::quantize_row;
pub use rms_norm::rms_norm;
pub use rope::{RopeStyle, RopeTable, rope};
pub use self_attention::SelfAttention;
pub use softmax::Softmax;
pub use swiglu::swiglu;
pub use thread_pool::ThreadPool;

/// Most output rows of a matrix: the largest vocabularies have 262,144 entries.
pub const MATRIX_ROWS_MAX: usize = 1 << 22;
/// Most columns of a matrix. Rows are padded to sixteen, so this bounds what one row can claim.
pub const MATRIX_COLS_MAX: usize = 1 << 18;
/// Most positions of a rotary table: the longest context that is served.
pub const ROPE_POSITIONS_MAX: usize = 1 << 20;
/// Largest head of an attention layer; bounds the buffers that attention keeps on its stack.
pub const HEAD_DIM_MAX: usize = 256;
/// Most bytes of a key and value cache, both halves together: 64 GiB.
pub const KV_CACHE_BYTES_MAX: usize = 64 << 30;
/// Most threads of a pool.
pub const THREADS_MAX: usize = 256;
/// Pauses (10 to 40 ns each) that a thread without work spins: long enough to bridge the gap
/// between two operations of a layer.
pub const SPIN_PAUSES_MAX: u32 = 500;
/// Times that it then offers its core to other programs, some 0.2 us each where nobody wants it,
/// before it parks: long enough for what lies between two steps. Being woken costs more than most
/// operations of a layer take.
pub const YIELDS_MAX: u32 = 1_000;
/// Work that is worth a task of its own, in nanoseconds as the cost model of [`matmul`] counts.
pub const TASK_NS_MIN: usize = 4_000;
/// Tasks for each thread of a large operation, so that a thread that loses its core to another
/// program delays the others by little.
pub const TASKS_PER_THREAD: usize = 4;
