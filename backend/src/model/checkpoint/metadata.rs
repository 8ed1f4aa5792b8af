//! What a folder's JSON files say, as the key-value pairs of a GGUF file
//! (llama.cpp, `convert_hf_to_gguf.py`), so that everything after it reads one form.

use std::io::Read;
use std::path::Path;

use farthing_core::limits;
use serde::Deserialize;

use super::config::Config;
use crate::error::BackendError;
use crate::model::gguf::Pairs;
use crate::text::TokenizerSource;

/// `tokenizer_config.json`, as far as it matters.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    add_bos_token: bool,
    chat_template: Option<Templates>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Described { content: String },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<Template>),
}

#[derive(Debug, Deserialize)]
struct Template {
    name: String,
    template: String,
}

/// `tokenizer.ggml.token_type` of ids that no text has.
const UNUSED: i32 = 5;

/// The pairs of a model whose embedding has `vocab_size` rows.
///
/// # Errors
/// A file is missing or not what it should be; the error names it.
pub(super) fn pairs(
    folder: &Path,
    config: &Config,
    vocab_size: usize,
) -> Result<Pairs, BackendError> {
    let mut pairs = Pairs::default();
    let arch = config.model_type.as_str();
    pairs.string("general.architecture", arch);
    if let Some(name) = folder.file_name() {
        pairs.string("general.name", &name.to_string_lossy());
    }
    let kv_heads = config
        .num_key_value_heads
        .unwrap_or(config.num_attention_heads);
    for (key, value) in [
        ("block_count", config.num_hidden_layers),
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.head_count_kv", kv_heads),
        ("vocab_size", vocab_size as u32),
    ] {
        pairs.u32(&format!("{arch}.{key}"), value);
    }
    let epsilon = config.rms_norm_eps;
    pairs.f32(&format!("{arch}.attention.layer_norm_rms_epsilon"), epsilon);
    if let Some(base) = config.rope_base() {
        pairs.f32(&format!("{arch}.rope.freq_base"), base);
    }
    if let Some(head_dim) = config.head_dim {
        for key in [
            "attention.key_length",
            "attention.value_length",
            "rope.dimension_count",
        ] {
            pairs.u32(&format!("{arch}.{key}"), head_dim);
        }
    }
    tokenizer(folder, config, vocab_size, &mut pairs)?;
    Ok(pairs)
}

fn tokenizer(
    folder: &Path,
    config: &Config,
    vocab_size: usize,
    pairs: &mut Pairs,
) -> Result<(), BackendError> {
    let json = required(folder, "tokenizer.json", limits::TOKENIZER_FILE_BYTES_MAX)?;
    let mut source = TokenizerSource::from_hugging_face(&json)?;
    let about = tokenizer_config(folder)?;
    if source.tokens.len() > vocab_size {
        return Err(BackendError::Model(format!(
            "the tokenizer has {} tokens and the embedding {vocab_size}",
            source.tokens.len()
        )));
    }
    // Embeddings are often padded to a round number of rows; each id has a name of its own.
    source.tokens.resize(vocab_size, String::new());
    source.token_types.resize(vocab_size, UNUSED);
    for (id, token) in source.tokens.iter_mut().enumerate() {
        if token.is_empty() {
            *token = format!("[PAD{id}]");
        }
    }
    let id = |token: &Option<Token>| {
        let text = token.as_ref()?.text();
        source
            .tokens
            .iter()
            .position(|known| known == text)
            .map(|id| id as u32)
    };
    let bos = id(&about.bos_token).or(config.bos_token_id.as_ref().and_then(|ids| ids.first()));
    let eos = id(&about.eos_token).or(config.eos_token_id.as_ref().and_then(|ids| ids.first()));
    pairs.string("tokenizer.ggml.model", &source.model);
    pairs.string("tokenizer.ggml.pre", &source.pre);
    pairs.strings("tokenizer.ggml.tokens", &source.tokens);
    pairs.i32s("tokenizer.ggml.token_type", &source.token_types);
    pairs.strings("tokenizer.ggml.merges", &source.merges);
    for (key, id) in [("bos", bos), ("eos", eos)] {
        if let Some(id) = id {
            pairs.u32(&format!("tokenizer.ggml.{key}_token_id"), id);
        }
    }
    pairs.boolean("tokenizer.ggml.add_bos_token", about.add_bos_token);
    if let Some(template) = chat_template(folder, about.chat_template)? {
        pairs.string("tokenizer.chat_template", &template);
    }
    Ok(())
}

fn tokenizer_config(folder: &Path) -> Result<TokenizerConfig, BackendError> {
    let name = "tokenizer_config.json";
    let Some(json) = optional(folder, name, limits::TOKENIZER_FILE_BYTES_MAX)? else {
        return Ok(TokenizerConfig::default());
    };
    let mut deserializer = serde_json::Deserializer::from_slice(&json);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        BackendError::Checkpoint(format!("{name}: {}: {}", error.path(), error.inner()))
    })
}

/// Newer folders have the template in a file of its own.
fn chat_template(
    folder: &Path,
    templates: Option<Templates>,
) -> Result<Option<String>, BackendError> {
    let name = "chat_template.jinja";
    if let Some(text) = optional(folder, name, limits::CHAT_TEMPLATE_BYTES_MAX as u64)? {
        let text = String::from_utf8(text);
        let text = text.map_err(|_| BackendError::Checkpoint(format!("{name}: not UTF-8")))?;
        return Ok(Some(text));
    }
    Ok(match templates {
        None => None,
        Some(Templates::One(text)) => Some(text),
        Some(Templates::Named(named)) => {
            let mut default = named
                .into_iter()
                .filter(|template| template.name == "default");
            default.next().map(|template| template.template)
        }
    })
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Token::Text(text) => text,
            Token::Described { content } => content,
        }
    }
}

/// A file that must be there.
pub(super) fn required(folder: &Path, name: &str, bytes_max: u64) -> Result<Vec<u8>, BackendError> {
    optional(folder, name, bytes_max)?
        .ok_or_else(|| BackendError::Checkpoint(format!("{name} is missing")))
}

/// A file that may be there.
pub(super) fn optional(
    folder: &Path,
    name: &str,
    bytes_max: u64,
) -> Result<Option<Vec<u8>>, BackendError> {
    let path = folder.join(name);
    let io = |source| BackendError::Io {
        what: path.display().to_string(),
        source,
    };
    // A pipe or a device has no end, and opening one may wait for ever.
    let is_file = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.is_file(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    if !is_file {
        return Err(BackendError::Checkpoint(format!("{name} is no file")));
    }
    let file = std::fs::File::open(&path).map_err(io)?;
    let mut bytes = Vec::new();
    let read = file.take(bytes_max + 1).read_to_end(&mut bytes);
    if read.map_err(io)? as u64 > bytes_max {
        return Err(BackendError::Checkpoint(format!(
            "{name} has more than {bytes_max} bytes"
        )));
    }
    Ok(Some(bytes))
}
