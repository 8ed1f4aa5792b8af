//! Most events of a stream differ from the one before in what the model said, and in nothing else.
//! Once two of them have been read, what others like them do is known, and they are told by their
//! bytes: all around the text is the same. Only chat and completions say so little in an event.

use super::collect::{PADDING, TEXTS};
use super::endpoint::Endpoint;
use super::json::scan::{plain_bytes, same_start};
use super::json::{Json, unescaped};
use super::meter::only_text;
use super::usage::has_usage_object;
use crate::limits::SSE_EVENT_BYTES_MAX;
use std::borrow::Cow;

/// What stands before the data of an event that may be told by its bytes, and what behind.
const BEGIN: &[u8] = b"data: {";
const END: &[u8] = b"}\n\n";

/// What the events seen so far look like.
#[derive(Debug)]
pub(super) struct Likeness {
    endpoint: Endpoint,
    /// Of the last event that was read.
    last: Option<Pattern>,
    /// Seen twice, and known to do nothing but to say a text.
    known: Option<(Pattern, Alike)>,
}

/// What events do that are alike.
#[derive(Debug)]
pub(super) struct Alike {
    /// The choice that the text is of, and its field.
    pub index: u64,
    pub field: &'static str,
    /// What all else adds to the bytes that a collector keeps.
    pub other_bytes: usize,
}

/// The bytes of an event around its text.
#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    before: Vec<u8>,
    after: Vec<u8>,
    /// What follows random padding; `after` ends where that begins.
    after_padding: Option<Vec<u8>>,
}

impl Likeness {
    /// Of the events of a stream that answers `endpoint`.
    pub(super) fn new(endpoint: Endpoint) -> Likeness {
        Likeness {
            endpoint,
            last: None,
            known: None,
        }
    }

    /// If an event at the beginning of these bytes is like those that are known: what it does, its
    /// text as it stands there, and what follows the event.
    pub(super) fn split<'a>(&self, bytes: &'a [u8]) -> Option<(&Alike, &'a [u8], &'a [u8])> {
        let (pattern, alike) = self.known.as_ref()?;
        let (text, rest) = pattern.split(bytes)?;
        // A longer one is never read.
        let fits = bytes.len().saturating_sub(rest.len()) <= SSE_EVENT_BYTES_MAX;
        fits.then_some((alike, text, rest))
    }

    /// Learns from bytes that were read: one event, or anything else, which teaches nothing.
    pub(super) fn learn(&mut self, bytes: &[u8]) {
        if !matches!(
            self.endpoint,
            Endpoint::ChatCompletions | Endpoint::Completions
        ) {
            return;
        }
        let pattern = Pattern::of(bytes);
        if pattern.is_some() && pattern == self.last {
            let alike = Alike::of(self.endpoint, bytes);
            self.known = pattern.zip(alike);
            self.last = None;
        } else {
            self.last = pattern;
        }
    }
}

impl Pattern {
    /// `None` unless these bytes are one event with one text.
    fn of(event: &[u8]) -> Option<Pattern> {
        let data = event.strip_suffix(b"\n\n")?;
        let is_plain = event.starts_with(BEGIN) && event.ends_with(END);
        if !is_plain || memchr::memchr2(b'\n', b'\r', data).is_some() {
            return None;
        }
        let text = only_text(data)?;
        let (before, after) = (event.get(..text.start)?, event.get(text.end..)?);
        let padding = [b"\"", PADDING.as_bytes(), b"\":\""].concat();
        let padded = memchr::memmem::find(after, &padding)
            .and_then(|at| after.split_at_checked(at + padding.len()));
        Some(match padded {
            Some((after, rest)) => Pattern {
                before: before.to_vec(),
                after: after.to_vec(),
                after_padding: Some(rest.get(plain_bytes(rest)..)?.to_vec()),
            },
            None => Pattern {
                before: before.to_vec(),
                after: after.to_vec(),
                after_padding: None,
            },
        })
    }

    /// The text of such an event at the beginning of these bytes, and what follows the event.
    fn split<'a>(&self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let from_text = same_start(bytes, &self.before)?;
        let mut length = plain_bytes(from_text);
        while from_text.get(length) == Some(&b'\\') {
            length += 2;
            length += plain_bytes(from_text.get(length..)?);
        }
        let (text, rest) = from_text.split_at_checked(length)?;
        // It begins with the quote that ends the text.
        let rest = same_start(rest, &self.after)?;
        let Some(after_padding) = &self.after_padding else {
            return Some((text, rest));
        };
        let (padding, rest) = rest.split_at_checked(plain_bytes(rest))?;
        let rest = same_start(rest, after_padding)?;
        padding.is_ascii().then_some((text, rest))
    }
}

impl Alike {
    /// What an event does, if all that happens when it comes again with another text is that this
    /// text is added.
    fn of(endpoint: Endpoint, event: &[u8]) -> Option<Alike> {
        let data = event.strip_prefix(b"data: ")?.strip_suffix(b"\n\n")?;
        if has_usage_object(data) {
            return None;
        }
        let text = said(data.get(only_text(data)?)?)?;
        let event = Json::parse(data).ok()?;
        let [choice] = event.get("choices")?.as_array()? else {
            return None;
        };
        let silent = |key: &str| choice.get(key).is_none_or(Json::is_null);
        if !silent("finish_reason") || !silent("logprobs") {
            return None;
        }
        let index = choice.get("index")?.as_u64()?;
        let delta = match endpoint {
            Endpoint::ChatCompletions => choice.get("delta")?.as_object()?,
            _ => choice.as_object()?,
        };
        let mut alike = Alike {
            index,
            field: TEXTS.into_iter().find(|field| says(delta, field, &text))?,
            other_bytes: 0,
        };
        if endpoint != Endpoint::ChatCompletions {
            return Some(alike);
        }
        for (key, value) in delta {
            match (key.as_str(), value) {
                (_, Json::Null) => {}
                (key, Json::String(_)) if key == alike.field => {}
                ("role", Json::String(role)) => alike.other_bytes += role.len(),
                _ => return None,
            }
        }
        Some(alike)
    }
}

fn says(entries: &[(String, Json)], field: &str, text: &str) -> bool {
    let said = |(key, value): &(String, Json)| key == field && value.as_str() == Some(text);
    entries.iter().any(said)
}

/// What a text says that stands like this in an event; `None` if it is no JSON.
pub(super) fn said(text: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(text).ok()?;
    match text.contains('\\') {
        false => Some(Cow::Borrowed(text)),
        true => unescaped(text).map(Cow::Owned),
    }
}
