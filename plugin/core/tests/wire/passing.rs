//! Events that are told by their bytes do what they would do if they were read: whatever a stream
//! holds and however it is cut, what passes, what it used and what is stored are the same as those
//! of the parts that read every event.

use farthing_core::wire::meter::StreamMeter;
use farthing_core::wire::{Endpoint, More, PassingStream, StreamCollector, UsageStripper};
use std::fmt::Write;

const STREAMS: u64 = 3_000;

/// What a delta may say, as it stands in the JSON.
const TEXTS: [&str; 12] = [
    " word",
    "",
    "\\n\\n",
    "\\\"usage\\\":{\\\"prompt_tokens\\\":1}",
    "\u{e9}\u{4e2d}\u{1f600}",
    "\\u00e9 \\ud83d\\ude00",
    "[DONE]",
    "data: x",
    "\\\\",
    "bad \\x escape",
    "lone \\ud83d",
    "1234567890, and so on for longer than one look at it reaches",
];

/// What surrounds the text: all that differs between the servers whose events these are.
const FRAMES: [(&str, &str); 9] = [
    (
        r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":""#,
        r#""},"logprobs":null,"finish_reason":null}],"usage":null}"#,
    ),
    (
        r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":""#,
        r#""},"finish_reason":null}],"obfuscation":"PADDING"}"#,
    ),
    (
        r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":1,"delta":{"role":"assistant","content":""#,
        r#""},"finish_reason":null}],"system_fingerprint":"f"}"#,
    ),
    (
        r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"reasoning_content":""#,
        r#"","content":null},"finish_reason":null}]}"#,
    ),
    (
        r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":""#,
        r#""},"logprobs":{"content":[{"token":"a","logprob":-1}]},"finish_reason":null}]}"#,
    ),
    (
        r#"{"id":"c","object":"chat.completion.chunk","model":"m","text":"x","choices":[{"index":0,"delta":{"reasoning":""#,
        r#""},"finish_reason":null}]}"#,
    ),
    (
        r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":""#,
        r#""}}]},"finish_reason":null}]}"#,
    ),
    (
        r#"{"id":"c","object":"text_completion","model":"m","choices":[{"index":0,"text":""#,
        r#"","finish_reason":null}]}"#,
    ),
    (
        r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":""#,
        r#""},"finish_reason":null}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
    ),
];

/// Events that end an answer, or should.
const ENDS: [&str; 4] = [
    r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    r#"{"id":"c","object":"text_completion","model":"m","choices":[{"index":0,"text":"","finish_reason":"stop"}]}"#,
    r#"{"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6}}"#,
    "[DONE]",
];

#[test]
fn streams_are_the_same_whether_their_events_are_read_or_told() {
    for seed in 0..STREAMS {
        let mut random = Random(seed);
        let stream = stream(&mut random);
        let endpoint = match random.below(3) {
            0 => Endpoint::Completions,
            _ => Endpoint::ChatCompletions,
        };
        let (strips, collects) = (random.below(2) == 0, random.below(4) > 0);
        let found = passed(endpoint, strips, collects, &stream, &mut random);
        let expected = read(endpoint, strips, collects, &stream);
        assert_eq!(found, expected, "seed {seed}");
    }
}

/// What reached the client, the usage, the tokens generated, whether it ended, and what is stored.
type Outcome = (String, Option<u64>, u64, bool, Option<String>);

fn passed(
    endpoint: Endpoint,
    strips: bool,
    collects: bool,
    stream: &[u8],
    random: &mut Random,
) -> Outcome {
    let stripper = strips.then(UsageStripper::default);
    let collector = collects.then(|| StreamCollector::new(endpoint));
    let mut passing = PassingStream::new(endpoint, stripper, collector);
    let mut client = Vec::new();
    for chunk in chunks(stream, random) {
        let replaced = passing.push(chunk, More::Follows);
        client.extend_from_slice(replaced.as_deref().unwrap_or(chunk));
    }
    client.extend(passing.push(b"", More::Ended).unwrap_or_default());
    let completed = passing.take_completed().map(|completed| {
        let json = completed.json().to_bytes();
        String::from_utf8(json).unwrap()
    });
    let meter = passing.meter();
    (
        String::from_utf8(client).unwrap(),
        meter.usage().map(|usage| usage.total_tokens()),
        meter.generated_tokens(),
        meter.is_done(),
        completed,
    )
}

/// The same by the parts that read every event, all of it at once.
fn read(endpoint: Endpoint, strips: bool, collects: bool, stream: &[u8]) -> Outcome {
    let mut meter = StreamMeter::new(endpoint);
    meter.push(stream);
    let mut client = stream.to_vec();
    if strips {
        let mut stripper = UsageStripper::default();
        client.clear();
        stripper.push(stream, &mut client);
        stripper.finish(&mut client);
    }
    let mut collector = StreamCollector::new(endpoint);
    collector.push(stream);
    let completed = collector.finish().filter(|_| collects);
    (
        String::from_utf8(client).unwrap(),
        meter.usage().map(|usage| usage.total_tokens()),
        meter.generated_tokens(),
        meter.is_done(),
        completed.map(|completed| String::from_utf8(completed.json().to_bytes()).unwrap()),
    )
}

/// One event after the other, all at once, or cut anywhere.
fn chunks<'a>(stream: &'a [u8], random: &mut Random) -> Vec<&'a [u8]> {
    match random.below(3) {
        0 => vec![stream],
        1 => {
            let text = std::str::from_utf8(stream).unwrap();
            text.split_inclusive("\n\n").map(str::as_bytes).collect()
        }
        _ => {
            let size = 1 + random.below(400);
            stream.chunks(size).collect()
        }
    }
}

fn stream(random: &mut Random) -> Vec<u8> {
    let mut stream = String::new();
    // One server, that hardly ever says anything strange.
    let frame = random.below(FRAMES.len());
    let line_end = ["\n", "\n", "\n", "\r\n"][random.below(4)];
    for _ in 0..random.below(30) {
        let frame = match random.below(12) {
            0 => random.below(FRAMES.len()),
            _ => frame,
        };
        let text = match random.below(40) {
            0 => random.below(TEXTS.len()),
            _ => random.below(9),
        };
        let (before, after) = FRAMES[frame];
        let padding = "aB3".repeat(1 + random.below(5));
        let after = after.replace("PADDING", &padding);
        let _ = write!(stream, "data: {before}{}{after}", TEXTS[text]);
        stream.push_str(line_end);
        stream.push_str(line_end);
    }
    for end in ENDS {
        if random.below(8) > 0 {
            let _ = write!(stream, "data: {end}\n\n");
        }
    }
    if random.below(8) == 0 {
        let (before, after) = FRAMES[frame];
        let _ = write!(stream, "data: {before}late{after}\n\n");
    }
    stream.into_bytes()
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit.max(1) as u64) as usize
    }
}
