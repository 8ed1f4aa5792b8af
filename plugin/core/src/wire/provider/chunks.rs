//! A streamed answer in OpenAI's chunks, made of what another API's events say.

use super::whole::{Finish, Function, Report, ToolCall, WireUsage};
use crate::wire::response::AnswerHead;
use crate::wire::{sse, to_json};
use serde::Serialize;

/// Writes the chunks of one chat.
#[derive(Debug)]
pub(super) struct ChunkWriter {
    head: AnswerHead,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<WireUsage>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    delta: Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<Finish>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ToolCall; 1]>,
}

impl ChunkWriter {
    pub(super) fn new(head: AnswerHead) -> Self {
        Self { head }
    }

    /// What every chunk begins with.
    pub(super) fn head(&self) -> &AnswerHead {
        &self.head
    }

    /// A choice begins.
    pub(super) fn role(&self, index: usize, out: &mut Vec<u8>) {
        let delta = Delta {
            role: Some("assistant"),
            content: Some(""),
            ..Delta::default()
        };
        self.choice(index, delta, None, out);
    }

    /// More of a choice's text.
    pub(super) fn text(&self, index: usize, text: &str, out: &mut Vec<u8>) {
        let delta = Delta {
            content: Some(text),
            ..Delta::default()
        };
        self.choice(index, delta, None, out);
    }

    /// More of what the model thinks aloud.
    pub(super) fn reasoning(&self, index: usize, text: &str, out: &mut Vec<u8>) {
        let delta = Delta {
            reasoning_content: Some(text),
            ..Delta::default()
        };
        self.choice(index, delta, None, out);
    }

    /// A call begins, with as much of its arguments as is known.
    pub(super) fn call(&self, index: usize, nth: usize, call: ToolCall, out: &mut Vec<u8>) {
        let call = ToolCall {
            index: Some(nth),
            ..call
        };
        let delta = Delta {
            tool_calls: Some([call]),
            ..Delta::default()
        };
        self.choice(index, delta, None, out);
    }

    /// More of a call's arguments.
    pub(super) fn arguments(&self, index: usize, nth: usize, piece: &str, out: &mut Vec<u8>) {
        let function = Function {
            name: None,
            arguments: piece.to_owned(),
        };
        let call = ToolCall {
            function,
            ..ToolCall::default()
        };
        self.call(index, nth, call, out);
    }

    /// A choice ends.
    pub(super) fn finish(&self, index: usize, finish: Finish, out: &mut Vec<u8>) {
        self.choice(index, Delta::default(), Some(finish), out);
    }

    /// What the answer took.
    pub(super) fn usage(&self, report: Report, out: &mut Vec<u8>) {
        self.chunk(&[], Some(WireUsage::from(report)), out);
    }

    fn choice(
        &self,
        index: usize,
        delta: Delta<'_>,
        finish_reason: Option<Finish>,
        out: &mut Vec<u8>,
    ) {
        let choice = ChunkChoice {
            index,
            delta,
            logprobs: None,
            finish_reason,
        };
        self.chunk(&[choice], None, out);
    }

    fn chunk(&self, choices: &[ChunkChoice<'_>], usage: Option<WireUsage>, out: &mut Vec<u8>) {
        let chunk = Chunk {
            id: &self.head.id,
            object: "chat.completion.chunk",
            created: self.head.created_unix_s,
            model: &self.head.model,
            choices,
            usage,
        };
        sse::event(&to_json(&chunk), out);
    }
}
