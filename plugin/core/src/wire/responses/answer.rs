//! Answers of `/v1/responses` that are fit for the cache.

use crate::wire::collect::Progress;
use crate::wire::json::Json;

/// Types of the events that hold a whole response.
const WHOLE: [&str; 2] = ["response.completed", "response.incomplete"];

/// Is it an answer in text that came to its end, by itself or by `max_output_tokens`? Calls of
/// tools, refusals and filtered answers are not for the next client.
pub(in crate::wire) fn is_complete(response: &Json) -> bool {
    let field = |key: &str| response.get(key).and_then(Json::as_str);
    let reason = response
        .get("incomplete_details")
        .and_then(|details| details.get("reason"))
        .and_then(Json::as_str);
    let ended = match field("status") {
        Some("completed") => true,
        Some("incomplete") => reason == Some("max_output_tokens"),
        _ => false,
    };
    let items = response.get("output").and_then(Json::as_array);
    let items = items.unwrap_or_default();
    ended && !items.is_empty() && items.iter().all(is_text)
}

fn is_text(item: &Json) -> bool {
    let kind = |json: &Json| json.get("type").and_then(Json::as_str).map(str::to_owned);
    let plain = |part: &Json| {
        let text = part.get("text").and_then(Json::as_str);
        kind(part).as_deref() == Some("output_text") && text.is_some()
    };
    match kind(item).as_deref() {
        Some("reasoning") => true,
        Some("message") => {
            let parts = item.get("content").and_then(Json::as_array);
            parts.is_some_and(|parts| parts.iter().all(plain))
        }
        _ => false,
    }
}

/// A stream ends with the whole response, so that there is nothing to put together.
#[derive(Debug, Default)]
pub(in crate::wire) struct ResponseCollector {
    response: Option<Json>,
}

impl ResponseCollector {
    /// Takes one event; `None` if it cannot be read.
    pub(in crate::wire) fn absorb(&mut self, data: &[u8]) -> Option<Progress> {
        let named = |kind: &&str| {
            data.windows(kind.len())
                .any(|window| window == kind.as_bytes())
        };
        if !WHOLE.iter().any(named) {
            return Some(Progress::More);
        }
        let Json::Object(entries) = Json::parse(data).ok()? else {
            return None;
        };
        let of = |key: &str| entries.iter().find(|(name, _)| name == key);
        let kind = of("type").and_then(|(_, kind)| kind.as_str());
        // A text may speak of such an event.
        if !kind.is_some_and(|kind| WHOLE.contains(&kind)) {
            return Some(Progress::More);
        }
        let response = entries.into_iter().find(|(name, _)| name == "response");
        self.response = Some(response?.1);
        Some(Progress::Done)
    }

    /// The response, once its event came.
    pub(in crate::wire) fn into_json(self) -> Option<Json> {
        self.response
    }
}
