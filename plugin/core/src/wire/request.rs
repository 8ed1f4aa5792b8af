//! The one validation of a request, used by the filter and by the backend: the same bytes get the
//! same error from both.

use super::chat::{self, Message};
use super::completions::{self, Prompt};
use super::fields::{Fields, invalid_value};
use super::json::{Json, echo};
use super::sampling::{self, Sampling};
use crate::error::ApiError;
use crate::limits::{MAX_TOKENS_MAX, MODEL_NAME_BYTES_MAX, TOOLS_MAX};
use crate::price::ServiceTier;

/// Which API a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`
    Completions,
}

/// A request that passed every check. Optional fields that are null count as absent.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Which API it is for.
    pub endpoint: Endpoint,
    /// The whole body as it was sent, fields we do not know included: they are part of the cache
    /// key and travel to the upstream.
    pub json: Json,
    /// The model or virtual model that was asked for.
    pub model: String,
    /// What to answer or to continue.
    pub prompt: Prompt,
    /// Whether the answer is to come as server-sent events.
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// `max_tokens` or `max_completion_tokens`.
    pub max_tokens: Option<u32>,
    /// What the answer has at least, whatever the model would say: vLLM's `min_tokens`, or all of
    /// `max_tokens` with its `ignore_eos`.
    pub min_tokens: u32,
    /// How soon the provider is to answer.
    pub service_tier: ServiceTier,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Whether any tool or function is offered.
    pub tools: bool,
    /// `response_format`, unless it asks for plain text, which is the default.
    pub response_format: Option<Json>,
    /// Completions only: repeat the prompt before the answer.
    pub echo: bool,
}

impl Endpoint {
    /// The endpoint that serves `path` (no query), if it is one of the two.
    pub fn from_path(path: &str) -> Option<Self> {
        [Self::ChatCompletions, Self::Completions]
            .into_iter()
            .find(|it| it.path() == path)
    }

    /// Its path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
        }
    }

    /// `object` of a whole answer.
    pub(super) const fn answer_object(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat.completion",
            Self::Completions => "text_completion",
        }
    }

    /// `object` of an event of a streamed answer.
    pub(super) const fn chunk_object(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat.completion.chunk",
            Self::Completions => "text_completion",
        }
    }
}

impl Request {
    /// The chat's messages; none for a completions request.
    pub fn messages(&self) -> &[Message] {
        if let Prompt::Messages(messages) = &self.prompt {
            messages
        } else {
            &[]
        }
    }
}

/// Reads and checks a request.
///
/// # Errors
/// Everything [`Json::parse`] refuses, and every field that is missing, of a wrong type or out of
/// its range, with `param` naming its path.
pub fn parse(endpoint: Endpoint, body: &[u8]) -> Result<Request, ApiError> {
    let json = Json::parse(body)?;
    let fields = Fields::root(&json)?;
    let model = parse_model(&fields)?;
    let prompt = match endpoint {
        Endpoint::ChatCompletions => Prompt::Messages(chat::parse_messages(&fields)?),
        Endpoint::Completions => completions::parse_prompt(&fields)?,
    };
    let stream = fields.bool("stream")?.unwrap_or(false);
    let include_usage = parse_include_usage(&fields, stream)?;
    let max_tokens = parse_max_tokens(endpoint, &fields)?;
    let sampling = sampling::parse_sampling(endpoint, &fields)?;
    let tools = parse_tools(&fields)?;
    let response_format = parse_response_format(&fields)?;
    let echo = match endpoint {
        Endpoint::ChatCompletions => false,
        Endpoint::Completions => completions::parse_echo(&fields)?,
    };
    let service_tier = fields.string("service_tier")?;
    check_kept_fields(&fields)?;
    Ok(Request {
        endpoint,
        model,
        prompt,
        stream,
        include_usage,
        min_tokens: min_tokens(&json, max_tokens),
        service_tier: service_tier.map_or(ServiceTier::Standard, ServiceTier::named),
        max_tokens,
        sampling,
        tools,
        response_format,
        echo,
        json,
    })
}

