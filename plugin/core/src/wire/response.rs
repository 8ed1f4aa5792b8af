//! Whole answers, as the backend sends them.

use super::endpoint::Endpoint;
use super::logprobs::{ChatLogprobs, TextLogprobs, TokenLogprob};
use super::to_json;
use super::usage::Usage;
use serde::Serialize;

/// What every answer, and every event of a streamed one, starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerHead {
    /// Unique, such as `chatcmpl-…`.
    pub id: String,
    /// When the request was accepted.
    pub created_unix_s: u64,
    /// The model that answers; never a virtual one.
    pub model: String,
}

/// Why a choice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its answer, or a stop string came.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
}

/// One generated answer; its index is its place in the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The text.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// One entry a token, if the request asked.
    pub logprobs: Option<Vec<TokenLogprob>>,
}

#[derive(Serialize)]
struct Answer<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<C>,
    usage: &'a Usage,
}

#[derive(Serialize)]
struct ChatChoice<'a> {
    index: usize,
    message: ChatMessage<'a>,
    logprobs: Option<ChatLogprobs<'a>>,
    finish_reason: FinishReason,
}

#[derive(Serialize)]
struct ChatMessage<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
}

#[derive(Serialize)]
struct TextChoice<'a> {
    index: usize,
    text: &'a str,
    logprobs: Option<TextLogprobs<'a>>,
    finish_reason: FinishReason,
}

impl FinishReason {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// A whole answer of `endpoint`, which is one of the two that have choices.
pub fn answer(endpoint: Endpoint, head: &AnswerHead, choices: &[Choice], usage: &Usage) -> Vec<u8> {
    match endpoint {
        Endpoint::ChatCompletions => chat_completion(head, choices, usage),
        _ => text_completion(head, choices, usage),
    }
}

/// An object of type `chat.completion`.
pub fn chat_completion(head: &AnswerHead, choices: &[Choice], usage: &Usage) -> Vec<u8> {
    let choices = choices
        .iter()
        .enumerate()
        .map(|(index, choice)| ChatChoice {
            index,
            message: ChatMessage {
                role: "assistant",
                content: &choice.text,
                refusal: None,
            },
            logprobs: choice.logprobs.as_deref().map(ChatLogprobs::new),
            finish_reason: choice.finish_reason,
        });
    to_json(&Answer::new(
        "chat.completion",
        head,
        choices.collect(),
        usage,
    ))
}

/// An object of type `text_completion`.
pub fn text_completion(head: &AnswerHead, choices: &[Choice], usage: &Usage) -> Vec<u8> {
    let choices = choices
        .iter()
        .enumerate()
        .map(|(index, choice)| TextChoice {
            index,
            text: &choice.text,
            logprobs: choice
                .logprobs
                .as_deref()
                .map(|tokens| TextLogprobs::new(tokens, 0)),
            finish_reason: choice.finish_reason,
        });
    to_json(&Answer::new(
        "text_completion",
        head,
        choices.collect(),
        usage,
    ))
}

impl<'a, C> Answer<'a, C> {
    fn new(object: &'static str, head: &'a AnswerHead, choices: Vec<C>, usage: &'a Usage) -> Self {
        let AnswerHead {
            id,
            created_unix_s: created,
            model,
        } = head;
        Self {
            id,
            object,
            created: *created,
            model,
            choices,
            usage,
        }
    }
}
