//! What the upstream of the edge benchmark answers: made once, as a provider would spell it.

use crate::bench::load::Answer;
use std::time::Duration;

/// A complete chat answer with usage.
pub const CHAT: &str = concat!(
    r#"{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"#,
    r#""model":"smollm2-135m-instruct","choices":[{"index":0,"message":{"role":"assistant","#,
    r#""content":"It needs no oil but a drop of article 90-0110 on the blades after each use."},"#,
    r#""logprobs":null,"finish_reason":"stop"}],"#,
    r#""usage":{"prompt_tokens":1000,"completion_tokens":20,"total_tokens":1020}}"#
);

/// Every event of a stream but the last ones says one word.
const EVENT: &str = concat!(
    r#"data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"#,
    r#""model":"smollm2-135m-instruct","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"#,
    r#""delta":{"content":" blades"},"logprobs":null,"finish_reason":null}]}"#,
    "\n\n"
);
const LAST_EVENTS: [&str; 3] = [
    concat!(
        r#"data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"#,
        r#""model":"smollm2-135m-instruct","system_fingerprint":"fp_44709d6fcb","choices":[{"#,
        r#""index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}"#,
        "\n\n"
    ),
    concat!(
        r#"data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"#,
        r#""model":"smollm2-135m-instruct","choices":[],"usage":{"prompt_tokens":1000,"#,
        r#""completion_tokens":500,"total_tokens":1500}}"#,
        "\n\n"
    ),
    "data: [DONE]\n\n",
];

/// The chat answer, whole.
pub fn whole() -> Answer {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        CHAT.len()
    );
    Answer::Whole([head.as_bytes(), CHAT.as_bytes()].concat())
}

/// A stream of `count` events, `pace` apart, each one chunk and one write.
pub fn events(count: usize, pace: Duration) -> Answer {
    let words = std::iter::repeat_n(EVENT, count.saturating_sub(LAST_EVENTS.len()));
    let chunk = |event: &str| format!("{:x}\r\n{event}\r\n", event.len()).into_bytes();
    let mut events: Vec<Vec<u8>> = words.chain(LAST_EVENTS).map(chunk).collect();
    if let Some(last) = events.last_mut() {
        last.extend_from_slice(b"0\r\n\r\n");
    }
    Answer::Events {
        head: b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
            transfer-encoding: chunked\r\n\r\n"
            .to_vec(),
        events,
        pace,
    }
}
