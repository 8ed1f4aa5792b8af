//! Texts to vectors, in batches of bounded size.

use super::bert::Bert;
use super::folder::ModelFolder;
use super::wordpiece::WordPiece;
use crate::error::BackendError;
use farthing_core::limits::{EMBEDDING_BATCH_MAX, EMBEDDING_INPUT_TOKENS_MAX};
use farthing_kernels::ThreadPool;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

/// A loaded embedding model.
pub struct Embedder {
    wordpiece: Arc<WordPiece>,
    bert: Bert,
    pool: ThreadPool,
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
    /// Loads the model of a folder, which then computes on all cores; see [`load`](super::load).
    pub fn load(folder: &Path) -> Result<Embedder, BackendError> {
        let all = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Embedder::load_with(folder, all)
    }

    /// The same with so many threads.
    pub fn load_with(folder: &Path, threads: NonZeroUsize) -> Result<Embedder, BackendError> {
        let ModelFolder {
            config,
            wordpiece,
            tensors,
        } = ModelFolder::read(folder)?;
        let bert = Bert::new(&tensors, &config)?;
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
            pool: ThreadPool::new(threads.get()),
        })
    }

    /// Numbers of a vector.
    pub fn width(&self) -> usize {
        self.bert.width()
    }

    /// Its tokenizer.
    pub(super) fn wordpiece(&self) -> &Arc<WordPiece> {
        &self.wordpiece
    }

    /// Whether a word, in lower case, is one of the model's own: others may be misspelled.
    pub fn is_known(&self, word: &str) -> bool {
        self.wordpiece.knows(word)
    }

    /// Embeds texts. Before each batch `go_on` is asked, and `None` is returned as soon as it says
    /// no. A text's vector does not depend on the others.
    pub fn embed(
        &self,
        texts: &[String],
        go_on: impl Fn() -> bool,
    ) -> Result<Option<Embedded>, BackendError> {
        let encoded: Vec<Vec<u32>> = texts
            .iter()
            .map(|text| self.wordpiece.encode(text))
            .collect::<Result<_, _>>()?;
        let mut vectors = Vec::with_capacity(encoded.len());
        for batch in encoded.chunks(EMBEDDING_BATCH_MAX) {
            if !go_on() {
                return Ok(None);
            }
            let rows: Vec<&[u32]> = batch.iter().map(Vec::as_slice).collect();
            vectors.extend(self.bert.embed(&self.pool, &rows));
        }
        Ok(Some(Embedded {
            vectors,
            tokens: encoded.iter().map(Vec::len).sum(),
            tokens_each: encoded.iter().map(Vec::len).collect(),
        }))
    }
}
