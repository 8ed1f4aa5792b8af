//! A chat as a request of `POST /messages`.

use crate::error::ApiError;
use crate::wire::chat::Role;
use crate::wire::fields::invalid_value;
use crate::wire::json::Json;
use crate::wire::provider::options::{self, count, stops};
use crate::wire::provider::tools::{self, ToolChoice};
use crate::wire::provider::turns::{Part, Turn, present, turns, unsupported};
use crate::wire::provider::{ProviderRequest, Target, data_url, object, put, put_same, string};
use crate::wire::request::Request;

/// Fields that this API has a word for beside those that all have.
const ALSO_TOLD: [&str; 3] = ["parallel_tool_calls", "response_format", "reasoning_effort"];

/// Writes the request.
pub(in crate::wire::provider) fn request(
    request: &Request,
    target: &Target<'_>,
) -> Result<ProviderRequest, ApiError> {
    options::check(request, &ALSO_TOLD)?;
    options::check_temperature(request, 1.0)?;
    let limit = request.max_tokens.unwrap_or(target.max_tokens_default);
    let mut out = Vec::new();
    put(&mut out, "model", string(target.model));
    put(&mut out, "max_tokens", count(limit));
    let turns = turns(request)?;
    let system = system(&turns)?;
    if !system.is_empty() {
        put(&mut out, "system", Json::Array(system));
    }
    put(&mut out, "messages", Json::Array(messages(&turns)?));
    put_same(&mut out, "temperature", request, "temperature");
    put_same(&mut out, "top_p", request, "top_p");
    // 0 is off, and off is the default.
    if request.sampling.top_k > 0 {
        put(&mut out, "top_k", count(request.sampling.top_k));
    }
    if let Some(stops) = stops(request) {
        put(&mut out, "stop_sequences", stops);
    }
    put_tools(&mut out, request)?;
    if let Some(config) = output_config(request)? {
        put(&mut out, "output_config", config);
    }
    if let Some(user) = request.json.get("user").filter(|user| !user.is_null()) {
        put(&mut out, "metadata", object([("user_id", user.clone())]));
    }
    if request.stream {
        put(&mut out, "stream", Json::Bool(true));
    }
    Ok(ProviderRequest {
        path: "/messages".to_owned(),
        body: Json::Object(out).to_bytes(),
    })
}

