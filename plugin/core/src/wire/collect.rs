//! Rebuilds from a stream the answer that would have come unstreamed, so that one cache entry can
//! answer both forms.
//!
//! Whatever cannot be merged without a guess makes the answer unfit for the cache, never wrong.

mod choice;

use self::choice::PartialChoice;
pub(super) use self::choice::TEXTS;
use super::alike::Alike;
use super::completed::Completed;
use super::endpoint::Endpoint;
use super::json::Json;
use super::messages::MessageCollector;
use super::responses::ResponseCollector;
use super::sse::{DONE_DATA, SseDecoder, SseEvent};
use crate::limits::{ANSWER_CHOICES_MAX, STREAM_COLLECT_BYTES_MAX};

/// Entries of a JSON object, in order.
type Entries = Vec<(String, Json)>;

/// Fields of an event that say whose it is. The first event that has one decides; some servers
/// leave them empty at first.
const HEAD: [&str; 5] = [
    "id",
    "created",
    "model",
    "system_fingerprint",
    "service_tier",
];

/// Random padding that OpenAI adds to events against traffic analysis.
pub(super) const PADDING: &str = "obfuscation";

/// Takes a stream as it passes by and keeps what it adds up to.
#[derive(Debug)]
pub struct StreamCollector {
    endpoint: Endpoint,
    decoder: SseDecoder,
    /// `None` once the stream is known to be unfit.
    answer: Option<Partial>,
    done: bool,
}

/// The answer so far, in the shape of its API's streams.
#[derive(Debug)]
enum Partial {
    Choices(PartialChoices),
    Response(ResponseCollector),
    Message(MessageCollector),
}

/// May more events follow?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The answer is not whole yet.
    More,
    /// This event ended it.
    Done,
}

/// An answer of chat or completions, so far.
#[derive(Debug, Default)]
struct PartialChoices {
    head: Entries,
    choices: Vec<PartialChoice>,
    usage: Option<Json>,
    bytes: usize,
}

impl StreamCollector {
    /// A collector of one stream that answers `endpoint`.
    pub fn new(endpoint: Endpoint) -> Self {
        let answer = match endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions => {
                Some(Partial::Choices(PartialChoices::default()))
            }
            Endpoint::Responses => Some(Partial::Response(ResponseCollector::default())),
            Endpoint::Messages => Some(Partial::Message(MessageCollector::default())),
            Endpoint::Embeddings => None,
        };
        Self {
            endpoint,
            decoder: SseDecoder::default(),
            answer,
            done: false,
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        let Some(mut answer) = self.answer.take() else {
            return;
        };
        let (endpoint, done) = (self.endpoint, &mut self.done);
        let mut fit = true;
        self.decoder.push(chunk, |event| {
            fit = fit
                && match event {
                    SseEvent::TooLong => false,
                    // Servers may send it after the last event of any API.
                    SseEvent::Data(DONE_DATA) => {
                        *done |= matches!(answer, Partial::Choices(_));
                        *done
                    }
                    // Nothing else may follow the end.
                    SseEvent::Data(_) if *done => false,
                    SseEvent::Data(data) => match answer.absorb(endpoint, data) {
                        Some(progress) => {
                            *done = progress == Progress::Done;
                            true
                        }
                        None => false,
                    },
                };
        });
        self.answer = fit.then_some(answer);
    }

    /// Takes an event like one before it, but for this text of a choice; `other_bytes` is what all
    /// else in it adds. False if that cannot be done: the event is still to be pushed.
    pub(super) fn push_alike(&mut self, event: &Alike, text: &str) -> bool {
        match &mut self.answer {
            None => true,
            Some(Partial::Choices(choices)) if !self.done => choices.append(event, text),
            Some(_) => false,
        }
    }

    /// Whether the stream may still turn out fit for the cache.
    pub fn is_collecting(&self) -> bool {
        self.answer.is_some()
    }

    /// The answer, once the stream has ended. `None` unless its end came and all of it is complete.
    pub fn finish(self) -> Option<Completed> {
        if !self.done || self.decoder.is_mid_event() {
            return None;
        }
        let json = match self.answer? {
            Partial::Choices(choices) => choices.into_json(self.endpoint),
            Partial::Response(response) => response.into_json()?,
            Partial::Message(message) => message.into_json()?,
        };
        Completed::from_json(self.endpoint, json)
    }
}

