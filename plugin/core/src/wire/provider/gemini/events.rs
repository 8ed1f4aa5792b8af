//! The events of a streamed response, as chunks: each is a response that holds what is new.

use super::candidate::{self, Piece};
use crate::limits::{CHOICES_MAX, TOOLS_MAX};
use crate::wire::json::Json;
use crate::wire::provider::chunks::ChunkWriter;
use crate::wire::provider::stream::Progress;
use crate::wire::provider::whole::{Finish, Report};
use crate::wire::response::AnswerHead;

/// The response so far.
#[derive(Debug)]
pub(in crate::wire::provider) struct GeminiEvents {
    writer: ChunkWriter,
    /// Each choice that began.
    choices: Vec<Choice>,
    calls: usize,
    report: Option<Report>,
    blocked: bool,
}

#[derive(Debug, Default)]
struct Choice {
    index: usize,
    calls: usize,
    finished: bool,
}

impl GeminiEvents {
    pub(in crate::wire::provider) fn new(head: AnswerHead) -> Self {
        Self {
            writer: ChunkWriter::new(head),
            choices: Vec::new(),
            calls: 0,
            report: None,
            blocked: false,
        }
    }

    pub(in crate::wire::provider) fn writer(&self) -> &ChunkWriter {
        &self.writer
    }

    pub(in crate::wire::provider) fn report(&self) -> Option<Report> {
        self.report
    }

    /// Reads one event; `None` if it is no response.
    pub(in crate::wire::provider) fn event(
        &mut self,
        event: &Json,
        out: &mut Vec<u8>,
    ) -> Option<Progress> {
        event.as_object()?;
        self.report = candidate::report(event).or(self.report);
        self.blocked |= candidate::is_blocked(event);
        let candidates = event.get("candidates").and_then(Json::as_array);
        for candidate in candidates.unwrap_or_default() {
            self.candidate(candidate, out)?;
        }
        Some(Progress::More)
    }

    fn candidate(&mut self, candidate: &Json, out: &mut Vec<u8>) -> Option<()> {
        let index = usize::try_from(candidate::index(candidate)).ok()?;
        let pieces = candidate::pieces(self.writer.head(), candidate, &mut self.calls)?;
        let choice = self.choice(index, out)?;
        let (mut calls, finished) = (choice.calls, choice.finished);
        for piece in pieces {
            match piece {
                Piece::Text("") | Piece::Thought("") => {}
                Piece::Text(text) => self.writer.text(index, text, out),
                Piece::Thought(text) => self.writer.reasoning(index, text, out),
                Piece::Call(_) if calls >= TOOLS_MAX => return None,
                Piece::Call(call) => {
                    self.writer.call(index, calls, call, out);
                    calls = calls.saturating_add(1);
                }
            }
        }
        // Later events may repeat the reason.
        let finish = candidate::finish(candidate, calls).filter(|_| !finished);
        if let Some(finish) = finish {
            self.writer.finish(index, finish, out);
        }
        let choice = self.choice(index, out)?;
        choice.calls = calls;
        choice.finished |= finish.is_some();
        Some(())
    }

    /// The choice, which begins if it is new.
    fn choice(&mut self, index: usize, out: &mut Vec<u8>) -> Option<&mut Choice> {
        let known = self.choices.iter().position(|choice| choice.index == index);
        match known {
            Some(at) => self.choices.get_mut(at),
            None if self.choices.len() < usize::from(CHOICES_MAX) => {
                self.writer.role(index, out);
                self.choices.push(Choice {
                    index,
                    ..Choice::default()
                });
                self.choices.last_mut()
            }
            None => None,
        }
    }

    /// The stream is over, which has no event of its own. Is the answer whole?
    pub(in crate::wire::provider) fn end(&mut self, out: &mut Vec<u8>) -> bool {
        if self.choices.is_empty() && self.blocked {
            self.writer.role(0, out);
            self.writer.finish(0, Finish::ContentFilter, out);
            return true;
        }
        !self.choices.is_empty() && self.choices.iter().all(|choice| choice.finished)
    }
}
