//! Server-sent events: writing them, and cutting a stream of bytes into them.
//!
//! The format is WHATWG HTML section 9.2.6. Lines end in LF, CRLF or CR; a blank line ends an
//! event. A network splits the bytes anywhere, so the cutting is driven byte by byte with no
//! look-ahead: the same bytes give the same events however they were split.

use crate::limits::SSE_EVENT_BYTES_MAX;
use memchr::memchr2;
use std::borrow::Cow;

/// Data of the event that ends a stream of OpenAI's.
pub const DONE_DATA: &[u8] = b"[DONE]";

/// That event as it goes over the wire.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// Writes one event. Line ends in the data, which our JSON never has, become several data lines.
pub fn event(data: &[u8], out: &mut Vec<u8>) {
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// Writes one event under a name, as `/v1/responses` and `/v1/messages` do.
pub fn named_event(name: &str, data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    event(data, out);
}

/// What a decoder hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SseEvent<'a> {
    /// The data of one event, its lines joined by LF.
    Data(&'a [u8]),
    /// An event of more than `SSE_EVENT_BYTES_MAX` bytes went by unread.
    TooLong,
}

/// Reads events from chunks of a stream. Only an event that spans chunks is copied.
#[derive(Debug, Default)]
pub struct SseDecoder {
    boundary: EventBoundary,
    /// Beginning of the event that is not complete yet.
    held: Vec<u8>,
    /// The event under way has outgrown the limit.
    too_long: bool,
}

/// Finds where events end.
#[derive(Debug, Default)]
pub(super) struct EventBoundary {
    line_has_bytes: bool,
    last: LastByte,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum LastByte {
    #[default]
    Other,
    /// A CR that ended a line: an LF right after belongs to it.
    Cr,
    /// The same, and that line's end was the end of an event.
    CrOfBoundary,
}

impl SseDecoder {
    /// Takes the next bytes of the stream and calls `on_event` for every event they complete.
    /// Comments and events without data are skipped.
    pub fn push(&mut self, chunk: &[u8], mut on_event: impl FnMut(SseEvent<'_>)) {
        let mut rest = self.boundary.skip_line_feed(chunk).unwrap_or(chunk);
        while !rest.is_empty() {
            let Some((event, after)) = self.boundary.split(rest) else {
                self.hold(rest);
                return;
            };
            self.complete(event, &mut on_event);
            rest = self.boundary.skip_line_feed(after).unwrap_or(after);
        }
    }

    /// Whether the bytes so far end inside an event, so that a stream that ends here was cut.
    pub fn is_mid_event(&self) -> bool {
        self.too_long || !self.held.is_empty()
    }

    /// Does an event begin with the next byte, whatever that is?
    pub(super) fn is_between_events(&self) -> bool {
        !self.is_mid_event() && self.boundary.is_between_events()
    }

    fn hold(&mut self, part: &[u8]) {
        if self.too_long || self.held.len() + part.len() > SSE_EVENT_BYTES_MAX {
            self.too_long = true;
            self.held.clear();
        } else {
            self.held.extend_from_slice(part);
        }
    }

    fn complete(&mut self, last_part: &[u8], on_event: &mut impl FnMut(SseEvent<'_>)) {
        if self.too_long || self.held.len() + last_part.len() > SSE_EVENT_BYTES_MAX {
            on_event(SseEvent::TooLong);
        } else {
            let event = if self.held.is_empty() {
                last_part
            } else {
                self.held.extend_from_slice(last_part);
                &self.held
            };
            if let Some(data) = event_data(event) {
                on_event(SseEvent::Data(&data));
            }
        }
        self.too_long = false;
        self.held.clear();
    }
}

impl EventBoundary {
    /// Splits after the end of the event under way; `None` when these bytes do not end it.
    pub(super) fn split<'a>(&mut self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let line_end = memchr2(b'\n', b'\r', rest);
            if line_end.unwrap_or(rest.len()) > 0 {
                self.line_has_bytes = true;
                self.last = LastByte::Other;
            }
            let line_end = line_end?;
            let byte = *rest.get(line_end)?;
            at += line_end + 1;
            if byte == b'\n' && self.last == LastByte::Cr {
                self.last = LastByte::Other;
                continue;
            }
            let ends_event = !std::mem::take(&mut self.line_has_bytes);
            self.last = match (byte, ends_event) {
                (b'\r', true) => LastByte::CrOfBoundary,
                (b'\r', false) => LastByte::Cr,
                _ => LastByte::Other,
            };
            if ends_event {
                return bytes.split_at_checked(at);
            }
        }
    }

    /// Does an event begin with the next byte, whatever that is?
    pub(super) fn is_between_events(&self) -> bool {
        !self.line_has_bytes && self.last == LastByte::Other
    }

    /// What follows the LF of a CRLF whose CR has already ended an event; `None` when `bytes` do
    /// not start with such an LF. To be asked before every [`split`](Self::split).
    pub(super) fn skip_line_feed<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        if self.last != LastByte::CrOfBoundary {
            return None;
        }
        let rest = bytes.strip_prefix(b"\n")?;
        self.last = LastByte::Other;
        Some(rest)
    }
}

/// The data of one whole event, or `None` if it has none. A byte order mark, which a stream may
/// start with, is skipped.
pub(super) fn event_data(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let event = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
    let mut data: Option<Cow<'_, [u8]>> = None;
    for line in Lines(Some(event)) {
        let Some(value) = data_of_line(line) else {
            continue;
        };
        match &mut data {
            None => data = Some(Cow::Borrowed(value)),
            Some(joined) => {
                let joined = joined.to_mut();
                joined.push(b'\n');
                joined.extend_from_slice(value);
            }
        }
    }
    data
}

/// The lines of a text, however they end. An LF after a CR ends an empty line, which says nothing.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0.take()?;
        let Some(end) = memchr2(b'\n', b'\r', rest) else {
            return Some(rest);
        };
        self.0 = rest.get(end.saturating_add(1)..);
        rest.get(..end)
    }
}

fn data_of_line(line: &[u8]) -> Option<&[u8]> {
    let value = line.strip_prefix(b"data")?;
    if value.is_empty() {
        return Some(value);
    }
    let value = value.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}
