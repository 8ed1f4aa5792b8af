//! A streamed answer as a response body: engine events in, server-sent events out. Dropping it
//! drops the engine's receivers, which is how a client's leaving reaches the engine.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use farthing_core::error::ApiError;
use farthing_core::limits::STREAM_CHUNK_BYTES_MAX;
use farthing_core::wire::Usage;
use farthing_core::wire::stream::StreamWriter;
use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc::UnboundedReceiver;

use super::generate::{add_usage, engine_gone, wire_logprobs, wire_reason};
use super::measure::Measure;
use crate::engine::EngineEvent;

/// What a stream shows beside the text.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    /// Choices of each prompt.
    pub choices: usize,
    /// Whether tokens come with their log probabilities.
    pub logprobs: bool,
    /// Whether the last event reports the usage.
    pub usage: bool,
}

/// One answer under way: the events of all its prompts, interleaved as they come.
pub struct EventStream {
    /// One a prompt; `None` once its last event came.
    sources: Vec<Option<UnboundedReceiver<EngineEvent>>>,
    writer: StreamWriter,
    shown: Shown,
    usage: Usage,
    measure: Measure,
    /// Events that are written and not sent.
    chunk: Vec<u8>,
    ended: bool,
}

impl EventStream {
    /// Starts the stream: every choice's role, and for `echo` its prompt. Waits until the engine
    /// has started on the first prompt, so that what fails before that has a status of its own.
    ///
    /// # Errors
    /// The engine failed before the first token.
    pub async fn open(
        sources: Vec<UnboundedReceiver<EngineEvent>>,
        echoes: &[String],
        mut writer: StreamWriter,
        shown: Shown,
        mut measure: Measure,
    ) -> Result<EventStream, ApiError> {
        let mut sources: Vec<_> = sources.into_iter().map(Some).collect();
        let first = match sources.first_mut().and_then(Option::as_mut) {
            Some(source) => source.recv().await,
            None => None,
        };
        let first = match first {
            Some(EngineEvent::Failed(error)) => Err(error),
            Some(event) => Ok(event),
            None => Err(engine_gone()),
        };
        let first = first.inspect_err(|_| measure.failed())?;
        let mut chunk = Vec::new();
        for index in 0..sources.len() * shown.choices {
            writer.start(index, &mut chunk);
            if let Some(echo) = echoes.get(index / shown.choices) {
                writer.delta(index, echo, None, &mut chunk);
            }
        }
        let usage = Usage::default();
        let mut stream = EventStream {
            sources,
            writer,
            shown,
            usage,
            measure,
            chunk,
            ended: false,
        };
        stream.on_event(0, first);
        Ok(stream)
    }

    /// Takes what the engine has ready, until a chunk is full.
    fn take_ready(&mut self, context: &mut Context<'_>) {
        for prompt in 0..self.sources.len() {
            while self.chunk.len() < STREAM_CHUNK_BYTES_MAX
                && let Some(Some(source)) = self.sources.get_mut(prompt)
                && let Poll::Ready(event) = source.poll_recv(context)
            {
                self.on_event(
                    prompt,
                    event.unwrap_or_else(|| EngineEvent::Failed(engine_gone())),
                );
            }
        }
    }

    fn on_event(&mut self, prompt: usize, event: EngineEvent) {
        let index = |choice| prompt * self.shown.choices + choice;
        match event {
            EngineEvent::Prefilled { .. } => {}
            EngineEvent::Delta {
                choice,
                text,
                logprobs,
            } => {
                self.measure.token();
                let logprobs = self.shown.logprobs.then(|| wire_logprobs(logprobs));
                let has_logprobs = logprobs.as_ref().is_some_and(|tokens| !tokens.is_empty());
                if !text.is_empty() || has_logprobs {
                    let index = index(choice);
                    self.writer
                        .delta(index, &text, logprobs.as_deref(), &mut self.chunk);
                }
            }
            EngineEvent::Finished { choice, reason } => {
                self.writer
                    .finish(index(choice), wire_reason(reason), &mut self.chunk);
            }
            EngineEvent::Done { usage } => {
                add_usage(&mut self.usage, usage);
                if let Some(source) = self.sources.get_mut(prompt) {
                    *source = None;
                }
                if self.sources.iter().all(Option::is_none) {
                    self.complete();
                }
            }
            EngineEvent::Failed(error) => {
                // No [DONE] after it: a client that skips the event still sees a cut stream.
                StreamWriter::error(&error, &mut self.chunk);
                self.measure.failed();
                self.sources.clear();
                self.ended = true;
            }
        }
    }

    fn complete(&mut self) {
        if self.shown.usage {
            self.writer.usage(&self.usage, &mut self.chunk);
        }
        StreamWriter::done(&mut self.chunk);
        self.measure.completed(self.usage);
        self.ended = true;
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.ended {
            self.take_ready(context);
        }
        if !self.chunk.is_empty() {
            let chunk = std::mem::take(&mut self.chunk);
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from(chunk)))));
        }
        if self.ended {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}
