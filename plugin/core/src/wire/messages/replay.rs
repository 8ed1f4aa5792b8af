//! A stored message as the stream that it would have been: the events of
//! docs.anthropic.com/en/docs/build-with-claude/streaming.

use crate::wire::json::{Json, Number};
use crate::wire::replay::split_piece;
use crate::wire::sse;

/// Fields of the message that its last events bring.
const LATE: [&str; 2] = ["stop_reason", "stop_sequence"];

/// The whole stream.
pub(in crate::wire) fn replay(message: &Json) -> Vec<u8> {
    let mut out = Vec::new();
    let text = |text: &str| Json::String(text.to_owned());
    send("message_start", vec![("message", begun(message))], &mut out);
    let blocks = message.get("content").and_then(Json::as_array);
    for (block, index) in blocks.unwrap_or_default().iter().zip(0..) {
        let index = || ("index", Json::unsigned(index));
        let start = with(block, "text", text(""));
        let fields = vec![index(), ("content_block", start)];
        send("content_block_start", fields, &mut out);
        let mut rest = block.get("text").and_then(Json::as_str).unwrap_or_default();
        while !rest.is_empty() {
            let (piece, after) = split_piece(rest);
            let delta = object(vec![("type", text("text_delta")), ("text", text(piece))]);
            let fields = vec![index(), ("delta", delta)];
            send("content_block_delta", fields, &mut out);
            rest = after;
        }
        send("content_block_stop", vec![index()], &mut out);
    }
    let late = |key: &'static str| (key, message.get(key).cloned().unwrap_or(Json::Null));
    let mut fields = vec![("delta", object(LATE.map(late).into()))];
    fields.extend(message.get("usage").map(|usage| ("usage", usage.clone())));
    send("message_delta", fields, &mut out);
    send("message_stop", Vec::new(), &mut out);
    out
}

/// The message before its first block: no content, no end, and no output but the first token.
fn begun(message: &Json) -> Json {
    let mut begun = with(message, "content", Json::Array(Vec::new()));
    for key in LATE {
        begun = with(&begun, key, Json::Null);
    }
    match message.get("usage") {
        Some(usage) => {
            let one = Json::Number(Number::Unsigned(1));
            with(&begun, "usage", with(usage, "output_tokens", one))
        }
        None => begun,
    }
}

/// The object with another value in a field that it has.
fn with(whole: &Json, key: &str, value: Json) -> Json {
    let entries = whole.as_object().unwrap_or_default().iter();
    let entry = |(name, old): &(String, Json)| {
        let value = if name == key {
            value.clone()
        } else {
            old.clone()
        };
        (name.clone(), value)
    };
    Json::Object(entries.map(entry).collect())
}

fn object(fields: Vec<(&str, Json)>) -> Json {
    let fields = fields.into_iter();
    Json::Object(fields.map(|(key, value)| (key.to_owned(), value)).collect())
}

fn send(kind: &str, fields: Vec<(&str, Json)>, out: &mut Vec<u8>) {
    let mut entries = vec![("type", Json::String(kind.to_owned()))];
    entries.extend(fields);
    sse::named_event(kind, &object(entries).to_bytes(), out);
}
