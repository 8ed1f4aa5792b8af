//! What a chat says beside its messages, and which of it a provider has no word for. A field is
//! dropped only where that changes nothing; what would change the answer is refused by name.

use super::turns::unsupported;
use crate::error::ApiError;
use crate::wire::fields::invalid_value;
use crate::wire::json::{Json, Number, echo};
use crate::wire::request::Request;

/// Every provider is told these in its own way.
const TOLD: [&str; 13] = [
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "stream",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
];

/// These say how an answer travels, whose it is, and what OpenAI keeps of it: nothing about what is
/// in it.
const SILENT: [&str; 7] = [
    "stream_options",
    "user",
    "metadata",
    "store",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
];

/// Refuses the first field that is neither told, nor in `also`, nor without effect.
pub(super) fn check(request: &Request, also: &[&str]) -> Result<(), ApiError> {
    let entries = request.json.as_object().unwrap_or_default();
    let known = |key: &str| TOLD.contains(&key) || SILENT.contains(&key) || also.contains(&key);
    let refused = entries
        .iter()
        .find(|(key, value)| !known(key) && !changes_nothing(key, value));
    match refused {
        Some((key, _)) => Err(unsupported(echo(key))),
        None => Ok(()),
    }
}

/// Is this what happens anyway?
fn changes_nothing(key: &str, value: &Json) -> bool {
    let number = |expected: f64| matches!(value, Json::Number(of) if of.as_f64() == expected);
    match (key, value) {
        (_, Json::Null) => true,
        ("n" | "best_of" | "repetition_penalty", _) => number(1.0),
        ("presence_penalty" | "frequency_penalty" | "min_p" | "min_tokens", _) => number(0.0),
        ("logprobs" | "ignore_eos", _) => *value == Json::Bool(false),
        ("parallel_tool_calls", _) => *value == Json::Bool(true),
        ("logit_bias", Json::Object(biases)) => biases.is_empty(),
        ("service_tier", Json::String(tier)) => matches!(tier.as_str(), "auto" | "default"),
        ("verbosity", Json::String(verbosity)) => verbosity == "medium",
        // Others than "text" have been refused.
        ("modalities", Json::Array(_)) => true,
        ("response_format", _) => value.get("type").and_then(Json::as_str) == Some("text"),
        ("farthing", _) => value.get("confidence") != Some(&Json::Bool(true)),
        _ => false,
    }
}

/// The schema that an answer must follow.
pub(super) fn json_schema(request: &Request) -> Option<&Json> {
    let format = request.response_format.as_ref()?;
    format.get("json_schema")?.get("schema")
}

/// Does it ask for any JSON at all?
pub(super) fn wants_json_object(request: &Request) -> bool {
    let format = request.response_format.as_ref();
    let kind = format.and_then(|format| format.get("type")?.as_str());
    kind == Some("json_object")
}

/// Refuses a temperature above what the provider knows.
pub(super) fn check_temperature(request: &Request, max: f64) -> Result<(), ApiError> {
    let Some(Json::Number(temperature)) = request.json.get("temperature") else {
        return Ok(());
    };
    if temperature.as_f64() <= max {
        return Ok(());
    }
    let message = format!("temperature must be at most {max} for this model");
    Err(invalid_value("temperature", message))
}

/// A count as JSON.
pub(super) fn count(value: u32) -> Json {
    Json::Number(Number::Unsigned(u64::from(value)))
}

/// The stop strings as a list, if there are any.
pub(super) fn stops(request: &Request) -> Option<Json> {
    let stops = &request.sampling.stop;
    let list = || Json::Array(stops.iter().cloned().map(Json::String).collect());
    (!stops.is_empty()).then(list)
}
