//! A model's shape, read from metadata and checked: what the forward pass may rely on without
//! looking again.

use farthing_core::limits;
use farthing_kernels::RopeStyle;

use super::file::ModelFile;
use super::gguf::{Metadata, required};
use crate::error::BackendError;

/// The architectures that the forward pass implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    Llama,
    Qwen2,
}

/// The shape of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct HyperParameters {
    pub architecture: Architecture,
    pub layers: usize,
    /// Length of a token's hidden state.
    pub width: usize,
    pub feed_forward: usize,
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    pub kv_heads: usize,
    /// Length of one head; even.
    pub head_dim: usize,
    pub rope_base: f32,
    pub rms_epsilon: f32,
    /// Positions that the model was trained for.
    pub context_tokens: usize,
    pub vocab_size: usize,
}

// === impl Architecture ===

impl Architecture {
    fn parse(name: &str) -> Result<Architecture, BackendError> {
        match name {
            "llama" => Ok(Architecture::Llama),
            "qwen2" => Ok(Architecture::Qwen2),
            _ => Err(BackendError::Model(format!(
                "the architecture '{name}' is not supported; llama and qwen2 are"
            ))),
        }
    }

    /// The name in `general.architecture`, which also prefixes the other keys.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
        }
    }

    /// Which pairs of a head are rotated. llama.cpp's converter permutes the query and key rows of
    /// llama so that pairs lie side by side (`LLAMA_ROPE_TYPE_NORM`), those of qwen2 stay halves
    /// apart (`LLAMA_ROPE_TYPE_NEOX`).
    pub fn rope_style(self) -> RopeStyle {
        match self {
            Architecture::Llama => RopeStyle::Interleaved,
            Architecture::Qwen2 => RopeStyle::Halves,
        }
    }
}

// === impl HyperParameters ===

impl HyperParameters {
    /// Reads and checks the shape.
    ///
    /// # Errors
    /// A key is missing, has the wrong type or an impossible value, or asks for a variant of the
    /// architecture whose answers would be silently wrong here.
    pub fn read(file: &ModelFile) -> Result<HyperParameters, BackendError> {
        let metadata = file.metadata();
        let architecture = required("general.architecture", {
            metadata.string("general.architecture")?
        })?;
        let architecture = Architecture::parse(architecture)?;
        let keys = Keys {
            metadata,
            prefix: architecture.name(),
        };
        keys.refuse_variants(file)?;
        let heads = keys.count("attention.head_count", limits::MODEL_HEADS_MAX)?;
        let kv_heads = keys
            .optional_count("attention.head_count_kv", limits::MODEL_HEADS_MAX)?
            .unwrap_or(heads);
        let width = keys.count("embedding_length", limits::MODEL_WIDTH_MAX)?;
        let (vocab_size, embedded) = file
            .tensor("token_embd.weight")?
            .matrix_shape("token_embd.weight")?;
        if embedded != width || vocab_size > limits::MODEL_VOCAB_MAX {
            return Err(BackendError::Model(format!(
                "token_embd.weight has {vocab_size} rows of {embedded}, the width is {width}"
            )));
        }
        let context_key = "context_length";
        Ok(HyperParameters {
            architecture,
            layers: keys.count("block_count", limits::MODEL_LAYERS_MAX)?,
            width,
            feed_forward: keys.count("feed_forward_length", limits::MODEL_WIDTH_MAX)?,
            heads,
            kv_heads,
            head_dim: keys.head_dim(width, heads, kv_heads)?,
            rope_base: keys
                .positive("rope.freq_base")?
                .unwrap_or(ROPE_BASE_DEFAULT),
            rms_epsilon: required(
                "attention.layer_norm_rms_epsilon",
                keys.positive("attention.layer_norm_rms_epsilon")?,
            )?,
            context_tokens: keys.count(context_key, limits::MODEL_CONTEXT_TOKENS_MAX)?,
            vocab_size,
        })
    }
}

/// llama.cpp's default for files that do not say.
const ROPE_BASE_DEFAULT: f32 = 10_000.0;

/// The keys of one architecture.
struct Keys<'a> {
    metadata: Metadata<'a>,
    prefix: &'static str,
}

// === impl Keys ===

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn count(&self, name: &str, max: usize) -> Result<usize, BackendError> {
        required(&self.key(name), self.optional_count(name, max)?)
    }

    fn optional_count(&self, name: &str, max: usize) -> Result<Option<usize>, BackendError> {
        let key = self.key(name);
        match self.metadata.unsigned(&key)? {
            None => Ok(None),
            Some(value) if (1..=max as u64).contains(&value) => Ok(Some(value as usize)),
            Some(value) => Err(BackendError::Model(format!(
                "'{key}' is {value}, not within 1 and {max}"
            ))),
        }
    }

    fn positive(&self, name: &str) -> Result<Option<f32>, BackendError> {
        let key = self.key(name);
        match self.metadata.float(&key)? {
            Some(value) if value <= 0.0 => Err(BackendError::Model(format!(
                "'{key}' is {value}, not above zero"
            ))),
            value => Ok(value),
        }
    }

    fn head_dim(&self, width: usize, heads: usize, kv_heads: usize) -> Result<usize, BackendError> {
        let max = farthing_kernels::HEAD_DIM_MAX;
        let stated = self.optional_count("attention.key_length", max)?;
        let head_dim = stated.unwrap_or(width / heads);
        let wrong = |what: String| Err(BackendError::Model(what));
        if stated.is_none() && !width.is_multiple_of(heads) {
            return wrong(format!("{heads} heads do not divide the width {width}"));
        }
        if !heads.is_multiple_of(kv_heads) {
            return wrong(format!(
                "{heads} heads are no multiple of {kv_heads} key-value heads"
            ));
        }
        if head_dim == 0 || head_dim > max || !head_dim.is_multiple_of(2) {
            return wrong(format!(
                "a head of {head_dim} is not even and within 2 and {max}"
            ));
        }
        for name in ["attention.value_length", "rope.dimension_count"] {
            let value = self.optional_count(name, limits::MODEL_WIDTH_MAX)?;
            if value.is_some_and(|value| value != head_dim) {
                let key = self.key(name);
                return wrong(format!("'{key}' is {value:?} where heads have {head_dim}"));
            }
        }
        Ok(head_dim)
    }

    /// Variants that share an architecture's name but not its arithmetic.
    fn refuse_variants(&self, file: &ModelFile) -> Result<(), BackendError> {
        let refuse = |what: String| Err(BackendError::Model(format!("{what} is not supported")));
        let key = self.key("expert_count");
        if self.metadata.unsigned(&key)?.unwrap_or(0) > 0 {
            return refuse(format!("a mixture of experts ('{key}')"));
        }
        let key = self.key("rope.scaling.type");
        if let Some(scaling) = self
            .metadata
            .string(&key)?
            .filter(|scaling| *scaling != "none")
        {
            return refuse(format!("position scaling '{scaling}' ('{key}')"));
        }
        let key = self.key("attention.sliding_window");
        if self.metadata.unsigned(&key)?.unwrap_or(0) > 0 {
            return refuse(format!("sliding-window attention ('{key}')"));
        }
        if file.tensor_names().contains(&"rope_freqs.weight") {
            return refuse("position scaling by rope_freqs.weight".to_owned());
        }
        Ok(())
    }
}
