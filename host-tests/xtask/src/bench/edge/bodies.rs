//! The bodies of the edge benchmark: an ordinary chat of any size, and the worst that fit the
//! limit.

use crate::bench::load::SERIAL;

/// What every body asks for: a virtual model, so that the router has to choose, and an answer that
/// may be kept.
const ASKED: &str = r#""model":"auto","temperature":0,"max_tokens":64"#;
const SYSTEM: &str = "You are the assistant of an online shop for garden tools. Answer in short \
    sentences, name the article number where you know it, and say so when you do not know.";
/// A turn of a conversation, as JSON spells it.
const TURNS: [(&str, &str); 4] = [
    (
        "user",
        "Hello! My hedge trimmer (art. 40-7712) stops after a minute or two. What can I do?",
    ),
    (
        "assistant",
        "That is often the thermal switch.\\n\\n1. Let it cool for ten minutes.\\n2. Clean the \
         vents with a dry brush.\\n3. Check the cable: at 25 m you need 1.5 mm\\u00b2.\\n\\nIf it \
         still stops, send us the number under the handle, such as \\\"HT-2231-B\\\".",
    ),
    (
        "user",
        "It says HT-2231-C. By the way, is the extension cable in the set long enough?",
    ),
    (
        "assistant",
        "Then it is covered until 2027-03-01. The cable of the set has 10 m and 0.75 mm\\u00b2, \
         which is too thin for that motor; article 11-0302 fits.\\n\\n```json\\n{\\\"order\\\": \
         [{\\\"article\\\": \\\"11-0302\\\", \\\"count\\\": 1}]}\\n```",
    ),
];

/// A chat of exactly so many bytes: a system prompt, a history that repeats until it is long
/// enough, and a question that the serial number tells from every other.
pub fn chat(bytes: usize) -> Vec<u8> {
    chat_with(bytes, "")
}

/// The same, streamed with usage.
pub fn streamed_chat(bytes: usize) -> Vec<u8> {
    chat_with(
        bytes,
        r#","stream":true,"stream_options":{"include_usage":true}"#,
    )
}

fn chat_with(bytes: usize, more: &str) -> Vec<u8> {
    let mut body =
        format!(r#"{{{ASKED}{more},"messages":[{{"role":"system","content":"{SYSTEM}"}}"#);
    let last = |filling: &str| {
        format!(
            r#",{{"role":"user","content":"Question {SERIAL}: and which oil does it need?{filling}"}}]}}"#
        )
    };
    for (role, content) in TURNS.iter().cycle() {
        let turn = format!(r#",{{"role":"{role}","content":"{content}"}}"#);
        if body.len() + turn.len() + last("").len() > bytes {
            break;
        }
        body.push_str(&turn);
    }
    let missing = bytes.saturating_sub(body.len() + last("").len());
    let filling: String = " Please answer soon."
        .chars()
        .cycle()
        .take(missing)
        .collect();
    body.push_str(&last(&filling));
    body.into_bytes()
}

/// Bodies of nearly 1 MiB that were made to be slow, each with the name of its kind. Some are
/// refused, which must be quick as well.
pub fn adversarial() -> Vec<(&'static str, Vec<u8>)> {
    /// The limit, less what stands around the text.
    const ROOM: usize = (1 << 20) - 400;
    let said = |text: String| around(&format!(r#"[{{"role":"user","content":"{text}"}}]"#), "");
    let fill = |part: &str| said(part.repeat(ROOM / part.len()));
    let keys: String = (0..ROOM / 12)
        .map(|key| format!(r#","k{key:06}":0"#))
        .collect();
    let nested = |depth: usize| format!("{}0{}", "[".repeat(depth), "]".repeat(depth));
    let tools = vec![nested(50); ROOM / 102].join(",");
    let message = r#"{"role":"user","content":"a b"},"#;
    let messages = |count: usize| message.repeat(count).trim_end_matches(',').to_string();
    let mut random_bytes = said(String::from("@")).to_vec();
    let at = random_bytes
        .iter()
        .position(|byte| *byte == b'@')
        .unwrap_or(0);
    let noise = noise()
        .filter(|byte| !matches!(byte, b'"' | b'\\' | 0..=31))
        .take(ROOM);
    random_bytes.splice(at..=at, noise);
    vec![
        (
            "deep",
            around("[]", &format!(r#","metadata":{}"#, nested(ROOM / 2))),
        ),
        (
            "nested_values",
            around("[]", &format!(r#","metadata":[{tools}]"#)),
        ),
        (
            "many_keys",
            around("[]", &format!(r#","metadata":{{"k":0{keys}}}"#)),
        ),
        (
            "numbers",
            around(
                "[]",
                &format!(r#","metadata":[0{}]"#, ",0".repeat(ROOM / 2)),
            ),
        ),
        ("unicode_escapes", fill("\\u4e2d")),
        ("quotes", fill("\\\"")),
        (
            "messages_allowed",
            around(&format!("[{}]", messages(2_048)), ""),
        ),
        (
            "messages_many",
            around(&format!("[{}]", messages(ROOM / message.len())), ""),
        ),
        ("one_letter", fill("a")),
        ("underscores", fill("_")),
        ("spaces", fill(" ")),
        ("digits", fill("7")),
        ("cjk", fill("\u{4e2d}")),
        ("emoji", fill("\u{1f600}")),
        ("random_bytes", random_bytes),
    ]
}

fn around(messages: &str, more: &str) -> Vec<u8> {
    format!(r#"{{{ASKED},"user":"{SERIAL}","messages":{messages}{more}}}"#).into_bytes()
}

/// Bytes without a pattern, the same in every run (xorshift64*, Vigna 2016).
pub fn noise() -> impl Iterator<Item = u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    std::iter::repeat_with(move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::{adversarial, chat, streamed_chat};
    use crate::bench::load::SERIAL;
    use serde_json::Value;

    #[test]
    fn chats_have_their_size_and_are_json() {
        for bytes in [1_024, 4_096, 256 << 10] {
            for body in [chat(bytes), streamed_chat(bytes)] {
                assert_eq!(body.len(), bytes);
                let json: Value = serde_json::from_slice(&body).expect("JSON");
                assert_eq!(json["messages"][0]["role"], "system");
                let text = String::from_utf8(body).expect("UTF-8");
                assert_eq!(text.matches(SERIAL).count(), 1);
            }
        }
    }

    #[test]
    fn adversarial_bodies_are_as_large_as_they_may_be() {
        for (kind, body) in adversarial() {
            assert!(body.len() <= 1 << 20, "{kind} has {} bytes", body.len());
            // 2,048 messages of the least size are all that is allowed.
            assert!(body.len() > 900_000 || kind == "messages_allowed", "{kind}");
        }
    }
}
