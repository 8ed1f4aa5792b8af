//! The one validation of a request, used by the filter and by the backend: the same bytes get the
//! same error from both.

use super::chat::{self, Message};
use super::completions::{self, Prompt};
use super::endpoint::Endpoint;
use super::fields::{Fields, Path, check_count, invalid_value, wrong_type};
use super::images::{ImageSource, Images};
use super::json::{Json, Layout, echo};
use super::sampling::{self, Sampling};
use super::{embeddings, messages, responses};
use crate::error::ApiError;
use crate::limits::{MAX_TOKENS_MAX, MODEL_NAME_BYTES_MAX, TOOLS_MAX};
use crate::price::ServiceTier;

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
    /// What to answer, to continue or to embed.
    pub prompt: Prompt,
    /// Whether the answer is to come as server-sent events.
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// `max_tokens`, `max_completion_tokens` or `max_output_tokens`.
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
    /// Images of the prompt.
    pub images: Images,
    /// Whether the prompt is all here.
    pub extent: PromptExtent,
    /// Whether an answer to this request may answer the next one like it.
    pub reuse: Reuse,
    /// Of the body as it came; of nothing, if `json` has been changed since.
    pub layout: Layout,
    /// Whether `json` is to travel in the place of what was sent: it is less, or takes fewer bytes.
    pub is_compacted: bool,
}

/// Does a request hold all that the model will read?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PromptExtent {
    /// It does.
    #[default]
    Whole,
    /// The provider adds to it what it has stored, of a length that only it knows.
    Stored,
}

/// May an answer be given again, as far as the request itself says?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reuse {
    /// It depends on nothing but the request.
    #[default]
    Allowed,
    /// It depends on what is stored or found elsewhere, or is kept there under an id of its own.
    Forbidden,
}

impl Request {
    /// A request without options. Whoever makes it sets what the client said, and `json`.
    pub(super) fn new(endpoint: Endpoint, model: String, prompt: Prompt) -> Self {
        Self {
            endpoint,
            json: Json::Null,
            model,
            prompt,
            stream: false,
            include_usage: false,
            max_tokens: None,
            min_tokens: 0,
            service_tier: ServiceTier::Standard,
            sampling: Sampling::default(),
            tools: false,
            response_format: None,
            echo: false,
            images: Images::default(),
            extent: PromptExtent::default(),
            reuse: Reuse::default(),
            layout: Layout::default(),
            is_compacted: false,
        }
    }

    /// The same request for an answer that is not streamed.
    pub fn unstreamed(&self) -> Request {
        let mut json = self.json.clone();
        if let Json::Object(entries) = &mut json {
            entries.retain(|(key, _)| key != "stream" && key != "stream_options");
        }
        Request {
            json,
            stream: false,
            include_usage: false,
            layout: Layout::default(),
            ..self.clone()
        }
    }

    /// The chat's messages; none for a completions request.
    pub fn messages(&self) -> &[Message] {
        if let Prompt::Messages(messages) = &self.prompt {
            messages
        } else {
            &[]
        }
    }

    /// Are there fields at its top that are null, and so say nothing?
    pub fn has_null_fields(&self) -> bool {
        let entries = self.json.as_object().unwrap_or_default();
        entries.iter().any(|(_, value)| value.is_null())
    }

    /// The field that holds the answer, or what a tool is called with, to a JSON schema.
    pub fn json_schema_field(&self) -> Option<&'static str> {
        let is_schema = |format: Option<&Json>| {
            format.and_then(|format| format.get("type")?.as_str()) == Some("json_schema")
        };
        let of_tools = |tool: &Json| {
            let function = tool.get("function").unwrap_or(tool);
            function.get("strict").and_then(Json::as_bool) == Some(true)
        };
        let within = |field: &str| self.json.get(field)?.get("format");
        let tools = self.json.get("tools").and_then(Json::as_array);
        let formats = [
            ("response_format", self.json.get("response_format")),
            ("text.format", within("text")),
            ("output_config.format", within("output_config")),
            ("output_format", self.json.get("output_format")),
        ];
        let format = formats.into_iter().find(|(_, format)| is_schema(*format));
        match format {
            Some((field, _)) => Some(field),
            None if tools.unwrap_or_default().iter().any(of_tools) => Some("tools"),
            None => None,
        }
    }

    /// Does the prompt show any image?
    pub fn has_images(&self) -> bool {
        self.images.count > 0
    }

    /// Will the same request get the same answer? Embeddings are computed; all else is drawn, and
    /// at temperature 0 always the likeliest.
    pub fn is_deterministic(&self) -> bool {
        self.endpoint == Endpoint::Embeddings || self.sampling.temperature == 0.0
    }

    /// May its answer be given to the next one who asks the same?
    pub fn is_reusable(&self) -> bool {
        self.reuse == Reuse::Allowed && self.images.source == ImageSource::Inline
    }
}

