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
    /// How sure the model was, if the request asked.
    pub confidence: Option<TokenConfidence>,
}

/// How sure the model was of one token, as far as that says anything about its answer. On the wire
/// it is `farthing` beside a chat token's `logprob`, for requests with `farthing.confidence`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TokenConfidence {
    /// Of the model's unmodified distribution at the token's place.
    Measured {
        /// Natural logarithm of the token's probability. On the wire it stands beside.
        logprob: f32,
        /// In nats: 0 if one token has all probability.
        entropy_nats: f32,
        /// The largest probability less the second: 0 to 1.
        margin: f32,
    },
    /// The request's grammar left no other token, so that the model had no say.
    Forced,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    farthing: Option<TokenConfidence>,
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

/// `{"token": logprob, …}`: the likeliest tokens, and the one that was generated if it is none of
/// them, as OpenAI has it. Two tokens can have the same text once their bytes are replaced; the
/// likelier one is kept, as an object must not hold a key twice.
struct TopMap<'a>(&'a TokenLogprob);

impl Serialize for TokenConfidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Measured {
                entropy_nats,
                margin,
                ..
            } => {
                map.serialize_entry("entropy_nats", entropy_nats)?;
                map.serialize_entry("margin", margin)?;
            }
            Self::Forced => map.serialize_entry("forced", &true)?,
        }
        map.end()
    }
}

impl<'a> ChatLogprobs<'a> {
    pub(super) fn new(tokens: &'a [TokenLogprob]) -> Self {
        let content = tokens.iter().map(|token| ChatToken {
            token: &token.token,
            logprob: finite(token.logprob),
            bytes: &token.bytes,
            top_logprobs: token.top.iter().map(TopToken::new).collect(),
            farthing: token.confidence,
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
            top_logprobs: asked.then(|| tokens.iter().map(TopMap).collect()),
            text_offset,
        }
    }
}

impl Serialize for TopMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let generated = (&self.0.token, self.0.logprob);
        let top = self
            .0
            .top
            .iter()
            .map(|(token, _, logprob)| (token, *logprob));
        let all = top.chain([generated]);
        for (index, (token, logprob)) in all.clone().enumerate() {
            if !all.clone().take(index).any(|(known, _)| known == token) {
                map.serialize_entry(token, &finite(logprob))?;
            }
        }
        map.end()
    }
}

fn finite(logprob: f32) -> f32 {
    // `max` also turns NaN into the bound.
    logprob.max(LOGPROB_MIN)
}
