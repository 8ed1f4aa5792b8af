//! What the weights do not say about a BERT model.

use crate::error::BackendError;
use serde::Deserialize;

/// `config.json`: Hugging Face's model configuration or sentence-transformers' pooling
/// configuration, of which folders hold one or the other. Everything else follows from the shapes
/// of the weights.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct EmbeddingConfig {
    /// Attention heads of a layer.
    pub num_attention_heads: usize,
    /// Added to the variance in layer normalisation.
    pub layer_norm_eps: f64,
    /// The feed-forward activation.
    pub hidden_act: String,
    /// How states become one vector.
    pub pooling_mode_mean_tokens: bool,
}

/// Those of all-MiniLM-L6-v2
/// (<https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/blob/main/config.json>).
impl Default for EmbeddingConfig {
    fn default() -> Self {
        EmbeddingConfig {
            num_attention_heads: 12,
            layer_norm_eps: 1e-12,
            hidden_act: "gelu".to_owned(),
            pooling_mode_mean_tokens: true,
        }
    }
}

impl EmbeddingConfig {
    /// Reads `config.json`.
    pub(super) fn parse(json: &[u8]) -> Result<EmbeddingConfig, BackendError> {
        let refuse = |message: String| BackendError::Embedding(format!("config.json: {message}"));
        let config: EmbeddingConfig =
            serde_json::from_slice(json).map_err(|error| refuse(error.to_string()))?;
        if config.hidden_act != "gelu" {
            return Err(refuse(format!(
                "hidden_act is {:?}; supported is gelu",
                config.hidden_act
            )));
        }
        if !config.pooling_mode_mean_tokens {
            let message = "pooling_mode_mean_tokens is false; supported is mean pooling";
            return Err(refuse(message.to_owned()));
        }
        if config.num_attention_heads == 0 || !(1e-20..1.0).contains(&config.layer_norm_eps) {
            let message = "num_attention_heads or layer_norm_eps is out of range";
            return Err(refuse(message.to_owned()));
        }
        Ok(config)
    }
}
