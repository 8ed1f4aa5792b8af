//! Takes the usage event out of a stream whose client did not ask for it.
//!
//! Settling a budget needs the usage of every streamed answer, so the filter asks the upstream for
//! it. A client that did not ask must not see an event with empty `choices`: many index the first.
//! OpenAI also adds `"usage":null` to every other event then. That stays: the field is declared
//! nullable, so clients read it as absent, and an event that passes as it came costs nothing.

use super::sse::{EventBoundary, event_data};
use super::usage::Usage;
use crate::limits::SSE_EVENT_BYTES_MAX;

/// Passes a stream on, event by event and byte for byte, without the usage event.
#[derive(Debug, Default)]
pub struct UsageStripper {
    boundary: EventBoundary,
    /// Beginning of the event that is not complete yet.
    held: Vec<u8>,
    /// The event under way is too long to hold: its bytes go on as they come.
    passing: bool,
    /// What became of the last event: the LF of its last CRLF may come late and shares its fate.
    last_swallowed: bool,
    usage: Option<Usage>,
}

impl UsageStripper {
    /// Takes the next bytes of the stream and appends to `out` those to send on.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let mut rest = self.after_line_feed(chunk, out);
        while !rest.is_empty() {
            let Some((event, after)) = self.boundary.split(rest) else {
                self.hold(rest, out);
                return;
            };
            self.complete(event, out);
            rest = self.after_line_feed(after, out);
        }
    }

    /// The stream is over: what was held goes on, unless it is the usage event, cut before its
    /// blank line.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.complete(&[], out);
    }

    /// Does an event begin with the next byte, whatever that is?
    pub(super) fn is_between_events(&self) -> bool {
        !self.passing && self.held.is_empty() && self.boundary.is_between_events()
    }

    /// The last usage seen, in whatever event.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn after_line_feed<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let Some(rest) = self.boundary.skip_line_feed(bytes) else {
            return bytes;
        };
        if !self.last_swallowed {
            out.push(b'\n');
        }
        rest
    }

    fn hold(&mut self, part: &[u8], out: &mut Vec<u8>) {
        if !self.passing && self.held.len() + part.len() <= SSE_EVENT_BYTES_MAX {
            self.held.extend_from_slice(part);
            return;
        }
        self.passing = true;
        out.append(&mut self.held);
        out.extend_from_slice(part);
    }

    fn complete(&mut self, last_part: &[u8], out: &mut Vec<u8>) {
        let event = if self.held.is_empty() {
            last_part
        } else {
            self.held.extend_from_slice(last_part);
            &self.held
        };
        // A long event is passed unread however it was split, in the middle or whole.
        let readable = !self.passing && event.len() <= SSE_EVENT_BYTES_MAX;
        let data = if readable { event_data(event) } else { None };
        let alone = data.as_deref().and_then(Usage::alone_in);
        let usage = alone.or_else(|| Usage::find_in_event(data.as_deref()?, self.usage));
        self.last_swallowed = alone.is_some();
        if !self.last_swallowed {
            out.extend_from_slice(event);
        }
        self.usage = usage.or(self.usage);
        self.passing = false;
        self.held.clear();
    }
}
