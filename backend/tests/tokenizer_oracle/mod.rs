//! The reference: Hugging Face's `tokenizers`, built from the same vocabulary and merges with the
//! pre-tokenizers of the models' own `tokenizer.json`.

use farthing_backend::text::TokenizerSource;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::{AddedToken, SplitDelimiterBehavior, Tokenizer};

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Which tokens the reference matches in the text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// Control tokens and user-defined ones.
    All,
    /// User-defined ones only.
    #[allow(dead_code, reason = "not every test that has this module needs it")]
    UserDefined,
}

/// A reference tokenizer for a model's vocabulary, cut into pieces as `pre` says.
pub fn oracle(source: &TokenizerSource, pre: &str, added: Added) -> Tokenizer {
    let vocabulary: Vocab = (0..)
        .zip(&source.tokens)
        .map(|(id, token)| (token.clone(), id))
        .collect();
    let merges = source.merges.iter().map(|merge| {
        let (left, right) = merge.split_once(' ').expect("a merge is two tokens");
        (left.to_owned(), right.to_owned())
    });
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges.collect())
        .ignore_merges(pre == "llama-bpe")
        .build()
        .expect("the reference accepts the vocabulary");
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer(pre)));
    let tokens = source.tokens.iter().zip(&source.token_types);
    for (token, kind) in tokens.filter(|(_, kind)| **kind == 4 || added == Added::All) {
        let special = *kind == 3;
        let token = AddedToken::from(token.clone(), special).normalized(false);
        let added = match kind {
            3 => tokenizer.add_special_tokens([token]),
            4 => tokenizer.add_tokens([token]),
            _ => continue,
        };
        added.expect("the token is of the vocabulary");
    }
    tokenizer
}

fn pre_tokenizer(pre: &str) -> PreTokenizerWrapper {
    let byte_level = |use_regex| ByteLevel::new(false, true, use_regex).into();
    let split = |regex: &str| {
        let pattern = SplitPattern::Regex(regex.to_owned());
        Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
            .expect("a valid regex")
            .into()
    };
    match pre {
        "smollm" => Sequence::new(vec![Digits::new(true).into(), byte_level(true)]).into(),
        "gpt-2" => byte_level(true),
        "qwen2" => Sequence::new(vec![split(QWEN2), byte_level(false)]).into(),
        "llama-bpe" => Sequence::new(vec![split(LLAMA3), byte_level(false)]).into(),
        other => panic!("no reference for {other}"),
    }
}
