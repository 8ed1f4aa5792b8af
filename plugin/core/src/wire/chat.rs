//! Messages of a chat request.

use super::fields::{Fields, Path, check_count, invalid_value, missing, wrong_type};
use super::images::{Images, unsupported_part};
use super::json::{Json, echo};
use crate::error::ApiError;
use crate::limits::{CONTENT_PARTS_MAX, MESSAGES_MAX, TOOLS_MAX};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions to the model.
    System,
    /// OpenAI's newer name for the same.
    Developer,
    /// The person.
    User,
    /// The model, earlier in the chat.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// One message, its content flattened to text.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text without images; several text parts are joined by a line feed, as vLLM and llama.cpp
    /// do. Empty when an assistant's message only calls tools.
    pub content: String,
    /// Tells speakers of one role apart.
    pub name: Option<String>,
    /// Tool calls that the assistant made, as sent.
    pub tool_calls: Option<Json>,
    /// Which call a tool's message answers.
    pub tool_call_id: Option<String>,
}

impl Role {
    const ALL: [Self; 5] = [
        Self::System,
        Self::Developer,
        Self::User,
        Self::Assistant,
        Self::Tool,
    ];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

pub(super) fn parse_messages(
    fields: &Fields<'_>,
    images: &mut Images,
) -> Result<Vec<Message>, ApiError> {
    let items = fields
        .filled_array("messages", MESSAGES_MAX)?
        .ok_or_else(|| missing("messages"))?;
    let messages = items.iter().enumerate();
    messages
        .map(|(index, item)| parse_message(item, Path::field("messages").item(index), images))
        .collect()
}

fn parse_message(json: &Json, path: Path<'_>, images: &mut Images) -> Result<Message, ApiError> {
    let fields = Fields::nested(json, path)?;
    let role = parse_role(&fields)?;
    let tool_calls = match role {
        Role::Assistant => parse_tool_calls(&fields)?,
        _ => None,
    };
    let content = match fields.optional("content") {
        Some(content) => parse_content(content, fields.path("content"), images)?,
        None if tool_calls.is_some() => String::new(),
        None => return Err(missing(fields.path("content"))),
    };
    let tool_call_id = match role {
        Role::Tool => Some(fields.required_string("tool_call_id")?.to_owned()),
        _ => None,
    };
    let name = fields.string("name")?.map(str::to_owned);
    Ok(Message {
        role,
        content,
        name,
        tool_calls,
        tool_call_id,
    })
}

fn parse_role(fields: &Fields<'_>) -> Result<Role, ApiError> {
    let role = fields.required_string("role")?;
    Role::ALL
        .into_iter()
        .find(|known| known.as_str() == role)
        .ok_or_else(|| {
            let path = fields.path("role");
            let message = format!(
                "{path} must be system, developer, user, assistant or tool, but it is \"{}\"",
                echo(role)
            );
            invalid_value(path, message)
        })
}

fn parse_content(json: &Json, path: Path<'_>, images: &mut Images) -> Result<String, ApiError> {
    let parts = match json {
        Json::String(text) => return Ok(text.clone()),
        Json::Array(parts) => parts,
        other => return Err(wrong_type(path, "a string or an array of parts", other)),
    };
    check_count(path, parts.len(), CONTENT_PARTS_MAX)?;
    let mut content = String::new();
    for (index, part) in parts.iter().enumerate() {
        let part = Fields::nested(part, path.item(index))?;
        let text = match part.required_string("type")? {
            "text" => part.required_string("text")?,
            "refusal" => part.required_string("refusal")?,
            "image_url" => {
                images.add_chat_part(&part)?;
                continue;
            }
            kind => return Err(unsupported_part(&part, kind)),
        };
        if index > 0 {
            content.push('\n');
        }
        content.push_str(text);
    }
    Ok(content)
}

/// The calls of an assistant's message, checked and kept as they are for the chat template.
fn parse_tool_calls(fields: &Fields<'_>) -> Result<Option<Json>, ApiError> {
    let Some(calls) = fields.array("tool_calls")? else {
        return Ok(None);
    };
    if calls.is_empty() {
        return Ok(None);
    }
    let path = fields.path("tool_calls");
    check_count(path, calls.len(), TOOLS_MAX)?;
    for (index, call) in calls.iter().enumerate() {
        let call = Fields::nested(call, path.item(index))?;
        call.required_string("id")?;
        let kind = call.required_string("type")?;
        if kind != "function" {
            let path = call.path("type");
            let message = format!("{path} must be function, but it is \"{}\"", echo(kind));
            return Err(invalid_value(path, message));
        }
        let function = call
            .object("function")?
            .ok_or_else(|| missing(call.path("function")))?;
        function.required_string("name")?;
        function.required_string("arguments")?;
    }
    Ok(fields.optional("tool_calls").cloned())
}
