//! Watches an answer go by without reading it: the usage it reports, and an estimate of its length
//! for when it reports none or is cut off.

use super::endpoint::Endpoint;
use super::json::Json;
use super::sse::{DONE_DATA, SseDecoder, SseEvent};
use super::usage::Usage;
use crate::tokens::{Calibration, Count};
use memchr::{memchr, memchr2, memmem};
use std::ops::Range;

/// Names of the strings that a model wrote, in whole answers and in events of a stream.
const GENERATED: [&[u8]; 6] = [
    b"\"content\":",
    b"\"text\":",
    b"\"arguments\":",
    b"\"reasoning_content\":",
    b"\"thinking\":",
    b"\"partial_json\":",
];

/// The same in a stream of `/v1/responses`, whose later events repeat what the deltas said.
const DELTAS: [&[u8]; 1] = [b"\"delta\":"];

/// Types of the events that end a stream of `/v1/responses`; without their names events are not
/// parsed for it. A response that failed is not an answer that ended.
const RESPONSE_ENDS: [&str; 2] = ["response.completed", "response.incomplete"];
/// The same of `/v1/messages`.
const MESSAGE_ENDS: [&str; 1] = ["message_stop"];

/// What a stream has shown so far.
#[derive(Debug)]
pub struct StreamMeter {
    endpoint: Endpoint,
    decoder: SseDecoder,
    usage: Option<Usage>,
    generated: Count,
    done: bool,
}

impl StreamMeter {
    /// Of a stream that answers `endpoint`.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            decoder: SseDecoder::default(),
            usage: None,
            generated: Count::default(),
            done: false,
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        let (usage, generated, done) = (&mut self.usage, &mut self.generated, &mut self.done);
        let (names, ends) = in_streams_of(self.endpoint);
        self.decoder.push(chunk, |event| match event {
            SseEvent::TooLong => {}
            SseEvent::Data(DONE_DATA) => *done |= ends.is_empty(),
            SseEvent::Data(data) => {
                *usage = Usage::find_in_event(data, *usage).or(*usage);
                *done |= is_end(data, ends);
                count_generated(data, names, generated);
            }
        });
    }

    /// Takes an event that says this and nothing else.
    pub(super) fn push_alike(&mut self, text: &[u8]) {
        self.generated.text(text);
    }

    /// Does an event begin with the next byte, whatever that is?
    pub(super) fn is_between_events(&self) -> bool {
        self.decoder.is_between_events()
    }

    /// The last usage seen.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Whether the end of a whole answer went by.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Estimated tokens generated so far.
    pub fn generated_tokens(&self) -> u64 {
        Calibration::default().tokens(&self.generated)
    }
}

/// Names of what a model wrote in a stream, and the types of its last event: none where that is
/// `[DONE]`.
fn in_streams_of(endpoint: Endpoint) -> (&'static [&'static [u8]], &'static [&'static str]) {
    match endpoint {
        Endpoint::Responses => (&DELTAS, &RESPONSE_ENDS),
        Endpoint::Messages => (&GENERATED, &MESSAGE_ENDS),
        _ => (&GENERATED, &[]),
    }
}

fn is_end(data: &[u8], ends: &[&str]) -> bool {
    let named = |end: &&str| memmem::find(data, end.as_bytes()).is_some();
    // Text may name an event; only the type at the top is one.
    ends.iter().any(named)
        && Json::parse(data).is_ok_and(|event| {
            let kind = event.get("type").and_then(Json::as_str);
            kind.is_some_and(|kind| ends.contains(&kind))
        })
}

/// Estimated tokens that the model wrote, in the body of a whole answer or a part of one.
pub fn generated_tokens(body: &[u8]) -> u64 {
    let mut count = Count::default();
    count_generated(body, &GENERATED, &mut count);
    Calibration::default().tokens(&count)
}

/// Counts the strings under these names.
fn count_generated(data: &[u8], names: &[&[u8]], count: &mut Count) {
    each_generated(data, names, |text| {
        count.text(data.get(text).unwrap_or_default());
    });
}

/// Where the one text stands that a model wrote in an event of chat or completions; `None` if there
/// are none or several.
pub(super) fn only_text(data: &[u8]) -> Option<Range<usize>> {
    let mut found = 0_usize;
    let mut only = None;
    each_generated(data, &GENERATED, |text| {
        found += 1;
        only = Some(text);
    });
    only.filter(|_| found == 1)
}

/// Finds the strings under these names, by a scan: an estimate does not deserve a parse.
fn each_generated(data: &[u8], names: &[&[u8]], mut found: impl FnMut(Range<usize>)) {
    let mut rest = data;
    while let Some(at) = memchr(b'"', rest) {
        let (_, from_quote) = rest.split_at_checked(at).unwrap_or((rest, b""));
        let name = names.iter().find(|name| from_quote.starts_with(name));
        let Some(value) = name.and_then(|name| from_quote.get(name.len()..)) else {
            rest = after_string(from_quote);
            continue;
        };
        let value = value.trim_ascii_start();
        rest = value;
        if value.first() == Some(&b'"') {
            rest = after_string(value);
            // Between its quotes.
            let from = data.len().saturating_sub(value.len()).saturating_add(1);
            let to = data.len().saturating_sub(rest.len()).saturating_sub(1);
            found(from..to.max(from));
        }
    }
}

/// What follows the JSON string that begins here.
fn after_string(from_quote: &[u8]) -> &[u8] {
    let mut rest = from_quote.get(1..).unwrap_or_default();
    while let Some(at) = memchr2(b'"', b'\\', rest) {
        let Some((mark, behind)) = rest.get(at..).and_then(<[u8]>::split_first) else {
            break;
        };
        if *mark == b'"' {
            return behind;
        }
        rest = behind.get(1..).unwrap_or_default();
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_the_model_wrote_and_nothing_else() {
        let short =
            br#"{"id":"a","choices":[{"index":0,"message":{"content":"four words of text"}}]}"#;
        assert_eq!(generated_tokens(short), 5);
        let escaped =
            br#"{"text" :"no", "x":"\"content\":\"no\"", "content":null,"text":"a \"b\" c"}"#;
        assert!(
            (3..=6).contains(&generated_tokens(escaped)),
            "{}",
            generated_tokens(escaped)
        );
        assert_eq!(generated_tokens(br#"{"content":"cut of"#), 3);
    }

    #[test]
    fn a_stream_has_usage_and_an_end() {
        let stream = b"data: {\"choices\":[{\"delta\":{\"content\":\"one two\"}}]}\n\n\
            data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n\
            data: [DONE]\n\n";
        for size in 1..stream.len() {
            let mut meter = StreamMeter::new(Endpoint::ChatCompletions);
            stream.chunks(size).for_each(|chunk| meter.push(chunk));
            assert!(meter.is_done());
            assert_eq!(meter.generated_tokens(), 3);
            assert_eq!(meter.usage().map(|usage| usage.total_tokens()), Some(5));
        }
    }
}
