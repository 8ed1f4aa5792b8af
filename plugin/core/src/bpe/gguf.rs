//! Vocabularies as GGUF files carry them
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer>).

use super::from_merges::Pair;
use super::{Bpe, BpeError, PreTokenizer, SpecialKind, SpecialToken, byte_alphabet};
use std::collections::HashMap;

/// `tokenizer.ggml.token_type` of a token that is only ever written by the template.
const GGUF_TYPE_CONTROL: i32 = 3;
/// `tokenizer.ggml.token_type` of a token that stands for its text wherever it occurs.
const GGUF_TYPE_USER_DEFINED: i32 = 4;
/// `tokenizer.ggml.token_type` of padding to a round vocabulary size: never encoded.
const GGUF_TYPE_UNUSED: i32 = 5;

impl Bpe {
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
        let pre_tokenizer = PreTokenizer::from_name(pre)?;
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
        let is_text = |id: u32| {
            !matches!(
                kind(id),
                GGUF_TYPE_CONTROL | GGUF_TYPE_USER_DEFINED | GGUF_TYPE_UNUSED
            )
        };
        let pairs = merge_pairs(&raw, &is_text, merges)?;
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
        Bpe::from_merges(&raw, is_text, &pairs, specials, pre_tokenizer).map_err(
            |error| match error {
                BpeError::Merge { index, .. } => spelled(index, merges),
                other => other,
            },
        )
    }
}

/// Resolves merges such as `Ġ t`; a space cannot occur within a token of the byte alphabet.
fn merge_pairs(
    tokens: &[Vec<u8>],
    is_text: &impl Fn(u32) -> bool,
    merges: &[String],
) -> Result<Vec<Pair>, BpeError> {
    let mut ids: HashMap<&[u8], u32> = HashMap::with_capacity(tokens.len());
    for (id, bytes) in (0..).zip(tokens).filter(|(id, _)| is_text(*id)) {
        ids.entry(bytes).or_insert(id);
    }
    let id = |part: &str| ids.get(byte_alphabet::decode(part).as_slice()).copied();
    let pair = |merge: &str| {
        let (left, right) = merge.split_once(' ')?;
        Some((id(left)?, id(right)?))
    };
    merges
        .iter()
        .enumerate()
        .map(|(index, merge)| pair(merge).ok_or_else(|| spelled(index, merges)))
        .collect()
}

/// The error that names a merge as the file spells it.
fn spelled(index: usize, merges: &[String]) -> BpeError {
    let merge = merges.get(index).cloned().unwrap_or_default();
    BpeError::Merge { index, merge }
}
