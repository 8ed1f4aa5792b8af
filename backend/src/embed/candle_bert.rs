//! The BERT encoder as candle computes it: what ours is checked against, and measured beside.

use super::config::EmbeddingConfig;
use super::folder::ModelFolder;
use super::shape::Shape;
use super::wordpiece::WordPiece;
use crate::error::BackendError;
use candle_core::{D, DType, Device, Module, Result, Tensor};
use candle_nn::{Embedding, LayerNorm, Linear, VarBuilder, embedding, layer_norm, linear};
use std::path::Path;

/// The embedding model on candle, a text or a batch at a time.
pub struct CandleBert {
    wordpiece: WordPiece,
    encoder: Encoder,
}

/// The encoder: token ids to one state for each token.
struct Encoder {
    words: Embedding,
    positions: Tensor,
    /// The embedding of segment 0, the only one that single texts have.
    segment: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

/// Attention and feed-forward, each with its residual and its normalisation.
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    heads: usize,
}

// === impl CandleBert ===

impl CandleBert {
    /// Loads the model of a folder, as [`Embedder::load`](super::Embedder::load) does.
    pub fn load(path: &Path) -> std::result::Result<CandleBert, BackendError> {
        let ModelFolder {
            config,
            wordpiece,
            tensors,
        } = ModelFolder::read(path)?;
        let shape = Shape::of(&tensors, &config)?;
        let weights = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let encoder = Encoder::new(&weights, shape, &config)
            .map_err(|error| BackendError::Embedding(format!("model.safetensors: {error}")))?;
        Ok(CandleBert { wordpiece, encoder })
    }

    /// One vector for each text, all in one batch.
    pub fn embed(&self, texts: &[String]) -> std::result::Result<Vec<Vec<f32>>, BackendError> {
        let rows = texts.iter().map(|text| self.wordpiece.encode(text));
        let rows = rows.collect::<std::result::Result<Vec<_>, _>>()?;
        self.embed_rows(&rows)
            .map_err(|error| BackendError::Embedding(format!("the forward pass failed: {error}")))
    }

    fn embed_rows(&self, rows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let width = rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut ids = vec![0_u32; rows.len() * width];
        let mut mask = vec![0_f32; rows.len() * width];
        for (index, row) in rows.iter().enumerate() {
            let start = index * width;
            ids[start..start + row.len()].copy_from_slice(row);
            mask[start..start + row.len()].fill(1.0);
        }
        let shape = (rows.len(), width);
        let ids = Tensor::from_vec(ids, shape, &Device::Cpu)?;
        let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;
        pool(&self.encoder.forward(&ids, &mask)?, &mask)?.to_vec2()
    }
}

// === impl Encoder ===

impl Encoder {
    fn new(weights: &VarBuilder<'_>, shape: Shape, config: &EmbeddingConfig) -> Result<Encoder> {
        let Shape {
            vocabulary,
            positions,
            hidden,
            ..
        } = shape;
        let embeddings = weights.pp("embeddings");
        let layer = |index| Layer::new(&weights.pp("encoder.layer").pp(index), shape, config);
        Ok(Encoder {
            words: embedding(vocabulary, hidden, embeddings.pp("word_embeddings"))?,
            positions: embeddings.get((positions, hidden), "position_embeddings.weight")?,
            segment: embeddings
                .get((2, hidden), "token_type_embeddings.weight")?
                .get(0)?,
            norm: layer_norm(hidden, config.layer_norm_eps, embeddings.pp("LayerNorm"))?,
            layers: (0..shape.layers).map(layer).collect::<Result<_>>()?,
        })
    }

    /// States `[texts, tokens, hidden]` of ids `[texts, tokens]`; `mask` is 1 for tokens and 0 for
    /// padding.
    fn forward(&self, ids: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (_, tokens) = ids.dims2()?;
        let positions = self
            .positions
            .narrow(0, 0, tokens)?
            .broadcast_add(&self.segment)?;
        let embedded = self.words.forward(ids)?.broadcast_add(&positions)?;
        let mut states = self.norm.forward(&embedded)?;
        // 0 for tokens, the lowest float for padding: its weight after the softmax is 0.
        let bias = mask.affine(-f64::from(f32::MIN), f64::from(f32::MIN))?;
        let bias = bias.unsqueeze(1)?.unsqueeze(1)?;
        for layer in &self.layers {
            states = layer.forward(&states, &bias)?;
        }
        Ok(states)
    }
}

// === impl Layer ===

impl Layer {
    fn new(weights: &VarBuilder<'_>, shape: Shape, config: &EmbeddingConfig) -> Result<Layer> {
        let Shape {
            hidden,
            intermediate,
            ..
        } = shape;
        let square = |name: &str| linear(hidden, hidden, weights.pp(name));
        let norm = |name: &str| layer_norm(hidden, config.layer_norm_eps, weights.pp(name));
        Ok(Layer {
            query: square("attention.self.query")?,
            key: square("attention.self.key")?,
            value: square("attention.self.value")?,
            attention_output: square("attention.output.dense")?,
            attention_norm: norm("attention.output.LayerNorm")?,
            intermediate: linear(hidden, intermediate, weights.pp("intermediate.dense"))?,
            output: linear(intermediate, hidden, weights.pp("output.dense"))?,
            output_norm: norm("output.LayerNorm")?,
            heads: config.num_attention_heads,
        })
    }

    fn forward(&self, states: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let attended = self.attention_output.forward(&self.attend(states, bias)?)?;
        let states = self.attention_norm.forward(&(states + attended)?)?;
        let widened = self.intermediate.forward(&states)?.gelu_erf()?;
        self.output_norm
            .forward(&(&states + self.output.forward(&widened)?)?)
    }

    /// Multi-head attention, `[texts, tokens, hidden]` to the same.
    fn attend(&self, states: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let (texts, tokens, hidden) = states.dims3()?;
        let head_dim = hidden / self.heads;
        let split = |projection: &Linear| {
            let projected = projection.forward(states)?;
            projected
                .reshape((texts, tokens, self.heads, head_dim))?
                .transpose(1, 2)?
                .contiguous()
        };
        let query = (split(&self.query)? * (head_dim as f64).sqrt().recip())?;
        let scores = query.matmul(&split(&self.key)?.t()?)?.broadcast_add(bias)?;
        let weights = candle_nn::ops::softmax_last_dim(&scores)?;
        let mixed = weights.matmul(&split(&self.value)?)?;
        mixed
            .transpose(1, 2)?
            .reshape((texts, tokens, hidden))?
            .contiguous()
    }
}

/// One vector of length 1 for each text: the mean of its tokens' states, padding left out
/// (sentence-transformers' mean pooling and normalisation).
fn pool(states: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let tokens = mask.sum_keepdim(1)?;
    let sums = states.broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?;
    let means = sums.broadcast_div(&tokens)?;
    let lengths = means.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    means.broadcast_div(&lengths.clamp(1e-12_f32, f32::MAX)?)
}
