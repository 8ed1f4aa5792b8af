//! A provider's stream in, OpenAI's chunks out. Bytes may be cut anywhere.

use super::anthropic::AnthropicEvents;
use super::gemini::GeminiEvents;
use super::openai::OpenAiEvents;
use super::{Fault, ProviderApi};
use crate::wire::endpoint::Endpoint;
use crate::wire::json::Json;
use crate::wire::response::AnswerHead;
use crate::wire::sse::{self, SseDecoder, SseEvent};
use crate::wire::usage::Usage;

/// Does the client want to know what the answer took?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageWish {
    /// `stream_options.include_usage`.
    Wanted,
    NotWanted,
}

/// Reads one stream.
#[derive(Debug)]
pub struct StreamReader {
    decoder: SseDecoder,
    events: Events,
    done: bool,
}

/// The events of each API.
#[derive(Debug)]
enum Events {
    OpenAi(OpenAiEvents),
    Anthropic(AnthropicEvents),
    Gemini(GeminiEvents),
}

/// May more events follow?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    /// This event ended the answer.
    Done,
}

impl StreamReader {
    /// A reader of the stream that answers `endpoint`.
    pub fn new(api: ProviderApi, endpoint: Endpoint, head: AnswerHead, usage: UsageWish) -> Self {
        let events = match api {
            ProviderApi::OpenAi => Events::OpenAi(OpenAiEvents::new(endpoint, head, usage)),
            ProviderApi::Anthropic => Events::Anthropic(AnthropicEvents::new(head)),
            ProviderApi::Gemini => Events::Gemini(GeminiEvents::new(head)),
        };
        Self {
            decoder: SseDecoder::default(),
            events,
            done: false,
        }
    }

    /// Takes the next bytes and appends the chunks that they complete: those of the answer only,
    /// neither the usage nor the end. What comes after the end is not looked at.
    ///
    /// # Errors
    /// The provider reports a fault, or sends what cannot be read. Nothing more is to be pushed.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let (events, done) = (&mut self.events, &mut self.done);
        let mut result = Ok(());
        self.decoder.push(bytes, |event| {
            if *done || result.is_err() {
                return;
            }
            let progress = match event {
                SseEvent::TooLong => Err(Fault::malformed()),
                SseEvent::Data(data) => events.event(data, out),
            };
            match progress {
                Ok(progress) => *done = progress == Progress::Done,
                Err(fault) => result = Err(fault),
            }
        });
        result
    }

    /// Has the answer come to its end?
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The bytes are over.
    ///
    /// # Errors
    /// The answer is not whole.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.done {
            return Ok(());
        }
        // The last event of a stream may lack the blank line behind it.
        if self.decoder.is_mid_event() {
            self.push(b"\n\n", out)?;
        }
        let whole = match &mut self.events {
            Events::OpenAi(events) => events.is_whole(),
            // Its end has a word of its own.
            Events::Anthropic(_) => false,
            Events::Gemini(events) => events.end(out),
        };
        self.done = self.done || whole;
        self.done.then_some(()).ok_or_else(Fault::malformed)
    }

    /// What the answer took so far, if the provider has said.
    pub fn usage(&self) -> Option<Usage> {
        match &self.events {
            Events::OpenAi(events) => events.usage(),
            Events::Anthropic(events) => Some(events.report()?.usage),
            Events::Gemini(events) => Some(events.report()?.usage),
        }
    }

    /// The event that reports the usage, if it is known; `choices` is empty in it.
    pub fn usage_event(&self, out: &mut Vec<u8>) {
        match &self.events {
            Events::OpenAi(events) => events.usage_event(out),
            Events::Anthropic(events) => {
                if let Some(report) = events.report() {
                    events.writer().usage(report, out);
                }
            }
            Events::Gemini(events) => {
                if let Some(report) = events.report() {
                    events.writer().usage(report, out);
                }
            }
        }
    }

    /// The end of the stream.
    pub fn done(out: &mut Vec<u8>) {
        out.extend_from_slice(sse::DONE);
    }
}

impl Events {
    fn event(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<Progress, Fault> {
        if data == sse::DONE_DATA {
            return match self {
                Self::OpenAi(_) => Ok(Progress::Done),
                // Some servers send it after the last event of any API.
                Self::Anthropic(_) | Self::Gemini(_) => Ok(Progress::More),
            };
        }
        let json = Json::parse(data).map_err(|_| Fault::malformed())?;
        if let Some(fault) = Fault::within(&json) {
            return Err(fault);
        }
        let progress = match self {
            Self::OpenAi(events) => events.event(json, out),
            Self::Anthropic(events) => events.event(&json, out),
            Self::Gemini(events) => events.event(&json, out),
        };
        progress.ok_or_else(Fault::malformed)
    }
}
