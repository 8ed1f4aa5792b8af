//! Models: a GGUF file becomes repacked weights, a tokenizer and a chat template.
//!
//! Reading order: [`gguf`] reads the file as hostile input, [`HyperParameters`] says what it
//! describes, `weights` repacks it, [`Decoder`] computes with it.

mod batch;
mod decoder;
pub mod gguf;
mod hyper_parameters;
mod load;
mod rows;
mod weights;
mod workspace;

pub use batch::{Batch, Logits};
pub use decoder::Decoder;
pub use hyper_parameters::{Architecture, HyperParameters};
pub use load::{DraftModel, LoadedModel, ModelInfo, ModelOptions, load_model};
pub use workspace::Workspace;
