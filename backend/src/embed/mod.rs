//! Embeddings: texts to vectors by all-MiniLM-L6-v2 (or a model of the same build), on our kernels.
//!
//! Words to tokens ([`wordpiece`]), tokens to states ([`bert`]), states to one vector of length 1
//! for each text ([`embedder`]); a thread of its own does the work ([`worker`]), so that neither
//! tokio nor the engine waits for it.

mod bert;
mod candle_bert;
mod config;
mod embedder;
mod folder;
mod shape;
mod wordpiece;
mod worker;

pub use candle_bert::CandleBert;
pub use embedder::{Embedded, Embedder};
pub use worker::EmbedHandle;

use crate::error::BackendError;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Where `cargo xtask` puts the embedding model.
pub const FETCHED: &str = ".farthing/models/all-MiniLM-L6-v2";

/// Loads the embedding model of a folder (`model.safetensors`, `tokenizer.json`, and `config.json`
/// where there is one) and starts its thread.
///
/// # Errors
/// A file is missing, too large or malformed, or a tensor has another shape than it must; the error
/// names it.
pub fn load(id: &str, folder: &Path) -> Result<EmbedHandle, BackendError> {
    let embedder = Embedder::load(folder)?;
    let modified = std::fs::metadata(folder)
        .and_then(|metadata| metadata.modified())
        .ok();
    let created = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    EmbedHandle::start(id, created.unwrap_or_default().as_secs(), embedder)
}
