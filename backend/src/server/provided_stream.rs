//! A provider's stream as a response body. Dropping it ends the request at the provider, which is
//! how a client's leaving reaches it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use farthing_core::wire::provider::{StreamReader, UsageWish};
use farthing_core::wire::stream::StreamWriter;
use hyper::body::{Body, Bytes, Frame};

use super::measure::Measure;
use super::provided::log_failure;
use super::stored::Collecting;
use crate::provider::{Failure, StreamedAnswer};

/// One answer under way.
pub struct ProvidedStream {
    answer: Box<StreamedAnswer>,
    wish: UsageWish,
    measure: Measure,
    request_id: String,
    /// Puts the answer together, to keep it.
    collecting: Option<Collecting>,
    ended: bool,
}

impl ProvidedStream {
    /// Passes on what comes, and the usage if it is wished for.
    pub fn new(
        answer: Box<StreamedAnswer>,
        wish: UsageWish,
        measure: Measure,
        request_id: String,
    ) -> ProvidedStream {
        ProvidedStream {
            answer,
            wish,
            measure,
            request_id,
            collecting: None,
            ended: false,
        }
    }

    /// The same stream, whose answer is kept once it is complete.
    pub fn keeping(mut self, collecting: Option<Collecting>) -> ProvidedStream {
        self.collecting = collecting;
        self
    }

    /// The last bytes of an answer that is whole. What is kept has its usage, whoever asked.
    fn complete(&mut self) -> Vec<u8> {
        self.ended = true;
        self.answer.completed();
        let usage = self.answer.usage();
        self.measure.completed(usage.unwrap_or_default());
        let (mut reported, mut done) = (Vec::new(), Vec::new());
        self.answer.usage_event(&mut reported);
        StreamReader::done(&mut done);
        if let Some(mut collecting) = self.collecting.take() {
            collecting.push(&reported);
            collecting.push(&done);
            collecting.finish();
        }
        match self.wish {
            UsageWish::Wanted => [reported, done].concat(),
            UsageWish::NotWanted => done,
        }
    }

    /// No `[DONE]` after it: a client that skips the event still sees a cut stream.
    fn fail(&mut self, failure: &Failure) -> Vec<u8> {
        self.ended = true;
        self.answer.failed(failure);
        self.measure.failed();
        self.collecting = None;
        let model = self.answer.model();
        log_failure(&self.request_id, model, failure, 0);
        let mut chunk = Vec::new();
        StreamWriter::error(&failure.error(&model.provider.name), &mut chunk);
        chunk
    }
}

impl Body for ProvidedStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let chunk = match ready!(self.answer.poll_chunk(context)) {
            Some(Ok(chunk)) => {
                self.measure.token();
                if let Some(collecting) = &mut self.collecting {
                    collecting.push(&chunk);
                }
                chunk
            }
            Some(Err(failure)) => self.fail(&failure),
            None => self.complete(),
        };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(chunk)))))
    }
}

impl Drop for ProvidedStream {
    fn drop(&mut self) {
        if !self.ended {
            self.answer.abandoned();
        }
    }
}
