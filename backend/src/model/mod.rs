//! Models: a GGUF file or a folder with safetensors becomes repacked weights, a tokenizer and a
//! chat template.
//!
//! Reading order: [`gguf`] and [`checkpoint`] read the files as hostile input, [`ModelFile`] is
//! either, [`HyperParameters`] says what it describes, `weights` repacks it, [`Decoder`] computes
//! with it.

mod batch;
pub mod checkpoint;
mod decoder;
mod file;
pub mod gguf;
mod hyper_parameters;
mod load;
mod mapped;
mod rows;
mod weights;
mod workspace;

pub use batch::{Batch, Logits};
pub use decoder::Decoder;
pub use file::ModelFile;
pub use hyper_parameters::{Architecture, HyperParameters};
pub use load::{DraftModel, LoadTimes, LoadedModel, ModelInfo, ModelOptions, load_model};
pub use workspace::Workspace;
