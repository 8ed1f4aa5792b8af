//! A stored response as the stream that it would have been: the events of
//! platform.openai.com/docs/api-reference/responses-streaming, numbered.

use crate::wire::json::Json;
use crate::wire::replay::split_piece;
use crate::wire::sse;

/// Fields of the response that are not known while it is in progress, and what they are till then.
const IN_PROGRESS: [(&str, Pending); 4] = [
    ("status", Pending::Text("in_progress")),
    ("output", Pending::EmptyList),
    ("usage", Pending::Null),
    ("incomplete_details", Pending::Null),
];

#[derive(Clone, Copy)]
enum Pending {
    Text(&'static str),
    EmptyList,
    Null,
}

/// The whole stream.
pub(in crate::wire) fn replay(response: &Json) -> Vec<u8> {
    let mut events = Events::default();
    let pending = pending(response, &IN_PROGRESS);
    events.send("response.created", &[("response", &pending)]);
    events.send("response.in_progress", &[("response", &pending)]);
    let items = response.get("output").and_then(Json::as_array);
    for (item, index) in items.unwrap_or_default().iter().zip(0..) {
        events.item(item, &Json::unsigned(index));
    }
    let last = match response.get("status").and_then(Json::as_str) {
        Some("incomplete") => "response.incomplete",
        _ => "response.completed",
    };
    events.send(last, &[("response", response)]);
    events.out
}

#[derive(Default)]
struct Events {
    sequence_number: u64,
    out: Vec<u8>,
}

impl Events {
    fn send(&mut self, kind: &str, fields: &[(&str, &Json)]) {
        let mut entries = vec![
            ("type".to_owned(), Json::String(kind.to_owned())),
            (
                "sequence_number".to_owned(),
                Json::unsigned(self.sequence_number),
            ),
        ];
        let fields = fields.iter();
        entries.extend(fields.map(|(key, value)| ((*key).to_owned(), (*value).clone())));
        sse::named_event(kind, &Json::Object(entries).to_bytes(), &mut self.out);
        self.sequence_number = self.sequence_number.saturating_add(1);
    }

    fn item(&mut self, item: &Json, index: &Json) {
        let begun = pending(
            item,
            &[
                ("status", Pending::Text("in_progress")),
                ("content", Pending::EmptyList),
            ],
        );
        let at = ("output_index", index);
        self.send("response.output_item.added", &[at, ("item", &begun)]);
        let id = item.get("id").unwrap_or(&Json::Null);
        if item.get("type").and_then(Json::as_str) == Some("message") {
            let parts = item.get("content").and_then(Json::as_array);
            for (part, number) in parts.unwrap_or_default().iter().zip(0..) {
                let number = Json::unsigned(number);
                self.part(part, [("item_id", id), at, ("content_index", &number)]);
            }
        }
        self.send("response.output_item.done", &[at, ("item", item)]);
    }

    fn part(&mut self, part: &Json, place: [(&str, &Json); 3]) {
        let [item_id, output_index, content_index] = place;
        let empty = pending(part, &[("text", Pending::Text("")), EMPTY_LOGPROBS]);
        let none = Json::Array(Vec::new());
        let send = |events: &mut Events, kind: &str, key: &str, value: &Json| {
            let mut fields = vec![item_id, output_index, content_index, (key, value)];
            if key != "part" {
                fields.push(("logprobs", &none));
            }
            events.send(kind, &fields);
        };
        send(self, "response.content_part.added", "part", &empty);
        let text = part.get("text").and_then(Json::as_str).unwrap_or_default();
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = split_piece(rest);
            let piece = Json::String(piece.to_owned());
            send(self, "response.output_text.delta", "delta", &piece);
            rest = after;
        }
        let text = Json::String(text.to_owned());
        send(self, "response.output_text.done", "text", &text);
        send(self, "response.content_part.done", "part", part);
    }
}

const EMPTY_LOGPROBS: (&str, Pending) = ("logprobs", Pending::EmptyList);

/// An object before it is done. Fields that it does not have are not added.
fn pending(whole: &Json, unknown: &[(&str, Pending)]) -> Json {
    let entries = whole.as_object().unwrap_or_default().iter();
    let entry = |(key, value): &(String, Json)| {
        let pending = unknown.iter().find(|(name, _)| name == key);
        let value = match pending {
            Some((_, Pending::Text(text))) => Json::String((*text).to_owned()),
            Some((_, Pending::EmptyList)) => Json::Array(Vec::new()),
            Some((_, Pending::Null)) => Json::Null,
            None => value.clone(),
        };
        (key.clone(), value)
    };
    Json::Object(entries.map(entry).collect())
}
