//! From a path to a model that is ready to be given to the engine.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use farthing_core::limits;
use farthing_kernels::{KvCache, KvDtype, ROPE_POSITIONS_MAX};

use super::decoder::Decoder;
use super::file::ModelFile;
use super::gguf::Gguf;
use super::hyper_parameters::HyperParameters;
use super::weights::Weights;
use crate::error::BackendError;
use crate::text::{ChatTemplate, GrammarCompiler, Tokenizer, TokenizerSource};

/// What everyone may know about a loaded model.
#[derive(Debug)]
pub struct ModelInfo {
    /// The name that requests use.
    pub id: String,
    /// Tokens of prompt and answer together: the smallest of what was configured, what the model
    /// was trained for and what its KV cache holds.
    pub context_tokens: usize,
    pub vocab_size: usize,
    pub tokenizer: Arc<Tokenizer>,
    /// For answers that must have a form.
    pub grammars: GrammarCompiler,
    /// Absent when the file has no template: such a model answers completions only.
    pub chat_template: Option<ChatTemplate>,
    /// Of what else turns messages into tokens.
    prompt_digest: [u8; 32],
    /// When the file was last modified, in seconds since 1970.
    pub created_unix_s: u64,
    /// GGUF's `general.architecture`.
    pub architecture: String,
    /// Bytes of the model file.
    pub file_bytes: u64,
    /// How long loading took.
    pub load_times: LoadTimes,
}

impl ModelInfo {
    /// Whether another model has the same tokens for every prompt.
    pub fn prompts_alike(&self, other: &ModelInfo) -> bool {
        self.prompt_digest == other.prompt_digest
            && self.tokenizer.has_vocabulary_of(&other.tokenizer)
    }
}

/// How long the parts of loading a model took. Weights and tokenizer are made side by side.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadTimes {
    /// Mapping the files and checking their headers.
    pub open: Duration,
    /// Repacking all tensors.
    pub weights: Duration,
    /// Vocabulary and chat template.
    pub tokenizer: Duration,
    /// Memory for keys and values.
    pub cache: Duration,
}

/// What the configuration may say about one model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModelOptions {
    /// Upper bound of prompt and answer; see `limits::CONTEXT_TOKENS_DEFAULT`.
    pub context_tokens: Option<usize>,
    /// Tokens that the KV cache holds for all sequences together; see
    /// `limits::KV_TOKENS_DEFAULT`.
    pub kv_tokens: Option<usize>,
    /// How the KV cache stores keys and values.
    pub kv_dtype: KvDtype,
}

/// A model that is ready to be given to the engine.
pub struct LoadedModel {
    pub info: Arc<ModelInfo>,
    pub decoder: Arc<Decoder>,
    pub cache: KvCache,
    /// What drafts for it, if anything does.
    pub draft: Option<DraftModel>,
}

/// A model that drafts for another one, which has the same vocabulary, or for itself.
pub struct DraftModel {
    pub decoder: Arc<Decoder>,
    /// Its own, as large in tokens as that of the model that it drafts for.
    pub cache: KvCache,
}

/// Loads a model of the llama or qwen2 architecture: a GGUF file, or a folder with config.json,
/// safetensors and tokenizer.json.
///
/// # Errors
/// A file cannot be read, is not valid, or describes a model that cannot run here.
pub fn load_model(
    id: &str,
    path: &Path,
    options: ModelOptions,
) -> Result<LoadedModel, BackendError> {
    let started = Instant::now();
    let opened = ModelFile::open(path).map(|file| (file, started.elapsed()));
    let model = opened.and_then(|(file, open)| {
        let mut model = LoadedModel::from_file(id, file, modified_unix_s(path), options)?;
        // Nobody else has seen it yet.
        if let Some(info) = Arc::get_mut(&mut model.info) {
            info.load_times.open = open;
        }
        Ok(model)
    });
    model.map_err(|error| error.in_file(path))
}

// === impl LoadedModel ===

impl LoadedModel {
    /// Makes a model of a GGUF file; see [`LoadedModel::from_file`].
    pub fn from_gguf(
        id: &str,
        file: Gguf,
        created_unix_s: u64,
        options: ModelOptions,
    ) -> Result<LoadedModel, BackendError> {
        LoadedModel::from_file(id, file.into(), created_unix_s, options)
    }

