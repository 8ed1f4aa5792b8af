//! The files of an embedding model's folder, read and checked.

use super::config::EmbeddingConfig;
use super::wordpiece::WordPiece;
use crate::error::BackendError;
use crate::model::checkpoint::check_safetensors;
use candle_core::{Device, Tensor};
use farthing_core::limits::EMBEDDING_FILE_BYTES_MAX;
use std::collections::HashMap;
use std::path::Path;

/// What a folder holds.
pub(super) struct ModelFolder {
    pub config: EmbeddingConfig,
    pub wordpiece: WordPiece,
    pub tensors: HashMap<String, Tensor>,
}

impl ModelFolder {
    /// Reads `config.json`, where there is one, `tokenizer.json` and `model.safetensors`.
    pub(super) fn read(path: &Path) -> Result<ModelFolder, BackendError> {
        let config = match read(&path.join("config.json")) {
            Ok(json) => EmbeddingConfig::parse(&json)?,
            Err(BackendError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                EmbeddingConfig::default()
            }
            Err(error) => return Err(error),
        };
        let wordpiece = WordPiece::new(&read(&path.join("tokenizer.json"))?)?;
        let weights = read(&path.join("model.safetensors"))?;
        // candle's reader panics on offsets that overflow.
        check_safetensors(&weights)
            .map_err(|error| BackendError::Embedding(format!("model.safetensors: {error}")))?;
        let tensors = candle_core::safetensors::load_buffer(&weights, &Device::Cpu)
            .map_err(|error| BackendError::Embedding(format!("model.safetensors: {error}")))?;
        Ok(ModelFolder {
            config,
            wordpiece,
            tensors,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BackendError> {
    let io = |source| BackendError::Io {
        what: path.display().to_string(),
        source,
    };
    let bytes = std::fs::metadata(path).map_err(io)?.len();
    if bytes > EMBEDDING_FILE_BYTES_MAX {
        return Err(BackendError::Embedding(format!(
            "{} has {bytes} bytes, more than {EMBEDDING_FILE_BYTES_MAX}",
            path.display()
        )));
    }
    std::fs::read(path).map_err(io)
}