/// The model's name. It ends up in headers and metrics, so only printable ASCII without spaces.
pub(super) fn parse_model(fields: &Fields<'_>) -> Result<String, ApiError> {
    let model = fields.required_string("model")?;
    if model.is_empty() || model.len() > MODEL_NAME_BYTES_MAX {
        let message = format!("model must have 1 to {MODEL_NAME_BYTES_MAX} bytes");
        return Err(invalid_value("model", message));
    }
    if !model.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "model must be printable ASCII without spaces";
        return Err(invalid_value("model", message));
    }
    Ok(model.to_owned())
}

fn parse_include_usage(fields: &Fields<'_>, stream: bool) -> Result<bool, ApiError> {
    let Some(options) = fields.object("stream_options")? else {
        return Ok(false);
    };
    if !stream {
        let message = "stream_options is only allowed when stream is true";
        return Err(invalid_value("stream_options", message));
    }
    Ok(options.bool("include_usage")?.unwrap_or(false))
}

/// `max_completion_tokens` is chat's newer name of the same limit; two that differ are a mistake
/// that we do not resolve by guessing.
fn parse_max_tokens(endpoint: Endpoint, fields: &Fields<'_>) -> Result<Option<u32>, ApiError> {
    let older = fields.integer_u32("max_tokens", 1..=MAX_TOKENS_MAX)?;
    if endpoint == Endpoint::Completions {
        return Ok(older);
    }
    let newer = fields.integer_u32("max_completion_tokens", 1..=MAX_TOKENS_MAX)?;
    match (older, newer) {
        (Some(older), Some(newer)) if older != newer => {
            let message = "max_tokens and max_completion_tokens differ; send one of them";
            Err(invalid_value("max_completion_tokens", message))
        }
        _ => Ok(newer.or(older)),
    }
}

/// Whether tools are offered. Their schemas are the model's business and stay in `json`.
fn parse_tools(fields: &Fields<'_>) -> Result<bool, ApiError> {
    let mut offered = false;
    for key in ["tools", "functions"] {
        let Some(tools) = fields.array(key)? else {
            continue;
        };
        if tools.is_empty() {
            continue;
        }
        super::fields::check_count(key, tools.len(), TOOLS_MAX)?;
        for (index, tool) in tools.iter().enumerate() {
            Fields::nested(tool, &format!("{key}[{index}]"))?;
        }
        offered = true;
    }
    fields.bool("parallel_tool_calls")?;
    for key in ["tool_choice", "function_call"] {
        match fields.optional(key) {
            None | Some(Json::String(_) | Json::Object(_)) => {}
            Some(other) => {
                return Err(super::fields::wrong_type(
                    key,
                    "a string or an object",
                    other,
                ));
            }
        }
    }
    Ok(offered)
}

/// `json_object` and `json_schema` pass: whoever serves the model refuses what it cannot honour.
fn parse_response_format(fields: &Fields<'_>) -> Result<Option<Json>, ApiError> {
    let Some(format) = fields.object("response_format")? else {
        return Ok(None);
    };
    match format.required_string("type")? {
        "text" => Ok(None),
        "json_object" | "json_schema" => Ok(fields.optional("response_format").cloned()),
        other => {
            let message = format!(
                "response_format.type must be text, json_object or json_schema, but it is \"{}\"",
                echo(other)
            );
            Err(invalid_value("response_format.type", message))
        }
    }
}

/// The upstream judges these two fields; we only read them.
fn min_tokens(json: &Json, max_tokens: Option<u32>) -> u32 {
    let ignores_end = matches!(json.get("ignore_eos"), Some(Json::Bool(true)));
    let wish = json.get("min_tokens").and_then(Json::as_u64).unwrap_or(0);
    let wish = u32::try_from(wish).unwrap_or(u32::MAX);
    match max_tokens {
        Some(max) if ignores_end => max,
        max => wish.min(max.unwrap_or(MAX_TOKENS_MAX)),
    }
}

/// Fields that we only pass on: a wrong type is still a mistake worth telling.
fn check_kept_fields(fields: &Fields<'_>) -> Result<(), ApiError> {
    fields.string("user")?;
    fields.object("metadata")?;
    fields.bool("store")?;
    Ok(())
}
