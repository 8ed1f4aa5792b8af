//! Texts to vectors, in batches of bounded size.

use super::bert::{Bert, pool};
use super::config::EmbeddingConfig;
use super::wordpiece::WordPiece;
use crate::error::BackendError;
use crate::model::checkpoint::check_safetensors;
use candle_core::{Device, Tensor};
use farthing_core::limits::{
    EMBEDDING_BATCH_MAX, EMBEDDING_FILE_BYTES_MAX, EMBEDDING_INPUT_TOKENS_MAX,
};
use std::path::Path;
use std::sync::Arc;

/// A loaded embedding model.
pub struct Embedder {
    wordpiece: Arc<WordPiece>,
    bert: Bert,
}

/// The vectors of some texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// One vector of length 1 for each text, in the order of the texts.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts together, as the model read them: cut off, with `[CLS]` and `[SEP]`.
    pub tokens: usize,
    /// The same for each text.
    pub tokens_each: Vec<usize>,
}

impl Embedder {
    /// Loads the model of a folder; see [`load`](super::load).
    pub fn load(folder: &Path) -> Result<Embedder, BackendError> {
        let config = match read(&folder.join("config.json")) {
            Ok(json) => EmbeddingConfig::parse(&json)?,
            Err(BackendError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                EmbeddingConfig::default()
            }
            Err(error) => return Err(error),
        };
        let wordpiece = WordPiece::new(&read(&folder.join("tokenizer.json"))?)?;
        let weights = read(&folder.join("model.safetensors"))?;
        // candle's reader panics on offsets that overflow.
        check_safetensors(&weights)
            .map_err(|error| BackendError::Embedding(format!("model.safetensors: {error}")))?;
        let tensors = candle_core::safetensors::load_buffer(&weights, &Device::Cpu)
            .map_err(|error| BackendError::Embedding(format!("model.safetensors: {error}")))?;
        drop(weights);
        let bert = Bert::new(tensors, &config)?;
        if wordpiece.vocab_size() > bert.vocab_size() {
            return Err(BackendError::Embedding(format!(
                "tokenizer.json has ids up to {}, but the model has {} embeddings",
                wordpiece.vocab_size(),
                bert.vocab_size()
            )));
        }
        if bert.positions() < EMBEDDING_INPUT_TOKENS_MAX {
            return Err(BackendError::Embedding(format!(
                "the model has {} positions, fewer than {EMBEDDING_INPUT_TOKENS_MAX}",
                bert.positions()
            )));
        }
        Ok(Embedder {
            wordpiece: Arc::new(wordpiece),
            bert,
        })
    }

    /// Its tokenizer.
    pub(super) fn wordpiece(&self) -> &Arc<WordPiece> {
        &self.wordpiece
    }

    /// Whether a word, in lower case, is one of the model's own: others may be misspelled.
    pub fn is_known(&self, word: &str) -> bool {
        self.wordpiece.knows(word)
    }

    /// Embeds texts. Those of similar length share a batch, so that little is spent on padding.
    /// Before each batch `go_on` is asked, and `None` is returned as soon as it says no.
    pub fn embed(
        &self,
        texts: &[String],
        go_on: impl Fn() -> bool,
    ) -> Result<Option<Embedded>, BackendError> {
        let encoded: Vec<Vec<u32>> = texts
            .iter()
            .map(|text| self.wordpiece.encode(text))
            .collect::<Result<_, _>>()?;
        let mut order: Vec<usize> = (0..encoded.len()).collect();
        order.sort_by_key(|index| encoded[*index].len());
        let mut vectors = vec![Vec::new(); encoded.len()];
        for batch in order.chunks(EMBEDDING_BATCH_MAX) {
            if !go_on() {
                return Ok(None);
            }
            let rows: Vec<&[u32]> = batch
                .iter()
                .map(|index| encoded[*index].as_slice())
                .collect();
            let embedded = self.embed_batch(&rows).map_err(|error| {
                BackendError::Embedding(format!("the forward pass failed: {error}"))
            })?;
            for (index, vector) in batch.iter().zip(embedded) {
                vectors[*index] = vector;
            }
        }
        Ok(Some(Embedded {
            vectors,
            tokens: encoded.iter().map(Vec::len).sum(),
            tokens_each: encoded.iter().map(Vec::len).collect(),
        }))
    }

    fn embed_batch(&self, rows: &[&[u32]]) -> candle_core::Result<Vec<Vec<f32>>> {
        let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
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
        pool(&self.bert.forward(&ids, &mask)?, &mask)?.to_vec2()
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
