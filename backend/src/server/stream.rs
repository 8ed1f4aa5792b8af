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

use super::generate::add_usage;
use super::measure::Measure;
use super::stored::Collecting;
use crate::engine::{EngineEvent, thread_gone};

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
    /// Puts the answer together, to keep it.
    collecting: Option<Collecting>,
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
            None => Err(thread_gone()),
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
            collecting: None,
        };
        stream.on_event(0, first);
        Ok(stream)
    }

    /// A stream whose first events have come already; more may come from `source`.
    pub fn resumed(
        held: Vec<EngineEvent>,
        source: UnboundedReceiver<EngineEvent>,
        writer: StreamWriter,
        shown: Shown,
        measure: Measure,
    ) -> EventStream {
        let mut chunk = Vec::new();
        writer.start(0, &mut chunk);
        let mut stream = EventStream {
            sources: vec![Some(source)],
            writer,
            shown,
            usage: Usage::default(),
            measure,
            chunk,
            ended: false,
            collecting: None,
        };
        for event in held {
            stream.on_event(0, event);
        }
        stream
    }

    /// The same stream, whose answer is kept once it is complete.
    pub fn keeping(self, collecting: Option<Collecting>) -> EventStream {
        EventStream { collecting, ..self }
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
                    event.unwrap_or_else(|| EngineEvent::Failed(thread_gone())),
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
                ..
            } => {
                self.measure.token();
                let logprobs = self.shown.logprobs.then_some(logprobs);
                let has_logprobs = logprobs.as_ref().is_some_and(|tokens| !tokens.is_empty());
                if !text.is_empty() || has_logprobs {
                    let index = index(choice);
                    self.writer
                        .delta(index, &text, logprobs.as_deref(), &mut self.chunk);
                }
            }
            EngineEvent::Finished { choice, reason } => {
                self.writer.finish(index(choice), reason, &mut self.chunk);
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
            if let Some(collecting) = &mut self.collecting {
                collecting.push(&chunk);
            }
            if self.ended
                && let Some(collecting) = self.collecting.take()
            {
                collecting.finish();
            }
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from(chunk)))));
        }
        if self.ended {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use farthing_core::error::ErrorKind;
    use farthing_core::wire::{AnswerHead, Endpoint};
    use http_body_util::BodyExt;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::engine::FinishReason;
    use crate::metrics::{Metrics, Operation};
    use crate::server::measure::Subject;

    /// Plays the events of each prompt, after which its channel closes, and gives what is streamed,
    /// or the error that is answered instead.
    fn play(prompts: Vec<Vec<EngineEvent>>) -> Result<String, ApiError> {
        let mut sources = Vec::new();
        for events in prompts {
            let (sender, receiver) = unbounded_channel();
            for event in events {
                sender.send(event).expect("the receiver is held");
            }
            sources.push(receiver);
        }
        let head = AnswerHead {
            id: "id".into(),
            created_unix_s: 1,
            model: "m".into(),
        };
        let writer = StreamWriter::new(Endpoint::ChatCompletions, head, sources.len());
        let shown = Shown {
            choices: 1,
            logprobs: false,
            usage: true,
        };
        let (operation, model, request_id) = (Operation::Chat, "m".into(), "-".into());
        let subject = Subject {
            operation,
            model,
            request_id,
            choices: sources.len(),
        };
        let metrics = Arc::new(Metrics::new([]));
        let measure = Measure::new(&metrics, subject, Instant::now());
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a bare runtime starts").block_on(async {
            let stream = EventStream::open(sources, &[], writer, shown, measure).await?;
            let body = stream.collect().await.expect("the body itself never fails");
            Ok(String::from_utf8(body.to_bytes().to_vec()).expect("events are UTF-8"))
        })
    }

    fn delta(text: &str) -> EngineEvent {
        EngineEvent::Delta {
            choice: 0,
            text: text.to_owned(),
            logprobs: Vec::new(),
            confidence: Vec::new(),
        }
    }

    fn end() -> [EngineEvent; 2] {
        let usage = Usage {
            prompt_tokens: 3,
            completion_tokens: 2,
            cached_tokens: 1,
            ..Usage::default()
        };
        [
            EngineEvent::Finished {
                choice: 0,
                reason: FinishReason::Stop,
            },
            EngineEvent::Done { usage },
        ]
    }

    fn script(texts: &[&str], end: impl IntoIterator<Item = EngineEvent>) -> Vec<EngineEvent> {
        let start = EngineEvent::Prefilled { cached_tokens: 1 };
        let deltas = texts.iter().map(|text| delta(text));
        std::iter::once(start).chain(deltas).chain(end).collect()
    }

    #[test]
    fn usage_is_the_sum_of_all_prompts_and_done_comes_last() {
        let text = play(vec![script(&["a", "", "b"], end()), script(&["c"], end())]);
        let text = text.expect("nothing fails");
        let pieces = |piece: &str| text.matches(&format!("\"content\":\"{piece}\"")).count();
        assert_eq!((pieces("a"), pieces("b"), pieces("c")), (1, 1, 1), "{text}");
        assert_eq!(pieces(""), 2, "only the two roles have no text: {text}");
        assert!(
            text.contains("\"prompt_tokens\":6,\"completion_tokens\":4"),
            "{text}"
        );
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    }

    #[test]
    fn what_fails_midway_ends_with_an_error_and_without_done() {
        let failed = EngineEvent::Failed(ApiError::new(ErrorKind::Internal, "broken"));
        let closed = Vec::new();
        for (end, code) in [(vec![failed], "internal_error"), (closed, "unavailable")] {
            let text = play(vec![script(&["a"], end)]).expect("the answer has begun");
            let last = text.trim_end().rsplit("\n\n").next().unwrap_or_default();
            assert!(
                last.starts_with("data: {\"error\":") && last.contains(code),
                "{text}"
            );
            assert!(!text.contains("[DONE]"), "{text}");
        }
    }

    #[test]
    fn what_fails_before_the_first_token_has_a_status() {
        let failed = EngineEvent::Failed(ApiError::new(ErrorKind::Overloaded, "no room"));
        assert_eq!(
            play(vec![vec![failed]]).map_err(|error| error.status()),
            Err(429)
        );
        assert_eq!(play(vec![vec![]]).map_err(|error| error.status()), Err(503));
    }
}
