//! Which tensor is written in which format.
//!
//! Vectors (norms and biases) stay in f32: they are few, and llama.cpp wants them so. The embedding
//! and the head get 8 bits at least: every token's error enters or leaves through them. All other
//! matrices get the format asked for; where a row is not a whole number of its blocks, the next
//! larger format whose blocks fit.

use farthing_kernels::Dtype;

use crate::cli::{QuantizeArgs, Target};
use crate::error::BackendError;
use crate::model::ModelFile;
use crate::model::gguf::{Pairs, TensorDescription};

/// What is written.
pub(super) struct Plan {
    pub(super) pairs: Pairs,
    pub(super) tensors: Vec<TensorDescription>,
    /// Bytes of all tensors in the source.
    pub(super) bytes_before: u64,
    /// Weights of all tensors.
    pub(super) weights: u64,
}

/// Keys that say how a file is written, and so are written anew.
const OWN_KEYS: [&str; 3] = [
    "general.alignment",
    "general.file_type",
    "general.quantization_version",
];
/// GGML's version of the quantized formats (`GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;

// === impl Plan ===

impl Plan {
    /// # Errors
    /// A tensor is of a format that is not read here, or its quantization would add to that of the
    /// source, which nobody has asked for.
    pub(super) fn new(file: &ModelFile, args: &QuantizeArgs) -> Result<Plan, BackendError> {
        let mut plan = Plan {
            pairs: pairs(file, args.to),
            tensors: Vec::new(),
            bytes_before: 0,
            weights: 0,
        };
        for name in file.tensor_names() {
            let (from, dims) = file.format(name)?;
            let dtype = format(name, dims, args.to);
            if is_lossy(from, dtype) && !args.requantize {
                return Err(BackendError::Model(format!(
                    "the tensor '{name}' is quantized already ({from:?}); --requantize takes it"
                )));
            }
            let rows = dims.iter().skip(1).product::<usize>();
            plan.bytes_before += (rows * from.row_bytes(dims[0])?) as u64;
            plan.weights += (rows * dims[0]) as u64;
            plan.tensors.push(TensorDescription {
                name: name.to_owned(),
                dims: dims.to_vec(),
                dtype,
                bytes: (rows * dtype.row_bytes(dims[0])?) as u64,
            });
        }
        Ok(plan)
    }

    /// Bytes of all tensors in the file that is written.
    pub(super) fn bytes_after(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes).sum()
    }
}

/// The source's pairs, but for those of the file itself.
fn pairs(file: &ModelFile, target: Target) -> Pairs {
    let mut pairs = Pairs::default();
    for (key, value) in file.raw_metadata() {
        if !OWN_KEYS.contains(&key) {
            pairs.raw(key, value);
        }
    }
    pairs.u32("general.file_type", file_type(target));
    pairs.u32("general.quantization_version", QUANTIZATION_VERSION);
    pairs
}

/// llama.cpp's number for what most tensors are (`llama_ftype`).
fn file_type(target: Target) -> u32 {
    match target {
        Target::F16 => 1,
        Target::Q4_0 => 2,
        Target::Q4_1 => 3,
        Target::Q8_0 => 7,
        Target::Q4K => 14,
    }
}

fn format(name: &str, dims: &[usize], target: Target) -> Dtype {
    let &[columns, _] = dims else {
        return Dtype::F32;
    };
    let outer = matches!(name, "token_embd.weight" | "output.weight");
    let wanted: &[Dtype] = match target {
        Target::F16 => &[],
        _ if outer => &[Dtype::Q8_0],
        Target::Q8_0 => &[Dtype::Q8_0],
        Target::Q4_0 => &[Dtype::Q4_0],
        Target::Q4_1 => &[Dtype::Q4_1],
        Target::Q4K => &[Dtype::Q4K, Dtype::Q4_1],
    };
    let mut fitting = wanted.iter().copied();
    fitting
        .find(|dtype| columns.is_multiple_of(dtype.block_len()))
        .unwrap_or(Dtype::F16)
}

/// Whether a quantized tensor would be rounded once more.
fn is_lossy(from: Dtype, to: Dtype) -> bool {
    let plain = |dtype| matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
    !plain(from) && !plain(to) && from != to
}
