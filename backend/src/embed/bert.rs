//! The BERT encoder (Devlin et al., <https://arxiv.org/abs/1810.04805>; the tensors' names are
//! those of Hugging Face's `BertModel`), on our kernels in f32. Texts of a batch lie one after the
//! other without padding.

use super::config::EmbeddingConfig;
use super::shape::Shape;
use crate::error::BackendError;
use candle_core::{DType, Tensor};
use farthing_kernels::{Activation, Linear, SelfAttention, ThreadPool, add, layer_norm};
use std::collections::HashMap;

/// The encoder: token ids to one state for each token.
pub(super) struct Bert {
    /// Of each id.
    words: Vec<f32>,
    /// Of each position, with the embedding of segment 0 added, the only one of single texts.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    hidden: usize,
    heads: usize,
}

/// Attention and feed-forward, each with its residual and its normalisation.
struct Layer {
    query_key_value: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: Norm,
}

/// Layer normalisation.
struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

/// The tensors of a file, under a name that begins theirs.
#[derive(Clone, Copy)]
struct Weights<'a> {
    tensors: &'a HashMap<String, Tensor>,
    prefix: &'a str,
    eps: f32,
}

// === impl Bert ===

impl Bert {
    /// Takes the encoder's tensors out of `tensors`, each checked for its shape.
    pub(super) fn new(
        tensors: &HashMap<String, Tensor>,
        config: &EmbeddingConfig,
    ) -> Result<Bert, BackendError> {
        let shape = Shape::of(tensors, config)?;
        let hidden = shape.hidden;
        let weights = Weights {
            tensors,
            prefix: "embeddings",
            eps: config.layer_norm_eps as f32,
        };
        let mut positions =
            weights.numbers("position_embeddings.weight", &[shape.positions, hidden])?;
        let segments = weights.numbers("token_type_embeddings.weight", &[2, hidden])?;
        for position in positions.chunks_exact_mut(hidden) {
            add(position, &segments[..hidden]);
        }
        let layer = |index| {
            let prefix = format!("encoder.layer.{index}");
            let weights = Weights {
                prefix: &prefix,
                ..weights
            };
            Layer::new(weights, shape)
        };
        Ok(Bert {
            words: weights.numbers("word_embeddings.weight", &[shape.vocabulary, hidden])?,
            positions,
            norm: weights.norm("LayerNorm", hidden)?,
            layers: (0..shape.layers).map(layer).collect::<Result<_, _>>()?,
            hidden,
            heads: config.num_attention_heads,
        })
    }

    /// Ids that the model knows.
    pub(super) fn vocab_size(&self) -> usize {
        self.words.len() / self.hidden
    }

    /// Numbers of a vector.
    pub(super) fn width(&self) -> usize {
        self.hidden
    }

    /// Tokens that a text may have.
    pub(super) fn positions(&self) -> usize {
        self.positions.len() / self.hidden
    }

    /// One vector of length 1 for each text: the mean of its tokens' states (sentence-transformers'
    /// mean pooling and normalisation). A text has 1 to [`Bert::positions`] tokens, each below
    /// [`Bert::vocab_size`].
    pub(super) fn embed(&self, pool: &ThreadPool, texts: &[&[u32]]) -> Vec<Vec<f32>> {
        let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        let states = self.forward(pool, texts, &lengths);
        let mut rows = states.chunks_exact(self.hidden);
        let mean = |length: &usize| {
            let mut sum = vec![0.0; self.hidden];
            for state in rows.by_ref().take(*length) {
                add(&mut sum, state);
            }
            let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
            sum.iter().map(|x| x / length.max(1e-12)).collect()
        };
        lengths.iter().map(mean).collect()
    }