/// Reads and checks a request.
///
/// # Errors
/// Everything [`Json::parse`] refuses, and every field that is missing, of a wrong type or out of
/// its range, with `param` naming its path.
pub fn parse(endpoint: Endpoint, body: &[u8]) -> Result<Request, ApiError> {
    let (json, layout) = Json::parse_laid_out(body)?;
    let request = from_json(endpoint, json)?;
    Ok(Request { layout, ..request })
}

/// [`parse`] of a body that has been read.
pub(super) fn from_json(endpoint: Endpoint, json: Json) -> Result<Request, ApiError> {
    let fields = Fields::root(&json)?;
    let request = match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => parse_generation(endpoint, &fields)?,
        Endpoint::Embeddings => embeddings::parse_request(&fields)?,
        Endpoint::Responses => responses::parse(&fields)?,
        Endpoint::Messages => messages::parse(&fields)?,
    };
    let service_tier = fields.string("service_tier")?;
    Ok(Request {
        service_tier: service_tier.map_or(ServiceTier::Standard, ServiceTier::named),
        min_tokens: min_tokens(&json, request.max_tokens),
        json,
        ..request
    })
}

/// A chat or a completion.
fn parse_generation(endpoint: Endpoint, fields: &Fields<'_>) -> Result<Request, ApiError> {
    let model = parse_model(fields)?;
    let mut images = Images::default();
    let prompt = match endpoint {
        Endpoint::Completions => completions::parse_prompt(fields)?,
        _ => Prompt::Messages(chat::parse_messages(fields, &mut images)?),
    };
    let mut request = Request::new(endpoint, model, prompt);
    request.images = images;
    request.stream = fields.bool("stream")?.unwrap_or(false);
    request.include_usage = parse_include_usage(fields, request.stream)?;
    request.max_tokens = parse_max_tokens(endpoint, fields)?;
    request.sampling = sampling::parse_sampling(endpoint, fields)?;
    request.tools = parse_tools(fields)?;
    request.response_format = parse_response_format(fields)?;
    if endpoint == Endpoint::Completions {
        request.echo = completions::parse_echo(fields)?;
    } else {
        refuse_audio(fields)?;
    }
    if fields.optional("web_search_options").is_some() {
        request.reuse = Reuse::Forbidden;
    }
    check_kept_fields(fields)?;
    Ok(request)
}

/// Spoken answers are priced by a measure of their own that no usage here knows.
fn refuse_audio(fields: &Fields<'_>) -> Result<(), ApiError> {
    let modalities = fields.array("modalities")?.unwrap_or_default();
    let other = modalities
        .iter()
        .position(|modality| modality.as_str() != Some("text"));
    if let Some(index) = other {
        let path = Path::field("modalities").item(index);
        return Err(invalid_value(path, format!("{path} must be \"text\"")));
    }
    if fields.optional("audio").is_some() {
        return Err(invalid_value(
            "audio",
            "audio is not supported; leave it out",
        ));
    }
    Ok(())
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

pub(super) fn parse_include_usage(fields: &Fields<'_>, stream: bool) -> Result<bool, ApiError> {
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
pub(super) fn parse_tools(fields: &Fields<'_>) -> Result<bool, ApiError> {
    let mut offered = false;
    for key in ["tools", "functions"] {
        let Some(tools) = fields.array(key)? else {
            continue;
        };
        if tools.is_empty() {
            continue;
        }
        check_count(key, tools.len(), TOOLS_MAX)?;
        for (index, tool) in tools.iter().enumerate() {
            Fields::nested(tool, Path::field(key).item(index))?;
        }
        offered = true;
    }
    fields.bool("parallel_tool_calls")?;
    for key in ["tool_choice", "function_call"] {
        match fields.optional(key) {
            None | Some(Json::String(_) | Json::Object(_)) => {}
            Some(other) => {
                return Err(wrong_type(key, "a string or an object", other));
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