impl Partial {
    /// Merges one event. `None` means that it cannot be merged.
    fn absorb(&mut self, endpoint: Endpoint, data: &[u8]) -> Option<Progress> {
        match self {
            Self::Choices(choices) => choices.absorb(endpoint, data).map(|()| Progress::More),
            Self::Response(response) => response.absorb(data),
            Self::Message(message) => message.absorb(data),
        }
    }
}

impl PartialChoices {
    /// Merges one event. `None` means that it cannot be merged.
    fn absorb(&mut self, endpoint: Endpoint, data: &[u8]) -> Option<()> {
        let Json::Object(entries) = Json::parse(data).ok()? else {
            return None;
        };
        for (key, value) in entries {
            match (key.as_str(), value) {
                (PADDING, _) => {}
                ("object", Json::String(object)) if object == endpoint.chunk_object() => {}
                ("object" | "error", value) if !value.is_null() => return None,
                ("choices", Json::Array(choices)) => {
                    for choice in choices {
                        self.absorb_choice(endpoint, choice, data.len())?;
                    }
                }
                ("choices", _) => return None,
                ("usage", usage @ Json::Object(_)) => self.usage = Some(usage),
                (_, Json::Null) => {}
                (key, value) if HEAD.contains(&key) => set_first(&mut self.head, key, value),
                (key, value) => self.bytes += set_once(&mut self.head, key, value)?,
            }
        }
        (self.bytes <= STREAM_COLLECT_BYTES_MAX).then_some(())
    }

    fn append(&mut self, event: &Alike, text: &str) -> bool {
        let bytes = self.bytes.saturating_add(text.len() + event.other_bytes);
        let choice = (self.choices.iter_mut()).find(|choice| choice.index() == event.index);
        let fits = bytes <= STREAM_COLLECT_BYTES_MAX
            && choice.is_some_and(|choice| choice.append(event.field, text));
        if fits {
            self.bytes = bytes;
        }
        fits
    }

    fn absorb_choice(
        &mut self,
        endpoint: Endpoint,
        choice: Json,
        event_bytes: usize,
    ) -> Option<()> {
        let index = choice.get("index")?.as_u64()?;
        let Json::Object(entries) = choice else {
            return None;
        };
        let position = self
            .choices
            .iter()
            .position(|choice| choice.index() == index);
        if position.is_none() {
            if self.choices.len() >= ANSWER_CHOICES_MAX {
                return None;
            }
            self.choices.push(PartialChoice::new(index));
        }
        let into = match position {
            Some(position) => self.choices.get_mut(position)?,
            None => self.choices.last_mut()?,
        };
        self.bytes += into.absorb(endpoint, entries, event_bytes)?;
        Some(())
    }

    fn into_json(self, endpoint: Endpoint) -> Json {
        let mut entries = self.head;
        let object = Json::String(endpoint.answer_object().to_owned());
        entries.insert(entries.len().min(1), ("object".to_owned(), object));
        let mut choices = self.choices;
        choices.sort_by_key(PartialChoice::index);
        let choices = choices
            .into_iter()
            .map(|choice| choice.into_json(endpoint))
            .collect();
        entries.push(("choices".to_owned(), Json::Array(choices)));
        entries.extend(self.usage.map(|usage| ("usage".to_owned(), usage)));
        Json::Object(entries)
    }
}

/// Keeps the first value that is not empty.
fn set_first(entries: &mut Entries, key: &str, value: Json) {
    let empty = value.as_str().is_some_and(str::is_empty) || value.as_u64() == Some(0);
    if !empty && !entries.iter().any(|(known, _)| known == key) {
        entries.push((key.to_owned(), value));
    }
}

/// Keeps a field that we do not know: sent once, or every time the same. Two values cannot be
/// merged without knowing what they mean.
fn set_once(entries: &mut Entries, key: &str, value: Json) -> Option<usize> {
    match entries.iter().find(|(known, _)| known == key) {
        Some((_, known)) => (*known == value).then_some(0),
        None => {
            let bytes = key.len() + value.to_bytes().len();
            entries.push((key.to_owned(), value));
            Some(bytes)
        }
    }
}
