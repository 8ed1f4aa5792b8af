//! Watches an answer go by without reading it: the usage it reports, and an estimate of its length
//! for when it reports none or is cut off.

use super::sse::{DONE_DATA, SseDecoder, SseEvent};
use super::usage::Usage;
use crate::tokens::{Calibration, Count};

/// Names of the strings that a model wrote, in whole answers and in events of a stream.
const GENERATED: [&[u8]; 4] = [
    b"\"content\":",
    b"\"text\":",
    b"\"arguments\":",
    b"\"reasoning_content\":",
];

/// What a stream has shown so far.
#[derive(Debug, Default)]
pub struct StreamMeter {
    decoder: SseDecoder,
    usage: Option<Usage>,
    generated: Count,
    done: bool,
}

impl StreamMeter {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        let (usage, generated, done) = (&mut self.usage, &mut self.generated, &mut self.done);
        self.decoder.push(chunk, |event| match event {
            SseEvent::TooLong => {}
            SseEvent::Data(DONE_DATA) => *done = true,
            SseEvent::Data(data) => {
                *usage = Usage::find(data).or(*usage);
                count_generated(data, generated);
            }
        });
    }

    /// The last usage seen.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Whether `[DONE]` went by.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Estimated tokens generated so far.
    pub fn generated_tokens(&self) -> u64 {
        Calibration::default().tokens(&self.generated)
    }
}

/// Estimated tokens that the model wrote, in the body of a whole answer or a part of one.
pub fn generated_tokens(body: &[u8]) -> u64 {
    let mut count = Count::default();
    count_generated(body, &mut count);
    Calibration::default().tokens(&count)
}

/// Counts the strings under the names above, by a scan: an estimate does not deserve a parse.
fn count_generated(data: &[u8], count: &mut Count) {
    let mut rest = data;
    while let Some(at) = rest.iter().position(|byte| *byte == b'"') {
        let (_, from_quote) = rest.split_at_checked(at).unwrap_or((rest, b""));
        let name = GENERATED.iter().find(|name| from_quote.starts_with(name));
        let Some(value) = name.and_then(|name| from_quote.get(name.len()..)) else {
            rest = after_string(from_quote);
            continue;
        };
        let value = value.trim_ascii_start();
        rest = value;
        if value.first() == Some(&b'"') {
            rest = after_string(value);
            let length = value.len().saturating_sub(rest.len());
            let text = value.get(1..length.saturating_sub(1)).unwrap_or_default();
            count.text(text);
        }
    }
}

/// What follows the JSON string that begins here.
fn after_string(from_quote: &[u8]) -> &[u8] {
    let mut escaped = false;
    for (index, byte) in from_quote.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                return from_quote
                    .get(index.saturating_add(1)..)
                    .unwrap_or_default();
            }
            _ => {}
        }
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
            let mut meter = StreamMeter::default();
            stream.chunks(size).for_each(|chunk| meter.push(chunk));
            assert!(meter.is_done());
            assert_eq!(meter.generated_tokens(), 3);
            assert_eq!(meter.usage().map(|usage| usage.total_tokens()), Some(5));
        }
    }
}
