//! A model as it lies on disk, whatever its format: GGUF's names, order of dimensions and keys.

use std::path::Path;

use farthing_kernels::Dtype;

use super::checkpoint::Checkpoint;
use super::gguf::{Gguf, Metadata, Tensor};
use crate::error::BackendError;

/// An opened model whose headers are valid.
pub enum ModelFile {
    Gguf(Gguf),
    /// A folder with config.json, safetensors and tokenizer.json.
    Checkpoint(Checkpoint),
}

// === impl ModelFile ===

impl ModelFile {
    /// Opens a GGUF file, or a folder as Hugging Face's hub has them.
    ///
    /// # Errors
    /// A file cannot be read, is not valid, or belongs to an architecture that is not ours.
    pub fn open(path: &Path) -> Result<ModelFile, BackendError> {
        if path.is_dir() {
            return Checkpoint::open(path).map(ModelFile::Checkpoint);
        }
        Gguf::open(path).map(ModelFile::Gguf)
    }

    /// The key-value pairs; a folder's are those that its GGUF file would have.
    pub fn metadata(&self) -> Metadata<'_> {
        self.header().metadata()
    }

    /// The pairs as a GGUF file writes them: key, then value type and value.
    pub fn raw_metadata(&self) -> Vec<(&str, &[u8])> {
        self.header().raw_metadata()
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// There is none, or it is of a format that this build cannot read.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>, BackendError> {
        self.optional_tensor(name)?
            .ok_or_else(|| BackendError::Model(format!("the tensor '{name}' is missing")))
    }

    /// The tensor of this name, if there is one.
    ///
    /// # Errors
    /// It is of a format that this build cannot read.
    pub fn optional_tensor(&self, name: &str) -> Result<Option<Tensor<'_>>, BackendError> {
        match self {
            ModelFile::Gguf(gguf) => gguf.optional_tensor(name),
            ModelFile::Checkpoint(checkpoint) => checkpoint.optional_tensor(name),
        }
    }

    /// Format and dimensions of the tensor of this name, without its bytes.
    ///
    /// # Errors
    /// As [`ModelFile::tensor`].
    pub fn format(&self, name: &str) -> Result<(Dtype, &[usize]), BackendError> {
        let format = match self {
            ModelFile::Gguf(gguf) => gguf.optional_tensor(name)?.map(|t| (t.dtype, t.dims)),
            ModelFile::Checkpoint(checkpoint) => checkpoint.format(name),
        };
        format.ok_or_else(|| BackendError::Model(format!("the tensor '{name}' is missing")))
    }

    /// Gives back the memory of a mapped tensor that has been read and will hardly be again.
    pub fn release(&self, name: &str) {
        match self {
            ModelFile::Gguf(gguf) => gguf.release(name),
            ModelFile::Checkpoint(checkpoint) => checkpoint.release(name),
        }
    }

    /// The names of all tensors, in the order in which they lie in the file.
    pub fn tensor_names(&self) -> Vec<&str> {
        match self {
            ModelFile::Gguf(gguf) => gguf.tensor_names(),
            ModelFile::Checkpoint(checkpoint) => checkpoint.tensor_names(),
        }
    }

    /// Bytes of the file, or of all the folder's weights.
    pub fn file_bytes(&self) -> u64 {
        match self {
            ModelFile::Gguf(gguf) => gguf.file_bytes(),
            ModelFile::Checkpoint(checkpoint) => checkpoint.file_bytes(),
        }
    }

    /// How many numbers all tensors have together.
    ///
    /// # Errors
    /// As [`ModelFile::tensor`].
    pub fn weights(&self) -> Result<f64, BackendError> {
        let mut weights = 0.0;
        for name in self.tensor_names() {
            let (_, dims) = self.format(name)?;
            weights += dims.iter().map(|dim| *dim as f64).product::<f64>();
        }
        Ok(weights)
    }

    fn header(&self) -> &Gguf {
        match self {
            ModelFile::Gguf(gguf) => gguf,
            ModelFile::Checkpoint(checkpoint) => checkpoint.header(),
        }
    }
}

impl From<Gguf> for ModelFile {
    fn from(gguf: Gguf) -> ModelFile {
        ModelFile::Gguf(gguf)
    }
}
