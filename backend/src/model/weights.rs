//! A model's weights, repacked from the mapped file for the kernels. Only the embedding stays in
//! the file: a step reads a few of its rows.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

use farthing_kernels::{Keep, Matrix, dequantize_row};

use super::file::ModelFile;
use super::gguf::Tensor;
use super::hyper_parameters::HyperParameters;
use crate::error::BackendError;

/// All weights of one model.
pub(super) struct Weights {
    pub(super) file: ModelFile,
    pub(super) layers: Vec<Layer>,
    pub(super) output_norm: Vec<f32>,
    /// The head; the embedding's rows again where the file has no head of its own.
    pub(super) output: Matrix,
}

/// One transformer layer.
pub(super) struct Layer {
    pub(super) attention_norm: Vec<f32>,
    pub(super) query: Projection,
    pub(super) key: Projection,
    pub(super) value: Projection,
    pub(super) attention_output: Matrix,
    pub(super) feed_forward_norm: Vec<f32>,
    pub(super) gate: Matrix,
    pub(super) up: Matrix,
    pub(super) down: Matrix,
}

/// What one thread has packed.
#[derive(Default)]
struct Packed {
    output: Option<Matrix>,
    layers: Vec<(usize, Layer)>,
}

/// A matrix whose products get a bias, if the model has one.
pub(super) struct Projection {
    pub(super) matrix: Matrix,
    pub(super) bias: Option<Vec<f32>>,
}

const EMBEDDING: &str = "token_embd.weight";
const OUTPUT: &str = "output.weight";
const OUTPUT_NORM: &str = "output_norm.weight";

/// The tensors of a layer; a file with others is a variant that this forward pass would compute
/// wrongly without noticing.
const LAYER_TENSORS: [&str; 12] = [
    "attn_norm.weight",
    "attn_q.weight",
    "attn_q.bias",
    "attn_k.weight",
    "attn_k.bias",
    "attn_v.weight",
    "attn_v.bias",
    "attn_output.weight",
    "ffn_norm.weight",
    "ffn_gate.weight",
    "ffn_up.weight",
    "ffn_down.weight",
];

// === impl Weights ===

impl Weights {
    /// Repacks every tensor, on all cores: the head, which is nearly half of a small model, then
    /// the layers one by one.
    pub(super) fn load(file: ModelFile, shape: &HyperParameters) -> Result<Weights, BackendError> {
        refuse_unknown_tensors(&file, shape.layers)?;
        let output_norm = vector(&file, OUTPUT_NORM, shape.width)?;
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let next = AtomicUsize::new(0);
        let work = || {
            let mut packed = Packed::default();
            loop {
                // The head is number 0.
                match next.fetch_add(1, Ordering::Relaxed).checked_sub(1) {
                    None => packed.output = Some(load_output(&file, shape)?),
                    Some(index) if index < shape.layers => {
                        let layer = Layer::load(&file, shape, index)?;
                        packed.layers.push((index, layer));
                    }
                    Some(_) => return Ok::<_, BackendError>(packed),
                }
            }
        };
        let packed = thread::scope(|scope| {
            let others: Vec<_> = (1..cores).map(|_| scope.spawn(work)).collect();
            let mut all = vec![work()];
            let joined = others.into_iter().map(ScopedJoinHandle::join);
            all.extend(joined.map(|done| done.expect("packing checks its input")));
            all.into_iter().collect::<Result<Vec<_>, _>>()
        })?;
        let (mut layers, mut output) = (Vec::with_capacity(shape.layers), None);
        for packed in packed {
            layers.extend(packed.layers);
            output = output.or(packed.output);
        }
        layers.sort_unstable_by_key(|(index, _)| *index);
        Ok(Weights {
            layers: layers.into_iter().map(|(_, layer)| layer).collect(),
            output: output.expect("number 0 was somebody's"),
            output_norm,
            file,
        })
    }

    /// What the matrices need of the activations that they are multiplied with.
    pub(super) fn keep(&self) -> Keep {
        let layers = self.layers.iter().flat_map(Layer::matrices);
        if layers.chain([&self.output]).all(Matrix::is_quantized) {
            Keep::Quants
        } else {
            Keep::ValuesToo
        }
    }

    /// Bytes of all tensors as they are held. A head that is the embedding's rows again is packed
    /// beside it, so it counts twice.
    pub(super) fn bytes(&self) -> usize {
        let embedding = self.file.tensor(EMBEDDING);
        let layers = self.layers.iter().map(Layer::bytes).sum::<usize>();
        embedding.map_or(0, |tensor| tensor.bytes.len())
            + layers
            + self.output.bytes()
            + size_of_val(self.output_norm.as_slice())
    }

