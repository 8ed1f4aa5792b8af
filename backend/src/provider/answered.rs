//! An answer that a provider has begun to give.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use farthing_core::limits::PROVIDER_STREAM_BYTES_MAX;
use farthing_core::wire::Usage;
use farthing_core::wire::provider::{FaultKind, ProviderAnswer, StreamReader};
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, Sleep, sleep};

use super::attempt::redacted;
use super::failure::{Failure, FailureKind};
use super::model::ProviderModel;

/// An answer in the form that was wanted.
#[derive(Debug)]
pub enum Answer {
    Whole(ProviderAnswer),
    Streamed(Box<StreamedAnswer>),
}

/// A stream whose first event has come. Dropping it ends the request at the provider.
#[derive(Debug)]
pub struct StreamedAnswer {
    model: Arc<ProviderModel>,
    body: Incoming,
    reader: StreamReader,
    /// Chunks that are read and not taken.
    chunk: Vec<u8>,
    /// What comes after them.
    failure: Option<Failure>,
    bytes: usize,
    idle: Duration,
    silence: Pin<Box<Sleep>>,
}

// === impl StreamedAnswer ===

impl StreamedAnswer {
    pub(super) fn new(
        model: &Arc<ProviderModel>,
        body: Incoming,
        reader: StreamReader,
    ) -> StreamedAnswer {
        let idle = model.provider.timeouts.idle;
        StreamedAnswer {
            model: Arc::clone(model),
            body,
            reader,
            chunk: Vec::new(),
            failure: None,
            bytes: 0,
            idle,
            silence: Box::pin(sleep(idle)),
        }
    }

    /// Reads up to the first chunk of the answer. A failure that has come with it is one from
    /// before it: nothing of it has gone out.
    pub(super) async fn open(&mut self) -> Result<(), Failure> {
        let first = poll_fn(|context| self.poll_chunk(context)).await;
        // A stream that ends well has at least one chunk.
        let cut = || Err(Failure::new(FailureKind::Cut));
        self.chunk = first.unwrap_or_else(cut)?;
        self.failure.take().map_or(Ok(()), Err)
    }

    /// The next chunks; none after the end. After a failure nothing more is to be asked for.
    pub fn poll_chunk(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Vec<u8>, Failure>>> {
        loop {
            if !self.chunk.is_empty() {
                return Poll::Ready(Some(Ok(std::mem::take(&mut self.chunk))));
            }
            if let Some(failure) = self.failure.take() {
                return Poll::Ready(Some(Err(failure)));
            }
            if self.reader.is_done() {
                return Poll::Ready(None);
            }
            self.failure = ready!(self.poll_more(context)).err();
        }
    }

    /// Takes in one more piece of the body.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let frame = match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(self.silence.as_mut().poll(context));
                return Poll::Ready(Err(Failure::new(FailureKind::TimedOut)));
            }
        };
        self.silence.as_mut().reset(Instant::now() + self.idle);
        Poll::Ready(match frame {
            Some(Ok(frame)) => frame.into_data().map_or(Ok(()), |data| self.take(&data)),
            Some(Err(_)) => Err(Failure::new(FailureKind::Cut)),
            None => self.end(),
        })
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(data.len());
        if self.bytes > PROVIDER_STREAM_BYTES_MAX {
            return Err(Failure::new(FailureKind::TooLarge));
        }
        let read = self.reader.push(data, &mut self.chunk);
        read.map_err(|fault| redacted(&self.model, fault))
    }

    /// The body is over. What the provider reports in its last words counts more than that they
    /// are cut.
    fn end(&mut self) -> Result<(), Failure> {
        let read = self.reader.finish(&mut self.chunk);
        read.map_err(|fault| match fault.kind {
            FaultKind::Malformed => Failure::new(FailureKind::Cut),
            _ => redacted(&self.model, fault),
        })
    }

    /// What the answer took so far, if the provider has said.
    pub fn usage(&self) -> Option<Usage> {
        self.reader.usage()
    }

    /// The event that reports it.
    pub fn usage_event(&self, out: &mut Vec<u8>) {
        self.reader.usage_event(out);
    }

    /// Who answers.
    pub fn model(&self) -> &ProviderModel {
        &self.model
    }

    /// The answer failed after it had begun: the provider is told from one that is well.
    pub fn failed(&self, failure: &Failure) {
        self.model.failed_later(failure);
        self.model.counters.count_failure(failure);
    }

    /// The answer is whole.
    pub fn completed(&self) {
        self.model.counters.count_completed();
    }

    /// Nobody waits for the rest.
    pub fn abandoned(&self) {
        self.model.counters.count_abandoned();
    }
}
