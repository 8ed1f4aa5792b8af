//! Streamed answers, as the backend sends them: one server-sent event a call.

use super::endpoint::Endpoint;
use super::logprobs::{ChatLogprobs, TextLogprobs, TokenLogprob};
use super::response::{AnswerHead, FinishReason};
use super::usage::Usage;
use super::{sse, to_json};
use crate::error::ApiError;
use serde::Serialize;

/// Writes the events of one streamed answer. The order is `start`, any number of `delta` and one
/// `finish` for each choice, then `usage` if the request asked, then `done`; `error` instead of the
/// rest when generation fails midway.
#[derive(Debug)]
pub struct StreamWriter {
    endpoint: Endpoint,
    head: AnswerHead,
    /// Characters sent so far of each choice, for the `text_offset` of completions.
    sent_chars: Vec<usize>,
}

#[derive(Serialize)]
struct Chunk<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [C],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<&'a Usage>,
}

#[derive(Serialize)]
struct ChatChoice<'a> {
    index: usize,
    delta: Delta<'a>,
    logprobs: Option<ChatLogprobs<'a>>,
    finish_reason: Option<FinishReason>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

#[derive(Serialize)]
struct TextChoice<'a> {
    index: usize,
    text: &'a str,
    logprobs: Option<TextLogprobs<'a>>,
    finish_reason: Option<FinishReason>,
}

impl StreamWriter {
    /// A writer for an answer of `choices` choices to a chat or a completion.
    pub fn new(endpoint: Endpoint, head: AnswerHead, choices: usize) -> Self {
        Self {
            endpoint,
            head,
            sent_chars: vec![0; choices],
        }
    }

    /// The role, before any text of a chat's choice. Completions have no such event.
    pub fn start(&self, index: usize, out: &mut Vec<u8>) {
        if self.endpoint == Endpoint::ChatCompletions {
            let delta = Delta {
                role: Some("assistant"),
                content: Some(""),
            };
            self.chat(
                ChatChoice {
                    index,
                    delta,
                    logprobs: None,
                    finish_reason: None,
                },
                out,
            );
        }
    }

    /// More text of a choice, with its tokens' log probabilities if the request asked.
    pub fn delta(
        &mut self,
        index: usize,
        text: &str,
        logprobs: Option<&[TokenLogprob]>,
        out: &mut Vec<u8>,
    ) {
        match self.endpoint {
            Endpoint::ChatCompletions => {
                let delta = Delta {
                    role: None,
                    content: Some(text),
                };
                let logprobs = logprobs.map(ChatLogprobs::new);
                self.chat(
                    ChatChoice {
                        index,
                        delta,
                        logprobs,
                        finish_reason: None,
                    },
                    out,
                );
            }
            _ => {
                let sent = self.sent_chars.get(index).copied().unwrap_or(0);
                let logprobs = logprobs.map(|tokens| TextLogprobs::new(tokens, sent));
                self.text(
                    TextChoice {
                        index,
                        text,
                        logprobs,
                        finish_reason: None,
                    },
                    out,
                );
                if let Some(sent) = self.sent_chars.get_mut(index) {
                    *sent += text.chars().count();
                }
            }
        }
    }

    /// The end of a choice.
    pub fn finish(&self, index: usize, reason: FinishReason, out: &mut Vec<u8>) {
        let finish_reason = Some(reason);
        match self.endpoint {
            Endpoint::ChatCompletions => {
                let delta = Delta::default();
                self.chat(
                    ChatChoice {
                        index,
                        delta,
                        logprobs: None,
                        finish_reason,
                    },
                    out,
                );
            }
            _ => {
                self.text(
                    TextChoice {
                        index,
                        text: "",
                        logprobs: None,
                        finish_reason,
                    },
                    out,
                );
            }
        }
    }

    /// What the answer took; `choices` is empty in this event.
    pub fn usage(&self, usage: &Usage, out: &mut Vec<u8>) {
        self.event::<()>(&[], Some(usage), out);
    }

    /// Why no more text will come. The status line is long gone, so this is all a client sees.
    pub fn error(error: &ApiError, out: &mut Vec<u8>) {
        sse::event(&error.body(), out);
    }

    /// The end of the stream.
    pub fn done(out: &mut Vec<u8>) {
        out.extend_from_slice(sse::DONE);
    }

    fn chat(&self, choice: ChatChoice<'_>, out: &mut Vec<u8>) {
        self.event(&[choice], None, out);
    }

    fn text(&self, choice: TextChoice<'_>, out: &mut Vec<u8>) {
        self.event(&[choice], None, out);
    }

    fn event<C: Serialize>(&self, choices: &[C], usage: Option<&Usage>, out: &mut Vec<u8>) {
        let AnswerHead {
            id,
            created_unix_s,
            model,
        } = &self.head;
        let object = self.endpoint.chunk_object();
        let chunk = Chunk {
            id,
            object,
            created: *created_unix_s,
            model,
            choices,
            usage,
        };
        sse::event(&to_json(&chunk), out);
    }
}