/// Instructions go before the conversation, in the order in which they came.
fn system(turns: &[Turn<'_>]) -> Result<Vec<Json>, ApiError> {
    let is_system = |turn: &&Turn<'_>| matches!(turn.role, Role::System | Role::Developer);
    let parts = turns.iter().filter(is_system).flat_map(|turn| &turn.parts);
    parts
        .filter(|part| !is_empty(part))
        .map(|part| match part {
            Part::Text { .. } => block(part),
            Part::Image { path, .. } => Err(unsupported(path.clone())),
        })
        .collect()
}

fn messages(turns: &[Turn<'_>]) -> Result<Vec<Json>, ApiError> {
    let mut messages: Vec<(&str, Vec<Json>)> = Vec::new();
    let mut after_result = false;
    for turn in turns {
        let (role, mut content) = match turn.role {
            Role::System | Role::Developer => continue,
            Role::Assistant => ("assistant", assistant(turn)?),
            Role::User => ("user", blocks(&turn.parts)?),
            Role::Tool => ("user", vec![tool_result(turn)?]),
        };
        // All results of one turn of the assistant belong into one message.
        let is_result = turn.role == Role::Tool;
        match messages.last_mut() {
            Some((_, results)) if is_result && after_result => results.append(&mut content),
            _ => messages.push((role, content)),
        }
        after_result = is_result;
    }
    let messages = messages.into_iter();
    Ok(messages
        .map(|(role, content)| object([("role", string(role)), ("content", Json::Array(content))]))
        .collect())
}

fn assistant(turn: &Turn<'_>) -> Result<Vec<Json>, ApiError> {
    let mut content = blocks(&turn.parts)?;
    for call in &turn.calls {
        content.push(object([
            ("type", string("tool_use")),
            ("id", string(call.id)),
            ("name", string(call.name)),
            ("input", call.arguments.clone()),
        ]));
    }
    Ok(content)
}

fn tool_result(turn: &Turn<'_>) -> Result<Json, ApiError> {
    let id = turn.result.as_ref().map_or("", |result| result.id);
    Ok(object([
        ("type", string("tool_result")),
        ("tool_use_id", string(id)),
        ("content", Json::Array(blocks(&turn.parts)?)),
    ]))
}

/// The API refuses empty texts; they say nothing.
fn blocks(parts: &[Part<'_>]) -> Result<Vec<Json>, ApiError> {
    let parts = parts.iter().filter(|part| !is_empty(part));
    parts.map(block).collect()
}

fn is_empty(part: &Part<'_>) -> bool {
    part.as_text() == Some("")
}

fn block(part: &Part<'_>) -> Result<Json, ApiError> {
    match part {
        Part::Text {
            text,
            cache_control,
        } => {
            let mut block = Vec::new();
            put(&mut block, "type", string("text"));
            put(&mut block, "text", string(text));
            if let Some(cache_control) = *cache_control {
                put(&mut block, "cache_control", cache_control.clone());
            }
            Ok(Json::Object(block))
        }
        Part::Image { url, path } => Ok(object([
            ("type", string("image")),
            ("source", image_source(url, path)?),
        ])),
    }
}

fn image_source(url: &str, path: &str) -> Result<Json, ApiError> {
    match data_url(url, path)? {
        Some((media_type, data)) => Ok(object([
            ("type", string("base64")),
            ("media_type", string(media_type)),
            ("data", string(data)),
        ])),
        None => Ok(object([("type", string("url")), ("url", string(url))])),
    }
}

fn put_tools(out: &mut Vec<(String, Json)>, request: &Request) -> Result<(), ApiError> {
    let tools = tools::tools(request)?;
    let choice = tools::tool_choice(request)?;
    if tools.is_empty() {
        return Ok(());
    }
    let tools = tools.iter().map(|tool| {
        let mut entries = Vec::new();
        put(&mut entries, "name", string(tool.name));
        if let Some(description) = tool.description {
            put(&mut entries, "description", string(description));
        }
        let schema = tool.parameters.cloned().unwrap_or_else(|| {
            let none = Json::Object(Vec::new());
            object([("type", string("object")), ("properties", none)])
        });
        put(&mut entries, "input_schema", schema);
        if tool.strict {
            put(&mut entries, "strict", Json::Bool(true));
        }
        Json::Object(entries)
    });
    put(out, "tools", Json::Array(tools.collect()));
    let one_at_a_time = request.json.get("parallel_tool_calls") == Some(&Json::Bool(false));
    let (kind, name) = match choice {
        ToolChoice::Auto => ("auto", None),
        ToolChoice::None => ("none", None),
        ToolChoice::Required => ("any", None),
        ToolChoice::Named(name) => ("tool", Some(name)),
    };
    let mut entries = Vec::new();
    put(&mut entries, "type", string(kind));
    if let Some(name) = name {
        put(&mut entries, "name", string(name));
    }
    if one_at_a_time && choice != ToolChoice::None {
        put(&mut entries, "disable_parallel_tool_use", Json::Bool(true));
    }
    put(out, "tool_choice", Json::Object(entries));
    Ok(())
}

/// The form of the answer, and how much to think about it.
fn output_config(request: &Request) -> Result<Option<Json>, ApiError> {
    let mut config = Vec::new();
    if options::wants_json_object(request) {
        let path = "response_format.type";
        let message = "response_format.type must be json_schema for this model: its provider needs \
                       a schema";
        return Err(invalid_value(path, message));
    }
    if let Some(schema) = options::json_schema(request) {
        let kind = ("type", string("json_schema"));
        put(
            &mut config,
            "format",
            object([kind, ("schema", schema.clone())]),
        );
    }
    if let Some(effort) = present(&request.json, "reasoning_effort") {
        match effort.as_str() {
            Some("low" | "medium" | "high" | "xhigh" | "max") => {
                put(&mut config, "effort", effort.clone());
            }
            _ => {
                let message = "reasoning_effort must be low, medium, high, xhigh or max for this \
                               model";
                return Err(invalid_value("reasoning_effort", message));
            }
        }
    }
    Ok((!config.is_empty()).then_some(Json::Object(config)))
}