    /// Makes a model of a file whose headers have been checked.
    ///
    /// # Errors
    /// The file describes a model that cannot run here.
    pub fn from_file(
        id: &str,
        file: ModelFile,
        created_unix_s: u64,
        options: ModelOptions,
    ) -> Result<LoadedModel, BackendError> {
        let shape = HyperParameters::read(&file)?;
        let source = TokenizerSource::from_gguf(&file.metadata())?;
        let (context_tokens, kv_blocks) = options.resolve(&shape);
        let (architecture, file_bytes) = (shape.architecture.name(), file.file_bytes());
        let vocab_size = shape.vocab_size;
        // Most of a small model's loading is one or the other.
        let (words, weights) = thread::scope(|scope| {
            let words = scope.spawn(|| timed(|| words(&source, vocab_size)));
            let weights = timed(|| Weights::load(file, &shape));
            let words = words.join();
            (words.expect("a wrong vocabulary is an error"), weights)
        });
        let ((tokenizer, chat_template), tokenizer_time) = (words.0?, words.1);
        let (weights, weights_time) = (weights.0?, weights.1);
        let decoder = Decoder::new(shape, weights, context_tokens)?;
        let (cache, cache_time) = timed(|| decoder.kv_cache(options.kv_dtype, kv_blocks));
        let tokenizer = Arc::new(tokenizer);
        let info = ModelInfo {
            id: id.to_owned(),
            context_tokens,
            vocab_size,
            chat_template,
            prompt_digest: source.prompt_digest(),
            grammars: GrammarCompiler::new(Arc::clone(&tokenizer)),
            tokenizer,
            created_unix_s,
            architecture: architecture.to_owned(),
            file_bytes,
            load_times: LoadTimes {
                open: Duration::ZERO,
                weights: weights_time,
                tokenizer: tokenizer_time,
                cache: cache_time,
            },
        };
        Ok(LoadedModel {
            info: Arc::new(info),
            cache: cache?,
            decoder: Arc::new(decoder),
            draft: None,
        })
    }

    /// Lets another model draft for this one.
    ///
    /// # Errors
    /// Their vocabularies differ, or the memory for the KV cache exceeds the limit.
    pub fn set_draft(
        &mut self,
        info: &ModelInfo,
        decoder: Arc<Decoder>,
    ) -> Result<(), BackendError> {
        if !info.tokenizer.has_vocabulary_of(&self.info.tokenizer) {
            return Err(BackendError::Model(format!(
                "{} cannot draft for {}: their vocabularies differ",
                info.id, self.info.id
            )));
        }
        if info.context_tokens < self.info.context_tokens {
            return Err(BackendError::Model(format!(
                "{} cannot draft for {}: its context of {} tokens is shorter",
                info.id, self.info.id, info.context_tokens
            )));
        }
        let cache = decoder.kv_cache(self.cache.dtype(), self.cache.blocks())?;
        self.draft = Some(DraftModel { decoder, cache });
        Ok(())
    }
}

// === impl ModelOptions ===

impl ModelOptions {
    /// Tokens of context and blocks of the KV cache. A sequence never needs more blocks than there
    /// are, so that the oldest one can always go on.
    fn resolve(self, shape: &HyperParameters) -> (usize, usize) {
        let kv_tokens = self.kv_tokens.unwrap_or(limits::KV_TOKENS_DEFAULT);
        let kv_blocks = kv_tokens
            .clamp(1, limits::KV_TOKENS_MAX)
            .div_ceil(limits::KV_BLOCK_TOKENS);
        let context_tokens = self
            .context_tokens
            .unwrap_or(limits::CONTEXT_TOKENS_DEFAULT)
            .min(shape.context_tokens)
            .min(kv_blocks * limits::KV_BLOCK_TOKENS)
            .clamp(1, ROPE_POSITIONS_MAX);
        (context_tokens, kv_blocks)
    }
}

/// The tokenizer, and the template if the file has one.
fn words(
    source: &TokenizerSource,
    vocab_size: usize,
) -> Result<(Tokenizer, Option<ChatTemplate>), BackendError> {
    let tokenizer = Tokenizer::new(source)?;
    if tokenizer.vocab_size() > vocab_size {
        return Err(BackendError::Model(format!(
            "the tokenizer has {} tokens and the embedding {vocab_size}",
            tokenizer.vocab_size()
        )));
    }
    let template = source.chat_template.as_deref();
    let template = template.map(|template| ChatTemplate::new(template, &tokenizer));
    let template = template.transpose()?;
    Ok((tokenizer, template))
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    (work(), started.elapsed())
}

/// When the file was last modified. Zero where the file system does not say.
fn modified_unix_s(path: &Path) -> u64 {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    let since = modified
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
}
