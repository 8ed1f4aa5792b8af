//! Sends a stored answer again, whole or as the stream it would have been.

use super::completed::Completed;
use super::endpoint::Endpoint;
use super::json::{Json, write_string};
use super::{messages, responses, sse};
use crate::limits::REPLAY_EVENT_TEXT_BYTES;

/// Whether a stream ends with the event that `stream_options.include_usage` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageEvent {
    /// The client asked.
    Include,
    /// It did not.
    Omit,
}

/// Fields that every event repeats, as far as the answer has them.
const HEAD: [&str; 4] = ["created", "model", "system_fingerprint", "service_tier"];

/// Fields of an answer that are not sent with the first event: they have their own place.
const PLACED: [&str; 4] = ["id", "object", "choices", "usage"];

/// Fields of a choice that are not sent with its last event, for the same reason.
const CHOICE_PLACED: [&str; 5] = ["index", "message", "text", "logprobs", "finish_reason"];

/// The answer as it was generated.
pub fn replay_json(completed: &Completed) -> Vec<u8> {
    completed.json().to_bytes()
}

/// The answer as a whole stream in the events of its API. For chat and completions, `[DONE]`
/// included: for each choice its role, its text in several events, its tool calls and its
/// `finish_reason`. The other APIs always report the usage.
pub fn replay_sse(completed: &Completed, usage_event: UsageEvent) -> Vec<u8> {
    match completed.endpoint() {
        Endpoint::Responses => return responses::replay(completed.json()),
        Endpoint::Messages => return messages::replay(completed.json()),
        _ => {}
    }
    let mut stream = Stream::new(completed);
    for choice in completed.choices() {
        stream.choice(choice);
    }
    if let (UsageEvent::Include, Some(usage)) = (usage_event, completed.json().get("usage")) {
        stream.usage(usage);
    }
    stream.out.extend_from_slice(sse::DONE);
    stream.out
}

/// The stream so far.
struct Stream {
    endpoint: Endpoint,
    /// The beginning of every event's JSON, up to its choices.
    head: Vec<u8>,
    /// Fields that only the first event carries.
    first: Vec<(String, Json)>,
    out: Vec<u8>,
}

/// What one event adds to a choice.
#[derive(Default)]
struct Part<'a> {
    delta: Vec<(&'a str, &'a Json)>,
    logprobs: Option<&'a Json>,
    finish_reason: Option<&'a Json>,
    other: Vec<(&'a str, &'a Json)>,
}

impl Stream {
    fn new(completed: &Completed) -> Self {
        let entries = completed.json().as_object().unwrap_or_default();
        let placed = |key: &str| PLACED.contains(&key) || HEAD.contains(&key);
        let first = entries
            .iter()
            .filter(|(key, _)| !placed(key))
            .cloned()
            .collect();
        let mut head = Vec::new();
        head.push(b'{');
        let object = Json::String(completed.endpoint().chunk_object().to_owned());
        let id = completed.json().get("id").unwrap_or(&Json::Null);
        write_entry("id", id, &mut head);
        write_entry("object", &object, &mut head);
        for key in HEAD {
            if let Some(value) = completed.json().get(key) {
                write_entry(key, value, &mut head);
            }
        }
        Self {
            endpoint: completed.endpoint(),
            head,
            first,
            out: Vec::new(),
        }
    }

    fn choice(&mut self, choice: &Json) {
        let index = choice.get("index").unwrap_or(&Json::Null);
        let logprobs = choice
            .get("logprobs")
            .filter(|logprobs| !logprobs.is_null());
        match self.endpoint {
            Endpoint::ChatCompletions => {
                let message = choice
                    .get("message")
                    .and_then(Json::as_object)
                    .unwrap_or_default();
                self.message(index, message, logprobs);
            }
            _ => {
                let text = choice
                    .get("text")
                    .and_then(Json::as_str)
                    .unwrap_or_default();
                self.text(index, "text", text, logprobs);
            }
        }
        let entries = choice.as_object().unwrap_or_default().iter();
        let other = entries.filter(|(key, _)| !CHOICE_PLACED.contains(&key.as_str()));
        let other = other.map(|(key, value)| (key.as_str(), value)).collect();
        let finish_reason = choice.get("finish_reason");
        self.part(
            index,
            &Part {
                finish_reason,
                other,
                ..Part::default()
            },
        );
    }

