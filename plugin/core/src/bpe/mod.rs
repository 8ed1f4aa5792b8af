//! Byte-level BPE: text to tokens and back, exactly as the vocabulary's own tokenizer does it.
//!
//! Encoding has three steps, each linear or nearly so in the text:
//!
//! 1. control and user-defined tokens are cut out ([`special`]);
//! 2. the text between them is cut into pieces ([`pre_tokenizer`]), which merges never cross;
//! 3. the bytes of a piece are merged pair by pair in order of rank ([`merge`]).
//!
//! The format is that of GPT-2 (<https://github.com/openai/gpt-2/blob/master/src/encoder.py>) as
//! GGUF files carry it (`tokenizer.ggml.tokens`, `.merges`, `.token_type`, `.pre`). No Unicode
//! normalisation is applied, as in llama.cpp: decoding what was encoded gives the same bytes.

mod byte_alphabet;
mod merge;
pub mod pre_tokenizer;
pub mod special;
mod vocabulary;

pub use pre_tokenizer::PreTokenizer;
pub use special::{Segment, SpecialKind, SpecialToken, Specials};

use merge::{MergeScratch, MergeTable};
use special::SpecialTable;
use vocabulary::Vocabulary;

/// Why a vocabulary cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BpeError {
    /// The pre-tokenizer that the file names is not one of those in [`PreTokenizer`].
    #[error(
        "tokenizer.ggml.pre is {0:?}; supported are smollm, qwen2, gpt-2, default and llama-bpe"
    )]
    UnknownPreTokenizer(String),
    /// The vocabulary is empty.
    #[error("the vocabulary has no tokens")]
    Empty,
    /// The vocabulary is larger than any real one.
    #[error(
        "the vocabulary has {tokens} tokens and {bytes} bytes, more than {tokens_max} tokens or {bytes_max} bytes"
    )]
    TooLarge {
        /// Tokens of the vocabulary.
        tokens: usize,
        /// Bytes of all tokens together.
        bytes: usize,
        /// [`crate::limits::MODEL_VOCAB_MAX`].
        tokens_max: usize,
        /// [`crate::limits::BPE_VOCABULARY_BYTES_MAX`].
        bytes_max: usize,
    },
    /// There must be one token type for each token.
    #[error("{tokens} tokens but {types} token types")]
    TokenTypes {
        /// Tokens of the vocabulary.
        tokens: usize,
        /// Entries of `tokenizer.ggml.token_type`.
        types: usize,
    },
    /// A merge names a token that the vocabulary lacks, or is not two tokens.
    #[error("merge {index} ({merge:?}) does not join two tokens into a third of the vocabulary")]
    Merge {
        /// Position in `tokenizer.ggml.merges`, from 0.
        index: usize,
        /// The merge as the file spells it, or its two ids.
        merge: String,
    },
    /// A special token's id is not one of the vocabulary, or its text is empty.
    #[error("special token {text:?} with id {id} is empty or outside of the vocabulary")]
    Special {
        /// The token's text.
        text: String,
        /// The token's id.
        id: u32,
    },
}

/// A byte-level BPE vocabulary, ready to encode and decode. Immutable and shareable.
#[derive(Debug)]
pub struct Bpe {
    vocabulary: Vocabulary,
    merges: MergeTable,
    specials: SpecialTable,
    pre_tokenizer: PreTokenizer,
}

/// `tokenizer.ggml.token_type` of a token that is only ever written by the template.
const GGUF_TYPE_CONTROL: i32 = 3;
/// `tokenizer.ggml.token_type` of a token that stands for its text wherever it occurs.
const GGUF_TYPE_USER_DEFINED: i32 = 4;
/// `tokenizer.ggml.token_type` of padding to a round vocabulary size: never encoded.
const GGUF_TYPE_UNUSED: i32 = 5;

impl Bpe {
    /// Builds a vocabulary from raw token bytes (index = id), merges in order of rank, and the
    /// tokens that are matched in the text before it is cut into pieces.
    ///
    /// # Errors
    /// [`BpeError`] when a limit is exceeded or a merge or special token is not of the vocabulary.
    pub fn new(
        tokens: &[Vec<u8>],
        merges: &[(u32, u32)],
        specials: Vec<SpecialToken>,
        pre_tokenizer: PreTokenizer,
    ) -> Result<Bpe, BpeError> {
        let mergeable = |id: u32| !specials.iter().any(|special| special.id == id);
        let vocabulary = Vocabulary::new(tokens.iter().map(Vec::as_slice), mergeable)?;
        let mut table = MergeTable::with_capacity(merges.len());
        for (index, &(left, right)) in merges.iter().enumerate() {
            let merged = vocabulary
                .joined(left, right)
                .ok_or_else(|| BpeError::Merge {
                    index,
                    merge: format!("{left} {right}"),
                })?;
            table.insert(left, right, merged);
        }
        Bpe::assemble(vocabulary, table, specials, pre_tokenizer)
    }

