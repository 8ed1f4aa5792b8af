//! The tokenizer's part of a model file's metadata
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer>).

use super::TokenizerSource;
use crate::error::BackendError;
use crate::model::gguf::{Metadata, required};

impl TokenizerSource {
    /// Reads `tokenizer.*` of a GGUF file.
    ///
    /// # Errors
    /// A key is missing or has the wrong type; the error names it.
    pub fn from_gguf(metadata: &Metadata<'_>) -> Result<TokenizerSource, BackendError> {
        let token_id = |key: &str| -> Result<Option<u32>, BackendError> {
            metadata
                .unsigned(key)?
                .map(|id| within_u32(key, id))
                .transpose()
        };
        let strings = |key: &str| required(key, metadata.strings(key)?);
        Ok(TokenizerSource {
            model: required(
                "tokenizer.ggml.model",
                metadata.string("tokenizer.ggml.model")?,
            )?
            .to_owned(),
            pre: metadata
                .string("tokenizer.ggml.pre")?
                .unwrap_or("default")
                .to_owned(),
            tokens: strings("tokenizer.ggml.tokens")?,
            merges: strings("tokenizer.ggml.merges")?,
            token_types: required(
                "tokenizer.ggml.token_type",
                metadata.integers("tokenizer.ggml.token_type")?,
            )?,
            bos: token_id("tokenizer.ggml.bos_token_id")?,
            eos: token_id("tokenizer.ggml.eos_token_id")?,
            add_bos: metadata
                .boolean("tokenizer.ggml.add_bos_token")?
                .unwrap_or(false),
            chat_template: metadata
                .string("tokenizer.chat_template")?
                .map(str::to_owned),
        })
    }
}

fn within_u32(key: &str, id: u64) -> Result<u32, BackendError> {
    u32::try_from(id).map_err(|_| BackendError::Gguf(format!("{key}: {id} is not a token id")))
}
