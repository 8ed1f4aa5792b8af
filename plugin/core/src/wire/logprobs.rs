//! Log probabilities of generated tokens, in the two shapes that OpenAI has for them.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// What OpenAI reports for a token of no probability, as JSON has no infinity.
const LOGPROB_MIN: f32 = -9999.0;

/// One generated token with its log probability and the likeliest ones at its place.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token's text; bytes that are no character by themselves are replaced.
    pub token: String,
    /// The token's exact bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens, likeliest first: text, bytes, log probability.
    pub top: Vec<(String, Vec<u8>, f32)>,
}

/// `choices[].logprobs` of a chat answer.
#[derive(Serialize)]
pub(super) struct ChatLogprobs<'a> {
    content: Vec<ChatToken<'a>>,
    refusal: Option<()>,
}

#[derive(Serialize)]
struct ChatToken<'a> {
    token: &'a str,
    logprob: f32,
    bytes: &'a [u8],
    top_logprobs: Vec<TopToken<'a>>,
}

#[derive(Serialize)]
struct TopToken<'a> {
    token: &'a str,
    logprob: f32,
    bytes: &'a [u8],
}

/// `choices[].logprobs` of a completions answer: four lists of one length.
#[derive(Serialize)]
pub(super) struct TextLogprobs<'a> {
    tokens: Vec<&'a str>,
    token_logprobs: Vec<f32>,
    /// Null when the request asked for no alternatives.
    top_logprobs: Option<Vec<TopMap<'a>>>,
    text_offset: Vec<usize>,
}

/// `{"token": logprob, …}`. Two tokens can have the same text once their bytes are replaced; the
/// likelier one is kept, as an object must not hold a key twice.
struct TopMap<'a>(&'a [(String, Vec<u8>, f32)]);

impl<'a> ChatLogprobs<'a> {
    pub(super) fn new(tokens: &'a [TokenLogprob]) -> Self {
        let content = tokens.iter().map(|token| ChatToken {
            token: &token.token,
            logprob: finite(token.logprob),
            bytes: &token.bytes,
            top_logprobs: token.top.iter().map(TopToken::new).collect(),
        });
        Self {
            content: content.collect(),
            refusal: None,
        }
    }
}

impl<'a> TopToken<'a> {
    fn new((token, bytes, logprob): &'a (String, Vec<u8>, f32)) -> Self {
        Self {
            token,
            logprob: finite(*logprob),
            bytes,
        }
    }
}

impl<'a> TextLogprobs<'a> {
    /// `text_offset` counts characters of the choice's text before its first token here.
    pub(super) fn new(tokens: &'a [TokenLogprob], text_offset: usize) -> Self {
        let mut offset = text_offset;
        let text_offset = tokens.iter().map(|token| {
            let start = offset;
            offset += token.token.chars().count();
            start
        });
        let text_offset = text_offset.collect();
        let asked = tokens.iter().any(|token| !token.top.is_empty());
        Self {
            tokens: tokens.iter().map(|token| token.token.as_str()).collect(),
            token_logprobs: tokens.iter().map(|token| finite(token.logprob)).collect(),
            top_logprobs: asked.then(|| tokens.iter().map(|token| TopMap(&token.top)).collect()),
            text_offset,
        }
    }
}

impl Serialize for TopMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (index, (token, _, logprob)) in self.0.iter().enumerate() {
            let likelier = self.0.iter().take(index);
            if !likelier.clone().any(|(known, _, _)| known == token) {
                map.serialize_entry(token, &finite(*logprob))?;
            }
        }
        map.end()
    }
}

fn finite(logprob: f32) -> f32 {
    // `max` also turns NaN into the bound.
    logprob.max(LOGPROB_MIN)
}
