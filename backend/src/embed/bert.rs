//! The BERT encoder (Devlin et al., <https://arxiv.org/abs/1810.04805>; the tensors' names are
//! those of Hugging Face's `BertModel`), on candle.

use super::config::EmbeddingConfig;
use crate::error::BackendError;
use candle_core::{D, DType, Device, Module, Result, Tensor};
use candle_nn::{Embedding, LayerNorm, Linear, VarBuilder, embedding, layer_norm, linear};
use farthing_core::limits::{MODEL_LAYERS_MAX, MODEL_WIDTH_MAX};
use std::collections::HashMap;

/// The encoder: token ids to one state for each token.
pub(super) struct Bert {
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

/// Sizes that the weights imply.
#[derive(Debug, Clone, Copy)]
struct Shape {
    vocabulary: usize,
    positions: usize,
    hidden: usize,
    intermediate: usize,
    layers: usize,
}

impl Bert {
    /// Takes the encoder's tensors out of `tensors`, each checked for its shape.
    pub(super) fn new(
        tensors: HashMap<String, Tensor>,
        config: &EmbeddingConfig,
    ) -> std::result::Result<Bert, BackendError> {
        let shape = Shape::of(&tensors)?;
        let heads = config.num_attention_heads;
        if shape.hidden % heads != 0 {
            let hidden = shape.hidden;
            let message = format!("{heads} attention heads do not divide a width of {hidden}");
            return Err(BackendError::Embedding(message));
        }
        let weights = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        Bert::from_weights(&weights, shape, config)
            .map_err(|error| BackendError::Embedding(format!("model.safetensors: {error}")))
    }

    fn from_weights(
        weights: &VarBuilder<'_>,
        shape: Shape,
        config: &EmbeddingConfig,
    ) -> Result<Bert> {
        let Shape {
            vocabulary,
            positions,
            hidden,
            ..
        } = shape;
        let embeddings = weights.pp("embeddings");
        let layer = |index| Layer::new(&weights.pp("encoder.layer").pp(index), shape, config);
        Ok(Bert {
            words: embedding(vocabulary, hidden, embeddings.pp("word_embeddings"))?,
            positions: embeddings.get((positions, hidden), "position_embeddings.weight")?,
            segment: embeddings
                .get((2, hidden), "token_type_embeddings.weight")?
                .get(0)?,
            norm: layer_norm(hidden, config.layer_norm_eps, embeddings.pp("LayerNorm"))?,
            layers: (0..shape.layers).map(layer).collect::<Result<_>>()?,
        })
    }

    /// Ids that the model knows.
    pub(super) fn vocab_size(&self) -> usize {
        self.words.embeddings().dim(0).unwrap_or(0)
    }

    /// Tokens that a text may have.
    pub(super) fn positions(&self) -> usize {
        self.positions.dim(0).unwrap_or(0)
    }

    /// States `[texts, tokens, hidden]` of ids `[texts, tokens]`; `mask` is 1 for tokens and 0 for
    /// padding.
    pub(super) fn forward(&self, ids: &Tensor, mask: &Tensor) -> Result<Tensor> {
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

impl Shape {
    fn of(tensors: &HashMap<String, Tensor>) -> std::result::Result<Shape, BackendError> {
        let rows_and_columns = |name: &str| {
            let refuse =
                |what| BackendError::Embedding(format!("model.safetensors: {name} {what}"));
            let tensor = tensors.get(name).ok_or_else(|| refuse("is missing"))?;
            tensor.dims2().map_err(|_| refuse("is not a matrix"))
        };
        let (vocabulary, hidden) = rows_and_columns("embeddings.word_embeddings.weight")?;
        let (positions, _) = rows_and_columns("embeddings.position_embeddings.weight")?;
        let (intermediate, _) = rows_and_columns("encoder.layer.0.intermediate.dense.weight")?;
        let has_layer = |index: &usize| {
            tensors.contains_key(&format!(
                "encoder.layer.{index}.attention.self.query.weight"
            ))
        };
        let layers = (0..MODEL_LAYERS_MAX).take_while(has_layer).count();
        if hidden.max(intermediate) > MODEL_WIDTH_MAX {
            let message = format!("model.safetensors: wider than {MODEL_WIDTH_MAX}");
            return Err(BackendError::Embedding(message));
        }
        Ok(Shape {
            vocabulary,
            positions,
            hidden,
            intermediate,
            layers,
        })
    }
}

/// One vector of length 1 for each text: the mean of its tokens' states, padding left out
/// (sentence-transformers' mean pooling and normalisation).
pub(super) fn pool(states: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let tokens = mask.sum_keepdim(1)?;
    let sums = states.broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?;
    let means = sums.broadcast_div(&tokens)?;
    let lengths = means.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    means.broadcast_div(&lengths.clamp(1e-12_f32, f32::MAX)?)
}
