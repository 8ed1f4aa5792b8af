//! Labelled data: what it calls a prompt (a text, or a list of messages), and whether an answer is
//! the one of the label.

pub mod answer_span;
pub mod check;

use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::wire::{Message, Role};
use serde_json::Value;

/// The messages of a prompt; a text is one of a user.
///
/// # Errors
/// `InvalidValue` for anything else, by its field.
pub fn messages(prompt: &Value) -> Result<Vec<Message>, ApiError> {
    match prompt {
        Value::String(text) => Ok(vec![message(Role::User, text.clone())]),
        Value::Array(messages) => messages.iter().map(one).collect(),
        _ => Err(refused("is neither a text nor a list of messages")),
    }
}

fn one(value: &Value) -> Result<Message, ApiError> {
    let field = |name: &str| value.get(name).and_then(Value::as_str);
    let (Some(role), Some(content)) = (field("role"), field("content")) else {
        return Err(refused("has a message without role and content"));
    };
    let role = match role {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => Role::System,
        other => return Err(refused(&format!("has a message of the role \"{other}\""))),
    };
    Ok(message(role, content.to_owned()))
}

fn message(role: Role, content: String) -> Message {
    Message {
        role,
        content,
        name: None,
        tool_calls: None,
        tool_call_id: None,
    }
}

fn refused(problem: &str) -> ApiError {
    ApiError::new(ErrorKind::InvalidValue, problem.to_owned()).param("prompt")
}
