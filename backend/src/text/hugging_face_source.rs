//! A byte-level BPE vocabulary as Hugging Face's `tokenizer.json` holds it
//! (<https://github.com/huggingface/tokenizers>, `tokenizers/src/models/bpe/serialization.rs`).
//! What cuts text in another way than we know, or changes it, is refused by name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::TokenizerSource;
use crate::error::BackendError;

/// `tokenizer.ggml.token_type`, as a GGUF file would have it.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// Ids beyond the largest vocabulary there is would only make a list long.
const TOKENS_MAX: usize = 1 << 20;

/// Cuts text as Qwen's models do.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Cuts text as Llama 3 does.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Kind>,
    pre_tokenizer: Option<PreTokenizer>,
    model: Model,
}

#[derive(Deserialize)]
struct Kind {
    r#type: String,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    r#type: Option<String>,
    vocab: BTreeMap<String, u32>,
    merges: Vec<Merge>,
    #[serde(default)]
    byte_fallback: bool,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

/// Two tokens; older files write them as one text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair(String, String),
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum PreTokenizer {
    Sequence {
        pretokenizers: Vec<PreTokenizer>,
    },
    Split {
        pattern: Value,
        behavior: String,
        #[serde(default)]
        invert: bool,
    },
    Digits {
        individual_digits: bool,
    },
    ByteLevel {
        #[serde(default)]
        add_prefix_space: bool,
        use_regex: Option<bool>,
    },
    #[serde(other)]
    Other,
}

impl TokenizerSource {
    /// Reads a `tokenizer.json`. It names neither the tokens that begin and end a text nor a chat
    /// template. A normalizer of Unicode's forms is taken, and texts are counted as they are
    /// written: those in another form than it wants may differ.
    ///
    /// # Errors
    /// [`BackendError::Tokenizer`] names what is missing or of a kind that we do not have.
    pub fn from_hugging_face(json: &[u8]) -> Result<TokenizerSource, BackendError> {
        let file: File = serde_json::from_slice(json)
            .map_err(|error| refused(format!("it is no tokenizer.json: {error}")))?;
        check_model(&file.model)?;
        if let Some(normalizer) = &file.normalizer
            && !matches!(normalizer.r#type.as_str(), "NFC" | "NFKC")
        {
            let kind = &normalizer.r#type;
            return Err(refused(format!("its normalizer is {kind:?}")));
        }
        let pre = pre_tokenizer(file.pre_tokenizer.as_ref())?;
        let ids = file.model.vocab.values().copied();
        let last = ids
            .chain(file.added_tokens.iter().map(|added| added.id))
            .max();
        let count = last.map_or(0, |last| last as usize + 1);
        if count > TOKENS_MAX {
            return Err(refused(format!("it has a token with the id {}", count - 1)));
        }
        let mut tokens = vec![String::new(); count];
        let mut token_types = vec![UNUSED; count];
        for (text, id) in file.model.vocab {
            tokens[id as usize] = text;
            token_types[id as usize] = NORMAL;
        }
        for added in file.added_tokens {
            tokens[added.id as usize] = added.content;
            token_types[added.id as usize] = if added.special { CONTROL } else { USER_DEFINED };
        }
        let merges = file.model.merges.into_iter().map(|merge| match merge {
            Merge::Text(text) => text,
            Merge::Pair(left, right) => format!("{left} {right}"),
        });
        Ok(TokenizerSource {
            model: "gpt2".to_owned(),
            pre: pre.to_owned(),
            tokens,
            merges: merges.collect(),
            token_types,
            ..TokenizerSource::default()
        })
    }
}

fn check_model(model: &Model) -> Result<(), BackendError> {
    if let Some(kind) = model.r#type.as_deref().filter(|kind| *kind != "BPE") {
        return Err(refused(format!("its model is {kind:?}, not \"BPE\"")));
    }
    let affix = |affix: &Option<String>| affix.as_deref().is_some_and(|affix| !affix.is_empty());
    if affix(&model.continuing_subword_prefix) || affix(&model.end_of_word_suffix) {
        return Err(refused("its tokens have a prefix or a suffix of their own"));
    }
    if model.byte_fallback {
        return Err(refused("it falls back to bytes, so it is not byte-level"));
    }
    Ok(())
}

/// The name by which GGUF files know what cuts text in this way.
fn pre_tokenizer(pre: Option<&PreTokenizer>) -> Result<&'static str, BackendError> {
    use PreTokenizer::{ByteLevel, Digits, Sequence, Split};
    let Some(pre) = pre else {
        return Err(refused("it has no pre_tokenizer"));
    };
    let steps = match pre {
        Sequence { pretokenizers } => pretokenizers.as_slice(),
        alone => std::slice::from_ref(alone),
    };
    let known = match steps {
        [bytes] if cuts_bytes(bytes) == Some(true) => Some("gpt-2"),
        [
            Digits {
                individual_digits: true,
            },
            bytes,
        ] if cuts_bytes(bytes) == Some(true) => Some("smollm"),
        [
            Split {
                pattern,
                behavior,
                invert: false,
            },
            bytes,
        ] if behavior == "Isolated" && cuts_bytes(bytes) == Some(false) => {
            match pattern.get("Regex").and_then(Value::as_str) {
                Some(QWEN2) => Some("qwen2"),
                Some(LLAMA3) => Some("llama-bpe"),
                _ => None,
            }
        }
        [
            ByteLevel {
                add_prefix_space: true,
                ..
            },
        ] => {
            return Err(refused("its pre_tokenizer puts a space before every text"));
        }
        _ => None,
    };
    known.ok_or_else(|| refused("its pre_tokenizer cuts text in a way that is not known here"))
}

/// Does a step that turns bytes to letters cut by GPT-2's rule as well? `None` if it does more.
fn cuts_bytes(step: &PreTokenizer) -> Option<bool> {
    match step {
        PreTokenizer::ByteLevel {
            add_prefix_space: false,
            use_regex,
        } => Some(use_regex.unwrap_or(true)),
        _ => None,
    }
}

fn refused(message: impl Into<String>) -> BackendError {
    BackendError::Tokenizer(message.into())
}
