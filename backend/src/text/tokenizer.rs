//! The tokenizer of one model, from its GGUF file.

use super::chat_template::{ChatPrompt, ChatTemplate};
use super::control_marks::{MarkedSegment, MarkedText};
use crate::error::BackendError;
use farthing_core::bpe::{Bpe, SpecialKind, SpecialToken, Specials};
use farthing_core::error::ApiError;
use sha2::{Digest, Sha256};

/// What a model file says about its tokenizer.
#[derive(Debug, Clone, Default)]
pub struct TokenizerSource {
    /// `tokenizer.ggml.model`; `gpt2` means byte-level BPE.
    pub model: String,
    /// `tokenizer.ggml.pre`: how text is cut into pieces.
    pub pre: String,
    /// Tokens in the GPT-2 byte alphabet; the index is the id.
    pub tokens: Vec<String>,
    /// Merges (`Ġ t`) in order of rank.
    pub merges: Vec<String>,
    /// One type for each token (1 normal, 3 control, 4 user-defined, 5 unused, ...).
    pub token_types: Vec<i32>,
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// The token that ends one.
    pub eos: Option<u32>,
    /// Whether a prompt begins with `bos`.
    pub add_bos: bool,
    /// The Jinja source that turns messages into a prompt.
    pub chat_template: Option<String>,
}

/// Encodes prompts and decodes answers of one model.
#[derive(Debug)]
pub struct Tokenizer {
    bpe: Bpe,
    bos: Option<u32>,
    eos: Option<u32>,
    prompt_start: Option<u32>,
    /// Tokens that end an answer, ascending.
    end_of_generation: Vec<u32>,
    /// Control tokens, ascending.
    control: Vec<u32>,
}

/// Control tokens that end an answer, whatever the file calls its end-of-text token: chat models
/// end a turn with one and a text with another, and files name only one of them. The list is
/// llama.cpp's (`llama-vocab.cpp`, `special_eog_ids`) for byte-level BPE vocabularies.
const END_OF_GENERATION: [&str; 12] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<|endofprompt|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<｜end▁of▁sentence｜>",
];

impl TokenizerSource {
    /// Tells apart what makes other tokens of the same messages, beside the vocabulary.
    pub fn prompt_digest(&self) -> [u8; 32] {
        let template = self.chat_template.as_deref().unwrap_or_default();
        let start = self.bos.filter(|_| self.add_bos);
        let mut digest = Sha256::new();
        for part in [self.pre.as_str(), template] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.update(format!("{start:?}"));
        digest.finalize().into()
    }
}

impl Tokenizer {
    /// Builds the tokenizer.
    ///
    /// # Errors
    /// [`BackendError::Tokenizer`] when the vocabulary is not byte-level BPE, names an unknown
    /// pre-tokenizer, or is inconsistent.
    pub fn new(source: &TokenizerSource) -> Result<Tokenizer, BackendError> {
        if source.model != "gpt2" {
            return Err(BackendError::Tokenizer(format!(
                "tokenizer.ggml.model is {:?}; supported is gpt2 (byte-level BPE)",
                source.model
            )));
        }
        let TokenizerSource {
            tokens,
            merges,
            token_types,
            pre,
            ..
        } = source;
        let bpe = Bpe::from_gguf_strings(tokens, merges, token_types, pre)
            .map_err(|error| BackendError::Tokenizer(error.to_string()))?;
        for (name, id) in [("bos", source.bos), ("eos", source.eos)] {
            if let Some(id) = id.filter(|id| *id as usize >= bpe.vocab_size()) {
                return Err(BackendError::Tokenizer(format!(
                    "tokenizer.ggml.{name}_token_id is {id}, outside of the vocabulary"
                )));
            }
        }
        let is_control = |token: &&SpecialToken| token.kind == SpecialKind::Control;
        let controls = || bpe.specials().iter().filter(is_control);
        let ends = controls().filter(|token| END_OF_GENERATION.contains(&&*token.text));
        Ok(Tokenizer {
            prompt_start: source.bos.filter(|_| source.add_bos),
            bos: source.bos,
            eos: source.eos,
            end_of_generation: ascending(ends.map(|token| token.id).chain(source.eos)),
            control: ascending(controls().map(|token| token.id)),
            bpe,
        })
    }

    /// The tokens that `text` spells, and no others.
    pub fn encode(&self, text: &str, specials: Specials) -> Vec<u32> {
        self.bpe.encode(text, specials)
    }

    /// The tokens of a bare prompt (`/v1/completions`): as [`Tokenizer::encode`], after the token
    /// that begins a text, if the model wants one.
    pub fn encode_prompt(&self, text: &str, specials: Specials) -> Vec<u32> {
        self.started(self.encode(text, specials))
    }

    /// The tokens of a chat. Control tokens come from the template alone: whatever the messages
    /// spell is encoded as text, so no message can end its own turn or begin another.
    ///
    /// # Errors
    /// The template refuses the messages or the prompt is too long; see [`ChatTemplate::render`].
    pub fn encode_chat(
        &self,
        template: &ChatTemplate,
        prompt: &ChatPrompt<'_>,
    ) -> Result<Vec<u32>, ApiError> {
        Ok(self.started(self.encode_marked(&template.render(prompt)?)))
    }

    /// The tokens of a rendered chat, its marks taken for the control tokens that they stand for.
    pub(super) fn encode_marked(&self, text: &MarkedText) -> Vec<u32> {
        let mut out = Vec::with_capacity(text.marked().len() / 3 + 1);
        for segment in text.segments() {
            match segment {
                MarkedSegment::Text(text) => {
                    self.bpe.encode_into(text, Specials::Plain, &mut out);
                }
                MarkedSegment::Control(id) => out.push(id),
            }
        }
        out
    }

    /// Puts the beginning-of-text token in front, unless the template did.
    fn started(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if let Some(bos) = self.prompt_start.filter(|bos| ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        ids
    }

    /// The bytes of a token: not always whole UTF-8 characters. Empty for an id outside of the
    /// vocabulary.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.bpe.decode_bytes(id).unwrap_or_default()
    }

    /// The bytes of a sequence of tokens.
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        self.bpe.decode(ids)
    }

    /// Whether a token ends the answer. Its text is not part of it.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.end_of_generation.binary_search(&id).is_ok()
    }

    /// All tokens that end an answer, ascending.
    pub fn end_of_generation_ids(&self) -> &[u32] {
        &self.end_of_generation
    }

    /// Whether a token is structure and not text; an answer's text leaves it out.
    pub fn is_control(&self, id: u32) -> bool {
        self.control.binary_search(&id).is_ok()
    }

    /// The token that begins a prompt, if the model wants one.
    pub fn prompt_start(&self) -> Option<u32> {
        self.prompt_start
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that the file names as the end of a text.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Number of token ids: the width of the model's logits.
    pub fn vocab_size(&self) -> usize {
        self.bpe.vocab_size()
    }

    /// Whether every id means the same in both.
    pub fn has_vocabulary_of(&self, other: &Tokenizer) -> bool {
        let mut ids = 0..self.vocab_size() as u32;
        self.vocab_size() == other.vocab_size()
            && self.control == other.control
            && ids.all(|id| self.token_bytes(id) == other.token_bytes(id))
    }

    /// The vocabulary itself.
    pub fn bpe(&self) -> &Bpe {
        &self.bpe
    }
}

fn ascending(ids: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut ids: Vec<u32> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
