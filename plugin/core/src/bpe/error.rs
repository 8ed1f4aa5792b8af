//! The errors of this module.

/// Why a vocabulary cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BpeError {
    /// The pre-tokenizer that the file names is not one of those in [`PreTokenizer`].
    #[error(
        "the pre-tokenizer is {0:?}; supported are smollm, qwen2, gpt-2, default, llama-bpe, cl100k_base and o200k_base"
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
    /// The lengths of the tokens do not add up to their bytes.
    #[error("the tokens have {lengths} bytes by their lengths, but there are {bytes}")]
    Lengths {
        /// Sum of all lengths.
        lengths: usize,
        /// Bytes of all tokens.
        bytes: usize,
    },
    /// A token of text is longer than any real one.
    #[error("a token has {bytes} bytes, more than 255")]
    LongToken {
        /// Its length.
        bytes: usize,
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

impl BpeError {
    pub(super) fn merge(index: usize, left: u32, right: u32) -> BpeError {
        let merge = format!("{left} {right}");
        BpeError::Merge { index, merge }
    }
}