    /// Writes the embeddings of `tokens` into `out`, `[tokens.len(), width]`. Every token must be
    /// in the vocabulary.
    pub(super) fn embed(&self, tokens: &[u32], out: &mut [f32]) -> Result<(), BackendError> {
        let table = self.file.tensor(EMBEDDING)?;
        let (_, width) = table.matrix_shape(EMBEDDING)?;
        let row_bytes = table.dtype.row_bytes(width)?;
        for (&token, row) in tokens.iter().zip(out.chunks_exact_mut(width)) {
            let start = token as usize * row_bytes;
            let bytes = table.bytes.get(start..start + row_bytes).ok_or_else(|| {
                BackendError::Model(format!("token {token} is not in the vocabulary"))
            })?;
            dequantize_row(table.dtype, bytes, row)?;
        }
        Ok(())
    }
}

// === impl Layer ===

impl Layer {
    fn load(
        file: &ModelFile,
        shape: &HyperParameters,
        index: usize,
    ) -> Result<Layer, BackendError> {
        let HyperParameters {
            width,
            feed_forward,
            heads,
            kv_heads,
            head_dim,
            ..
        } = *shape;
        let name = |tensor: &str| format!("blk.{index}.{tensor}");
        let matrix = |tensor: &str, rows, columns| matrix(file, &name(tensor), rows, columns);
        let norm = |tensor: &str| vector(file, &name(tensor), width);
        let projection = |which: &str, rows| {
            let bias = name(&format!("attn_{which}.bias"));
            let bias = match file.optional_tensor(&bias)? {
                Some(_) => Some(vector(file, &bias, rows)?),
                None => None,
            };
            let matrix = matrix(&format!("attn_{which}.weight"), rows, width)?;
            Ok::<_, BackendError>(Projection { matrix, bias })
        };
        Ok(Layer {
            attention_norm: norm("attn_norm.weight")?,
            query: projection("q", heads * head_dim)?,
            key: projection("k", kv_heads * head_dim)?,
            value: projection("v", kv_heads * head_dim)?,
            attention_output: matrix("attn_output.weight", width, heads * head_dim)?,
            feed_forward_norm: norm("ffn_norm.weight")?,
            gate: matrix("ffn_gate.weight", feed_forward, width)?,
            up: matrix("ffn_up.weight", feed_forward, width)?,
            down: matrix("ffn_down.weight", width, feed_forward)?,
        })
    }

    fn matrices(&self) -> [&Matrix; 7] {
        [
            &self.query.matrix,
            &self.key.matrix,
            &self.value.matrix,
            &self.attention_output,
            &self.gate,
            &self.up,
            &self.down,
        ]
    }

    fn bytes(&self) -> usize {
        let projections = [&self.query, &self.key, &self.value];
        let biases = projections.iter().filter_map(|p| p.bias.as_deref());
        let norms = [&*self.attention_norm, &*self.feed_forward_norm];
        let vectors = biases.chain(norms).map(size_of_val).sum::<usize>();
        vectors + self.matrices().map(Matrix::bytes).iter().sum::<usize>()
    }
}

fn load_output(file: &ModelFile, shape: &HyperParameters) -> Result<Matrix, BackendError> {
    let name = if file.optional_tensor(OUTPUT)?.is_some() {
        OUTPUT
    } else {
        EMBEDDING
    };
    matrix(file, name, shape.vocab_size, shape.width)
}

fn refuse_unknown_tensors(file: &ModelFile, layers: usize) -> Result<(), BackendError> {
    let whole = [EMBEDDING, OUTPUT, OUTPUT_NORM]
        .into_iter()
        .map(str::to_owned);
    let layer = |index| LAYER_TENSORS.map(|tensor| format!("blk.{index}.{tensor}"));
    let known: HashSet<String> = whole.chain((0..layers).flat_map(layer)).collect();
    match file
        .tensor_names()
        .into_iter()
        .find(|name| !known.contains(*name))
    {
        None => Ok(()),
        Some(name) => Err(BackendError::Model(format!(
            "the tensor '{name}' has no place in this architecture; the model is a variant"
        ))),
    }
}

/// Packs the matrix of this name and shape, `[rows (outputs), columns (inputs)]`.
fn matrix(
    file: &ModelFile,
    name: &str,
    rows: usize,
    columns: usize,
) -> Result<Matrix, BackendError> {
    let Tensor { dtype, bytes, .. } = file.tensor(name)?.expect_dims(name, &[columns, rows])?;
    let matrix = Matrix::pack(dtype, &bytes, rows, columns)
        .map_err(|error| BackendError::Model(format!("the tensor '{name}': {error}")))?;
    // It is in memory twice otherwise, until the system needs the pages.
    file.release(name);
    Ok(matrix)
}

/// Reads a vector of this name and length.
fn vector(file: &ModelFile, name: &str, len: usize) -> Result<Vec<f32>, BackendError> {
    let Tensor { dtype, bytes, .. } = file.tensor(name)?.expect_dims(name, &[len])?;
    let mut values = vec![0.0; len];
    dequantize_row(dtype, &bytes, &mut values)?;
    Ok(values)
}