    /// States `[tokens, hidden]` of all texts.
    fn forward(&self, pool: &ThreadPool, texts: &[&[u32]], lengths: &[usize]) -> Vec<f32> {
        let hidden = self.hidden;
        let tokens: usize = lengths.iter().sum();
        let mut states = Vec::with_capacity(tokens * hidden);
        for (position, id) in texts.iter().flat_map(|text| text.iter().enumerate()) {
            let word = &self.words[*id as usize * hidden..][..hidden];
            let position = &self.positions[position * hidden..][..hidden];
            states.extend(
                word.iter()
                    .zip(position)
                    .map(|(word, position)| word + position),
            );
        }
        self.norm.apply(&mut states);
        let widest = self.layers.iter().map(Layer::widest).max().unwrap_or(0);
        let mut wide = vec![0.0; tokens * widest];
        let mut mixed = vec![0.0; tokens * hidden];
        let mut change = vec![0.0; tokens * hidden];
        for layer in &self.layers {
            let query_key_value = &mut wide[..tokens * layer.query_key_value.outputs()];
            (layer.query_key_value).apply(pool, &states, Activation::Identity, query_key_value);
            let attention = SelfAttention {
                query_key_value,
                lengths,
                heads: self.heads,
                head_dim: hidden / self.heads,
            };
            attention.attend(pool, &mut mixed);
            (layer.attention_output).apply(pool, &mixed, Activation::Identity, &mut change);
            add(&mut states, &change);
            layer.attention_norm.apply(&mut states);
            let widened = &mut wide[..tokens * layer.intermediate.outputs()];
            (layer.intermediate).apply(pool, &states, Activation::Gelu, widened);
            (layer.output).apply(pool, widened, Activation::Identity, &mut change);
            add(&mut states, &change);
            layer.output_norm.apply(&mut states);
        }
        states
    }
}

// === impl Layer ===

impl Layer {
    fn new(weights: Weights<'_>, shape: Shape) -> Result<Layer, BackendError> {
        let Shape {
            hidden,
            intermediate,
            ..
        } = shape;
        let of = |what: &str| format!("attention.self.{what}");
        Ok(Layer {
            query_key_value: weights.linear(
                &[&of("query"), &of("key"), &of("value")],
                hidden,
                hidden,
            )?,
            attention_output: weights.linear(&["attention.output.dense"], hidden, hidden)?,
            attention_norm: weights.norm("attention.output.LayerNorm", hidden)?,
            intermediate: weights.linear(&["intermediate.dense"], hidden, intermediate)?,
            output: weights.linear(&["output.dense"], intermediate, hidden)?,
            output_norm: weights.norm("output.LayerNorm", hidden)?,
        })
    }

    /// Numbers of its widest rows.
    fn widest(&self) -> usize {
        (self.query_key_value.outputs()).max(self.intermediate.outputs())
    }
}

// === impl Norm ===

impl Norm {
    fn apply(&self, states: &mut [f32]) {
        layer_norm(states, &self.weight, &self.bias, self.eps);
    }
}

// === impl Weights ===

impl Weights<'_> {
    /// The numbers of a tensor, row after row.
    fn numbers(self, name: &str, shape: &[usize]) -> Result<Vec<f32>, BackendError> {
        let name = format!("{}.{name}", self.prefix);
        let refuse =
            |what: String| BackendError::Embedding(format!("model.safetensors: {name} {what}"));
        let tensor = self.tensors.get(&name);
        let tensor = tensor.ok_or_else(|| refuse("is missing".to_owned()))?;
        if tensor.dims() != shape {
            return Err(refuse(format!(
                "has the shape {:?} instead of {shape:?}",
                tensor.dims()
            )));
        }
        let numbers = tensor
            .to_dtype(DType::F32)
            .and_then(|tensor| tensor.flatten_all()?.to_vec1::<f32>())
            .map_err(|error| refuse(format!("cannot be read: {error}")))?;
        match numbers.iter().all(|number| number.is_finite()) {
            true => Ok(numbers),
            false => Err(refuse("has a number that is not finite".to_owned())),
        }
    }

    /// Several layers of the same input as one.
    fn linear(self, names: &[&str], inputs: usize, outputs: usize) -> Result<Linear, BackendError> {
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            weights.extend(self.numbers(&format!("{name}.weight"), &[outputs, inputs])?);
            bias.extend(self.numbers(&format!("{name}.bias"), &[outputs])?);
        }
        Linear::pack(&weights, inputs, bias)
            .map_err(|error| BackendError::Embedding(format!("model.safetensors: {error}")))
    }

    fn norm(self, name: &str, width: usize) -> Result<Norm, BackendError> {
        Ok(Norm {
            weight: self.numbers(&format!("{name}.weight"), &[width])?,
            bias: self.numbers(&format!("{name}.bias"), &[width])?,
            eps: self.eps,
        })
    }
}