    fn message(&mut self, index: &Json, message: &[(String, Json)], logprobs: Option<&Json>) {
        let empty = Json::String(String::new());
        let field = |key: &str| {
            message
                .iter()
                .find(|(name, _)| name == key)
                .map(|entry| &entry.1)
        };
        let content = field("content").and_then(Json::as_str);
        let role = field("role").unwrap_or(&Json::Null);
        let start = if content.is_some() {
            &empty
        } else {
            &Json::Null
        };
        self.delta(index, vec![("role", role), ("content", start)]);
        for (key, value) in message {
            match (key.as_str(), value) {
                ("role" | "content", _) | (_, Json::Null) => {}
                ("tool_calls", Json::Array(calls)) => {
                    let calls = Json::Array(numbered(calls));
                    self.delta(index, vec![("tool_calls", &calls)]);
                }
                (key, Json::String(text)) => self.text(index, key, text, None),
                (key, value) => self.delta(index, vec![(key, value)]),
            }
        }
        match content {
            Some(content) => self.text(index, "content", content, logprobs),
            // Log probabilities of a refusal: they have an event, the content stays null.
            None if logprobs.is_some() => self.part(
                index,
                &Part {
                    logprobs,
                    ..Part::default()
                },
            ),
            None => {}
        }
    }

    /// Sends a text in pieces; with log probabilities in one, as these belong to tokens whose ends
    /// in the text are not known here.
    fn text(&mut self, index: &Json, key: &str, text: &str, logprobs: Option<&Json>) {
        if let Some(logprobs) = logprobs {
            let text = Json::String(text.to_owned());
            let delta = vec![(key, &text)];
            self.part(
                index,
                &Part {
                    delta,
                    logprobs: Some(logprobs),
                    ..Part::default()
                },
            );
            return;
        }
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = split_piece(rest);
            let piece = Json::String(piece.to_owned());
            self.delta(index, vec![(key, &piece)]);
            rest = after;
        }
    }

    fn delta(&mut self, index: &Json, delta: Vec<(&str, &Json)>) {
        let part = Part {
            delta,
            ..Part::default()
        };
        self.part(index, &part);
    }

    fn part(&mut self, index: &Json, part: &Part<'_>) {
        let mut data = self.head.clone();
        for (key, value) in std::mem::take(&mut self.first) {
            write_entry(&key, &value, &mut data);
        }
        data.extend_from_slice(b",\"choices\":[{");
        write_entry("index", index, &mut data);
        match self.endpoint {
            Endpoint::ChatCompletions => {
                data.extend_from_slice(b",\"delta\":{");
                for (key, value) in &part.delta {
                    write_entry(key, value, &mut data);
                }
                data.push(b'}');
            }
            _ => {
                let empty = Json::String(String::new());
                let text = part.delta.first().map_or(&empty, |(_, text)| text);
                write_entry("text", text, &mut data);
            }
        }
        write_entry("logprobs", part.logprobs.unwrap_or(&Json::Null), &mut data);
        write_entry(
            "finish_reason",
            part.finish_reason.unwrap_or(&Json::Null),
            &mut data,
        );
        for (key, value) in &part.other {
            write_entry(key, value, &mut data);
        }
        data.extend_from_slice(b"}]}");
        sse::event(&data, &mut self.out);
    }

    fn usage(&mut self, usage: &Json) {
        let mut data = self.head.clone();
        write_entry("choices", &Json::Array(Vec::new()), &mut data);
        write_entry("usage", usage, &mut data);
        data.push(b'}');
        sse::event(&data, &mut self.out);
    }
}

/// Writes `"key":value`, with a comma before it unless it is the first of its object.
fn write_entry(key: &str, value: &Json, out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write_string(key, out);
    out.push(b':');
    value.write(out);
}

/// A stream names each tool call by its index, as later events may add to it.
fn numbered(calls: &[Json]) -> Vec<Json> {
    let calls = calls.iter().zip(0_u64..);
    calls
        .map(|(call, index)| {
            let mut entries = vec![("index".to_owned(), Json::unsigned(index))];
            let call = call.as_object().unwrap_or_default().iter();
            entries.extend(call.filter(|(key, _)| key != "index").cloned());
            Json::Object(entries)
        })
        .collect()
}

/// Cuts off up to `REPLAY_EVENT_TEXT_BYTES` bytes, behind a space if there is one.
pub(super) fn split_piece(text: &str) -> (&str, &str) {
    let end = text.floor_char_boundary(REPLAY_EVENT_TEXT_BYTES);
    let (piece, _) = text.split_at_checked(end).unwrap_or((text, ""));
    let end = match piece.rfind(' ') {
        Some(space) if piece.len() < text.len() => space + 1,
        _ => piece.len(),
    };
    text.split_at_checked(end).unwrap_or((text, ""))
}