    /// Builds a vocabulary from the strings of a GGUF file: tokens and merges in the GPT-2 byte
    /// alphabet (`Ġthe`, `Ġ t`), one type for each token, and the pre-tokenizer's name.
    ///
    /// # Errors
    /// [`BpeError`]; see its variants.
    pub fn from_gguf_strings(
        tokens: &[String],
        merges: &[String],
        token_types: &[i32],
        pre: &str,
    ) -> Result<Bpe, BpeError> {
        let pre_tokenizer = PreTokenizer::from_gguf(pre)?;
        if tokens.len() != token_types.len() {
            let (tokens, types) = (tokens.len(), token_types.len());
            return Err(BpeError::TokenTypes { tokens, types });
        }
        let kind = |id: u32| {
            token_types
                .get(id as usize)
                .copied()
                .unwrap_or(GGUF_TYPE_UNUSED)
        };
        let raw: Vec<Vec<u8>> = tokens
            .iter()
            .zip(token_types)
            .map(|(text, kind)| match *kind {
                GGUF_TYPE_CONTROL | GGUF_TYPE_USER_DEFINED => text.as_bytes().to_vec(),
                _ => byte_alphabet::decode(text),
            })
            .collect();
        let mergeable = |id: u32| {
            !matches!(
                kind(id),
                GGUF_TYPE_CONTROL | GGUF_TYPE_USER_DEFINED | GGUF_TYPE_UNUSED
            )
        };
        let vocabulary = Vocabulary::new(raw.iter().map(Vec::as_slice), mergeable)?;
        let table = merge_table(&vocabulary, merges)?;
        let specials = (0..).zip(tokens).filter_map(|(id, text)| {
            let kind = match kind(id) {
                GGUF_TYPE_CONTROL => SpecialKind::Control,
                GGUF_TYPE_USER_DEFINED => SpecialKind::UserDefined,
                _ => return None,
            };
            (!text.is_empty()).then(|| SpecialToken {
                text: text.clone(),
                id,
                kind,
            })
        });
        let specials = specials.collect();
        Bpe::assemble(vocabulary, table, specials, pre_tokenizer)
    }

    fn assemble(
        vocabulary: Vocabulary,
        merges: MergeTable,
        specials: Vec<SpecialToken>,
        pre_tokenizer: PreTokenizer,
    ) -> Result<Bpe, BpeError> {
        let outside = |special: &&SpecialToken| {
            special.text.is_empty() || special.id as usize >= vocabulary.len()
        };
        if let Some(special) = specials.iter().find(outside) {
            return Err(BpeError::Special {
                text: special.text.clone(),
                id: special.id,
            });
        }
        Ok(Bpe {
            vocabulary,
            merges,
            specials: SpecialTable::new(specials),
            pre_tokenizer,
        })
    }

    /// The tokens of `text`. Never adds a token that the text does not spell (no BOS, no EOS).
    ///
    /// A byte that the vocabulary has no token for is left out, as in the reference tokenizers;
    /// vocabularies lack only bytes that do not occur in text (SmolLM2: eight control characters
    /// and the lead bytes of unassigned planes).
    pub fn encode(&self, text: &str, specials: Specials) -> Vec<u32> {
        let mut out = Vec::with_capacity(text.len() / 3 + 1);
        self.encode_into(text, specials, &mut out);
        out
    }

    /// Appends the tokens of `text` to `out`; see [`Bpe::encode`].
    pub fn encode_into(&self, text: &str, specials: Specials, out: &mut Vec<u32>) {
        let mut scratch = MergeScratch::default();
        for segment in self.segments(text, specials) {
            match segment {
                Segment::Text(text) => self.encode_ordinary(text, &mut scratch, out),
                Segment::Special(token) => out.push(token.id),
            }
        }
    }

    /// Cuts `text` at its special tokens.
    pub fn segments<'a>(&'a self, text: &'a str, specials: Specials) -> special::Segments<'a> {
        self.specials.segments(text, specials)
    }

    /// Encodes text in which no special token is left.
    fn encode_ordinary(&self, text: &str, scratch: &mut MergeScratch, out: &mut Vec<u32>) {
        for piece in self.pre_tokenizer.pieces(text) {
            if self.pre_tokenizer.takes_whole_pieces()
                && let Some(id) = self.vocabulary.id(piece.as_bytes())
            {
                out.push(id);
                continue;
            }
            let bytes = piece
                .bytes()
                .filter_map(|byte| self.vocabulary.byte_id(byte));
            self.merges.merge(bytes, scratch, out);
        }
    }

    /// The bytes that a token stands for: any bytes, not always whole UTF-8 characters. `None` for
    /// an id outside of the vocabulary.
    pub fn decode_bytes(&self, id: u32) -> Option<&[u8]> {
        self.vocabulary.bytes(id)
    }

    /// The bytes of a sequence of tokens; ids outside of the vocabulary stand for nothing.
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        ids.iter()
            .filter_map(|id| self.decode_bytes(*id))
            .flatten()
            .copied()
            .collect()
    }

    /// Number of token ids, padding included: the width of the model's logits.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// The control and user-defined tokens, longest text first.
    pub fn specials(&self) -> &[SpecialToken] {
        self.specials.tokens()
    }

    /// Whether the byte has a token, so that it survives encoding and decoding.
    pub fn covers_byte(&self, byte: u8) -> bool {
        self.vocabulary.byte_id(byte).is_some()
    }
}

/// Resolves merges such as `Ġ t`; a space cannot occur within a token of the byte alphabet.
fn merge_table(vocabulary: &Vocabulary, merges: &[String]) -> Result<MergeTable, BpeError> {
    let mut table = MergeTable::with_capacity(merges.len());
    for (index, merge) in merges.iter().enumerate() {
        let resolved = merge.split_once(' ').and_then(|(left, right)| {
            let left = vocabulary.id(&byte_alphabet::decode(left))?;
            let right = vocabulary.id(&byte_alphabet::decode(right))?;
            Some((left, right, vocabulary.joined(left, right)?))
        });
        let (left, right, merged) = resolved.ok_or_else(|| BpeError::Merge {
            index,
            merge: merge.clone(),
        })?;
        table.insert(left, right, merged);
    }
    Ok(table)
}

#[cfg(test)]
mod tests;
