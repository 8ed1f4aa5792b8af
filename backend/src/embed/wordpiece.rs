//! Text to WordPiece tokens, by the `tokenizer.json` of the model.

use crate::error::BackendError;
use farthing_core::limits::EMBEDDING_INPUT_TOKENS_MAX;
use tokenizers::{Tokenizer, TruncationParams};

/// The embedding model's tokenizer.
pub(super) struct WordPiece(Tokenizer);

impl WordPiece {
    /// Reads `tokenizer.json`. Its own truncation and padding are replaced: it pads every text to
    /// 128 tokens, whereas the model's authors use up to `EMBEDDING_INPUT_TOKENS_MAX`.
    pub(super) fn new(json: &[u8]) -> Result<WordPiece, BackendError> {
        let refuse = |error| BackendError::Embedding(format!("tokenizer.json: {error}"));
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(refuse)?;
        let max_length = EMBEDDING_INPUT_TOKENS_MAX;
        tokenizer
            .with_truncation(Some(TruncationParams {
                max_length,
                ..Default::default()
            }))
            .map_err(refuse)?
            .with_padding(None);
        Ok(WordPiece(tokenizer))
    }

    /// Largest id plus one.
    pub(super) fn vocab_size(&self) -> usize {
        let ids = self.0.get_vocab(true).into_values();
        ids.max().map_or(0, |id| id as usize + 1)
    }

    /// Whether a word, in lower case, is one token.
    pub(super) fn knows(&self, word: &str) -> bool {
        self.0.token_to_id(word).is_some()
    }

    /// The tokens of a text, `[CLS]` and `[SEP]` around them, at most
    /// `EMBEDDING_INPUT_TOKENS_MAX`.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, BackendError> {
        let encoding = self.0.encode_fast(text, true);
        let encoding = encoding
            .map_err(|error| BackendError::Embedding(format!("tokenizing failed: {error}")))?;
        match encoding.get_ids() {
            // Only a tokenizer that puts nothing around a text can leave it without any.
            [] => Err(BackendError::Embedding("a text has no tokens".to_owned())),
            ids => Ok(ids.to_vec()),
        }
    }
}
