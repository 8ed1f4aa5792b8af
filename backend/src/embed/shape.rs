//! The sizes that the weights of a BERT model imply.

use super::config::EmbeddingConfig;
use crate::error::BackendError;
use candle_core::Tensor;
use farthing_core::limits::{MODEL_LAYERS_MAX, MODEL_WIDTH_MAX};
use farthing_kernels::HEAD_DIM_MAX;
use std::collections::HashMap;

/// Sizes that the weights imply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub vocabulary: usize,
    pub positions: usize,
    pub hidden: usize,
    pub intermediate: usize,
    pub layers: usize,
}

impl Shape {
    /// Of the encoder's tensors; refused is what no encoder with so many heads can have.
    pub(super) fn of(
        tensors: &HashMap<String, Tensor>,
        config: &EmbeddingConfig,
    ) -> Result<Shape, BackendError> {
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
        let heads = config.num_attention_heads;
        if hidden == 0 || !hidden.is_multiple_of(heads) || hidden / heads > HEAD_DIM_MAX {
            let message = format!(
                "{heads} attention heads do not divide a width of {hidden} into heads of at most \
                 {HEAD_DIM_MAX}"
            );
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
