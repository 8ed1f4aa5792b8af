//! The backend's one error enum. What a client may see of it is decided by one table: the
//! conversion into [`ApiError`].

use crate::calibrate::CalibrateError;
use farthing_core::error::{ApiError, ErrorKind};
use farthing_kernels::KernelError;

/// Why the backend cannot start, load a model or finish a step.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The operating system refused something; `what` names the file or address.
    #[error("{what}: {source}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    /// The configuration is wrong at `path` (`models[0].context_tokens`).
    #[error("configuration, {path}: {message}")]
    Config { path: String, message: String },
    /// The file is not a valid GGUF file, or asks for something no file of its size can hold.
    #[error("GGUF: {0}")]
    Gguf(String),
    /// A folder's safetensors or JSON files are not valid.
    #[error("checkpoint: {0}")]
    Checkpoint(String),
    /// The model is valid but not one that this backend can run.
    #[error("model: {0}")]
    Model(String),
    /// The model's vocabulary or merges are unusable.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The model's chat template does not compile.
    #[error("chat template: {0}")]
    Template(String),
    /// A vocabulary file that is to be served is none.
    #[error("vocabulary: {0}")]
    Vocabulary(String),
    /// The embedding model cannot be loaded or run.
    #[error("embeddings: {0}")]
    Embedding(String),
    /// A pre-router's file cannot be used, or none can be made of the rows given.
    #[error("pre-router: {0}")]
    PreRouter(String),
    /// The response store cannot be opened.
    #[error("response store {path}: {reason}")]
    ResponseStore { path: String, reason: String },
    /// The semantic cache's file cannot be opened.
    #[error("semantic cache {path}: {reason}")]
    SemanticStore { path: String, reason: String },
    /// Labelled questions cannot be read.
    #[error("{0}")]
    SemanticEval(String),
    /// A cascade cannot be learned or measured.
    #[error("{0}")]
    Cascade(String),
    /// A numeric operation was given shapes or bytes that it refuses.
    #[error("kernel: {0}")]
    Kernel(KernelError),
    /// A thread that serves a model ended while we served; only a defect of ours does that.
    #[error("{0} has stopped unexpectedly")]
    WorkerStopped(String),
    /// A trace that is to be replayed is none.
    #[error("trace {0}")]
    Trace(String),
    /// Data to learn from cannot be used.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
    /// Any of the above, with the model file that it came from.
    #[error("{path}: {source}")]
    ModelFile {
        path: String,
        #[source]
        source: Box<BackendError>,
    },
}

impl BackendError {
    /// Names the model file that the error came from.
    pub fn in_file(self, path: &std::path::Path) -> BackendError {
        BackendError::ModelFile {
            path: path.display().to_string(),
            source: Box::new(self),
        }
    }
}

impl From<KernelError> for BackendError {
    fn from(error: KernelError) -> BackendError {
        BackendError::Kernel(error)
    }
}

/// Nothing in this enum is the client's doing, and its text may name files: the client learns only
/// that it was our fault.
impl From<&BackendError> for ApiError {
    fn from(_: &BackendError) -> ApiError {
        ApiError::new(
            ErrorKind::Internal,
            "the backend failed to process the request",
        )
    }
}
