//! A whole answer that is fit to be stored and given to the next one who asks the same.

use super::endpoint::Endpoint;
use super::json::Json;
use super::usage::Usage;
use super::{messages, responses};
use crate::limits::ANSWER_CHOICES_MAX;

/// Reasons that end a finished answer. Others (`content_filter`, `abort`, `error`) end one that is
/// not what the next client should get.
const FINISHED: [&str; 4] = ["stop", "length", "tool_calls", "function_call"];

/// A complete, well-formed answer, kept as the upstream sent it: fields that we do not know too.
#[derive(Debug, Clone, PartialEq)]
pub struct Completed {
    endpoint: Endpoint,
    json: Json,
}

/// Reads the body of a 2xx answer that was not streamed. `None` unless it is fit for the cache.
pub fn parse_completed(endpoint: Endpoint, body: &[u8]) -> Option<Completed> {
    Completed::from_json(endpoint, Json::parse(body).ok()?)
}

impl Completed {
    /// Checks that the answer has the endpoint's type and is whole: of chat and completions at
    /// least one choice, each with its own index, its text or message, and a reason why it ended.
    pub fn from_json(endpoint: Endpoint, json: Json) -> Option<Self> {
        let failed = json.get("error").is_some_and(|error| !error.is_null());
        let named = |key: &str| json.get(key).and_then(Json::as_str);
        if failed || named("model").is_none() {
            return None;
        }
        let kind = if endpoint == Endpoint::Messages {
            "type"
        } else {
            "object"
        };
        let identified = endpoint == Endpoint::Embeddings || named("id").is_some();
        if named(kind) != Some(endpoint.answer_object()) || !identified {
            return None;
        }
        let complete = match endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions => has_choices(endpoint, &json),
            Endpoint::Embeddings => has_embeddings(&json),
            Endpoint::Responses => responses::is_complete(&json),
            Endpoint::Messages => messages::is_complete(&json),
        };
        complete.then_some(Self { endpoint, json })
    }

    /// Which API it answers.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The whole answer.
    pub fn json(&self) -> &Json {
        &self.json
    }

    /// What the answer took when it was generated, if it says.
    pub fn usage(&self) -> Option<Usage> {
        Usage::from_json(self.json.get("usage")?)
    }

    /// How many results it holds: choices, or embeddings.
    pub fn results(&self) -> usize {
        let listed = |key: &str| {
            self.json
                .get(key)
                .and_then(Json::as_array)
                .map_or(0, <[_]>::len)
        };
        match self.endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions => listed("choices"),
            Endpoint::Embeddings => listed("data"),
            Endpoint::Responses | Endpoint::Messages => 1,
        }
    }

    /// Whether any choice calls a tool: such an answer has effects and must not be repeated. The
    /// other APIs' answers are only complete if they are text.
    pub fn calls_tools(&self) -> bool {
        let filled = |json: Option<&Json>| match json {
            None | Some(Json::Null) => false,
            Some(Json::Array(calls)) => !calls.is_empty(),
            Some(_) => true,
        };
        self.choices().iter().any(|choice| {
            let reason = choice.get("finish_reason").and_then(Json::as_str);
            let message = choice.get("message");
            matches!(reason, Some("tool_calls" | "function_call"))
                || filled(message.and_then(|message| message.get("tool_calls")))
                || filled(message.and_then(|message| message.get("function_call")))
        })
    }

    /// Its choices, in the order in which they came.
    pub fn choices(&self) -> &[Json] {
        self.json
            .get("choices")
            .and_then(Json::as_array)
            .unwrap_or_default()
    }
}

/// Has it choices, all complete and each with an index of its own?
fn has_choices(endpoint: Endpoint, json: &Json) -> bool {
    let choices = json.get("choices").and_then(Json::as_array);
    let choices = choices.unwrap_or_default();
    if choices.is_empty() || choices.len() > ANSWER_CHOICES_MAX {
        return false;
    }
    let mut indexes = Vec::with_capacity(choices.len());
    for choice in choices {
        let Some(index) = finished_choice(endpoint, choice) else {
            return false;
        };
        indexes.push(index);
    }
    indexes.sort_unstable();
    indexes.dedup();
    indexes.len() == choices.len()
}

/// Has it embeddings, each at the index of its input?
fn has_embeddings(json: &Json) -> bool {
    let data = json.get("data").and_then(Json::as_array);
    let data = data.unwrap_or_default();
    let complete = |(index, item): (usize, &Json)| {
        let placed = item.get("index").and_then(Json::as_u64) == Some(index as u64);
        let filled = matches!(
            item.get("embedding"),
            Some(Json::Array(_) | Json::String(_))
        );
        placed && filled
    };
    !data.is_empty() && data.iter().enumerate().all(complete)
}

/// The index of a choice that is complete.
fn finished_choice(endpoint: Endpoint, choice: &Json) -> Option<u64> {
    let index = choice.get("index")?.as_u64()?;
    let reason = choice.get("finish_reason")?.as_str()?;
    if !FINISHED.contains(&reason) {
        return None;
    }
    match endpoint {
        Endpoint::ChatCompletions => {
            let message = choice.get("message")?;
            message.get("role")?.as_str()?;
            match message.get("content") {
                None | Some(Json::Null | Json::String(_)) => {}
                Some(_) => return None,
            }
            match message.get("tool_calls") {
                None | Some(Json::Null | Json::Array(_)) => {}
                Some(_) => return None,
            }
        }
        _ => {
            choice.get("text")?.as_str()?;
        }
    }
    Some(index)
}
