//! The messages of a chat as turns, whose parts other APIs put in other places. The request has
//! been checked, so what is looked for here is there.

use crate::error::ApiError;
use crate::wire::chat::Role;
use crate::wire::fields::invalid_value;
use crate::wire::json::Json;
use crate::wire::request::Request;

/// One message.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub role: Role,
    pub parts: Vec<Part<'a>>,
    /// What the assistant called.
    pub calls: Vec<Call<'a>>,
    /// Whose result it is, of a tool's message.
    pub result: Option<ResultOf<'a>>,
}

/// A piece of a message's content.
#[derive(Debug)]
pub(super) enum Part<'a> {
    Text {
        text: &'a str,
        /// Anthropic's mark of where a prompt may be cached up to, which several gateways take.
        cache_control: Option<&'a Json>,
    },
    Image {
        url: &'a str,
        /// Where the url stands, for whoever cannot take it.
        path: String,
    },
}

/// One call of a tool, as the assistant made it.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub id: &'a str,
    pub name: &'a str,
    /// An object.
    pub arguments: Json,
    /// Gemini's proof of what it thought before the call, where the client kept it.
    pub signature: Option<&'a Json>,
}

/// The call that a result answers.
#[derive(Debug)]
pub(super) struct ResultOf<'a> {
    pub id: &'a str,
    /// The tool's name, if a call before has this id.
    pub name: Option<&'a str>,
    /// Where the id stands.
    pub path: String,
}

impl Part<'_> {
    /// The text, if it is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Part::Text { text, .. } => Some(text),
            Part::Image { .. } => None,
        }
    }
}

/// All messages, in their order.
pub(super) fn turns(request: &Request) -> Result<Vec<Turn<'_>>, ApiError> {
    let messages = request.json.get("messages").and_then(Json::as_array);
    let mut turns: Vec<Turn<'_>> = Vec::new();
    for (index, message) in messages.unwrap_or_default().iter().enumerate() {
        let turn = turn(message, &format!("messages[{index}]"), &turns)?;
        turns.push(turn);
    }
    Ok(turns)
}

fn turn<'a>(message: &'a Json, path: &str, before: &[Turn<'a>]) -> Result<Turn<'a>, ApiError> {
    let role = match field(message, "role") {
        Some("system") => Role::System,
        Some("developer") => Role::Developer,
        Some("assistant") => Role::Assistant,
        Some("tool") => Role::Tool,
        _ => Role::User,
    };
    // A tool's message is told apart by its id; of others the model would read the name.
    if role != Role::Tool && field(message, "name").is_some() {
        return Err(unsupported(format!("{path}.name")));
    }
    if present(message, "function_call").is_some() {
        let path = format!("{path}.function_call");
        let message = format!("{path} is not supported by this model's provider; use tool_calls");
        return Err(invalid_value(path, message));
    }
    let result = field(message, "tool_call_id").filter(|_| role == Role::Tool);
    Ok(Turn {
        role,
        parts: parts(message.get("content"), &format!("{path}.content"))?,
        calls: match role {
            Role::Assistant => calls(message, path)?,
            _ => Vec::new(),
        },
        result: result.map(|id| ResultOf {
            id,
            name: name_of_call(id, before),
            path: format!("{path}.tool_call_id"),
        }),
    })
}

fn parts<'a>(content: Option<&'a Json>, path: &str) -> Result<Vec<Part<'a>>, ApiError> {
    match content {
        Some(Json::String(text)) => Ok(vec![Part::Text {
            text,
            cache_control: None,
        }]),
        Some(Json::Array(parts)) => {
            let parts = parts.iter().enumerate();
            parts
                .map(|(index, json)| part(json, &format!("{path}[{index}]")))
                .collect()
        }
        _ => Ok(Vec::new()),
    }
}

fn part<'a>(json: &'a Json, path: &str) -> Result<Part<'a>, ApiError> {
    let image = json.get("image_url").and_then(|image| field(image, "url"));
    let text = field(json, "text").or_else(|| field(json, "refusal"));
    match (image, text) {
        (Some(url), _) => Ok(Part::Image {
            url,
            path: format!("{path}.image_url.url"),
        }),
        (None, Some(text)) => Ok(Part::Text {
            text,
            cache_control: present(json, "cache_control"),
        }),
        (None, None) => Err(unsupported(format!("{path}.type"))),
    }
}

fn calls<'a>(message: &'a Json, path: &str) -> Result<Vec<Call<'a>>, ApiError> {
    let calls = message.get("tool_calls").and_then(Json::as_array);
    let calls = calls.unwrap_or_default().iter().enumerate();
    calls
        .map(|(index, call)| {
            let of = |key| {
                call.get("function")
                    .and_then(|function| field(function, key))
            };
            let path = format!("{path}.tool_calls[{index}].function.arguments");
            let google = call
                .get("extra_content")
                .and_then(|extra| extra.get("google"));
            Ok(Call {
                id: field(call, "id").unwrap_or_default(),
                name: of("name").unwrap_or_default(),
                arguments: arguments(of("arguments").unwrap_or_default(), path)?,
                signature: google.and_then(|google| present(google, "thought_signature")),
            })
        })
        .collect()
}

/// OpenAI's arguments are a text, others' an object. An empty text is a call without arguments.
fn arguments(text: &str, path: String) -> Result<Json, ApiError> {
    if text.trim().is_empty() {
        return Ok(Json::Object(Vec::new()));
    }
    match Json::parse(text.as_bytes()) {
        Ok(arguments @ Json::Object(_)) => Ok(arguments),
        _ => {
            let message = format!("{path} must be the text of a JSON object for this model");
            Err(invalid_value(path, message))
        }
    }
}

fn name_of_call<'a>(id: &str, before: &[Turn<'a>]) -> Option<&'a str> {
    let mut calls = before.iter().rev().flat_map(|turn| &turn.calls);
    calls.find(|call| call.id == id).map(|call| call.name)
}

/// The refusal of what the provider's API has no word for.
pub(super) fn unsupported(path: String) -> ApiError {
    let message = format!("{path} is not supported by this model's provider; leave it out");
    invalid_value(path, message)
}

/// A field that is a text.
pub(super) fn field<'a>(json: &'a Json, key: &str) -> Option<&'a str> {
    json.get(key).and_then(Json::as_str)
}

/// A field that is not null.
pub(super) fn present<'a>(json: &'a Json, key: &str) -> Option<&'a Json> {
    json.get(key).filter(|value| !value.is_null())
}
