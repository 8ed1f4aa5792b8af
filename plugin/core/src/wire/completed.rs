//! A whole answer that is fit to be stored and given to the next one who asks the same.

use super::json::Json;
use super::request::Endpoint;
use super::usage::Usage;
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
    /// Checks that the answer has the endpoint's type, and at least one choice, each with its own
    /// index, its text or message, and a reason why it ended.
    pub fn from_json(endpoint: Endpoint, json: Json) -> Option<Self> {
        let named = json.get("object").and_then(Json::as_str) == Some(endpoint.answer_object());
        let failed = json.get("error").is_some_and(|error| !error.is_null());
        let identified = ["id", "model"]
            .iter()
            .all(|key| json.get(key).and_then(Json::as_str).is_some());
        if !named || failed || !identified {
            return None;
        }
        let choices = json.get("choices")?.as_array()?;
        if choices.is_empty() || choices.len() > ANSWER_CHOICES_MAX {
            return None;
        }
        let mut indexes = Vec::with_capacity(choices.len());
        for choice in choices {
            indexes.push(finished_choice(endpoint, choice)?);
        }
        indexes.sort_unstable();
        indexes.dedup();
        (indexes.len() == choices.len()).then_some(Self { endpoint, json })
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

    /// Whether any choice calls a tool: such an answer has effects and must not be repeated.
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

/// The index of a choice that is complete.
fn finished_choice(endpoint: Endpoint, choice: &Json) -> Option<u64> {
    let index = choice.get("index")?.as_u64()?;
    let reason = choice.get("finish_reason")?.as_str()?;
    if !FINISHED.contains(&reason) {
        return None;
    }
    match endpoint {
        Endpoint::Completions => {
            choice.get("text")?.as_str()?;
        }
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
    }
    Some(index)
}
