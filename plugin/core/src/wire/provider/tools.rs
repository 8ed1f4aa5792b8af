//! The tools that a chat offers, and which of them must be called.

use super::turns::{field, present, unsupported};
use crate::error::ApiError;
use crate::wire::fields::{invalid_value, missing};
use crate::wire::json::{Json, echo};
use crate::wire::request::Request;

/// A function that the model may call.
#[derive(Debug)]
pub(super) struct Tool<'a> {
    pub name: &'a str,
    pub description: Option<&'a str>,
    /// The JSON schema of its arguments; none takes none.
    pub parameters: Option<&'a Json>,
    /// Must its arguments follow the schema to the letter?
    pub strict: bool,
}

/// Which tools are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToolChoice<'a> {
    /// Those that the model thinks fit, which is the default.
    Auto,
    None,
    /// At least one.
    Required,
    /// This one.
    Named(&'a str),
}

/// The tools, in their order.
pub(super) fn tools(request: &Request) -> Result<Vec<Tool<'_>>, ApiError> {
    for older in ["functions", "function_call"] {
        let sent = present(&request.json, older);
        let is_empty = |sent: &Json| sent.as_array().is_some_and(<[Json]>::is_empty);
        if sent.is_some_and(|sent| !is_empty(sent)) {
            let message = format!("{older} is not supported by this model's provider; use tools");
            return Err(invalid_value(older, message));
        }
    }
    let tools = request.json.get("tools").and_then(Json::as_array);
    let tools = tools.unwrap_or_default().iter().enumerate();
    tools
        .map(|(index, tool)| {
            let path = format!("tools[{index}]");
            if field(tool, "type") != Some("function") {
                let kind = echo(field(tool, "type").unwrap_or_default());
                let path = format!("{path}.type");
                let message = format!("{path} must be \"function\", but it is \"{kind}\"");
                return Err(invalid_value(path, message));
            }
            let function = present(tool, "function");
            let function = function.ok_or_else(|| missing(format!("{path}.function")))?;
            let name = field(function, "name");
            Ok(Tool {
                name: name.ok_or_else(|| missing(format!("{path}.function.name")))?,
                description: field(function, "description"),
                parameters: present(function, "parameters"),
                strict: function.get("strict").and_then(Json::as_bool) == Some(true),
            })
        })
        .collect()
}

/// Which of them are called.
pub(super) fn tool_choice(request: &Request) -> Result<ToolChoice<'_>, ApiError> {
    let choice = match present(&request.json, "tool_choice") {
        None => return Ok(ToolChoice::Auto),
        Some(choice) => choice,
    };
    match choice.as_str() {
        Some("auto") => return Ok(ToolChoice::Auto),
        Some("none") => return Ok(ToolChoice::None),
        Some("required") => return Ok(ToolChoice::Required),
        _ => {}
    }
    let function = choice
        .get("function")
        .and_then(|named| field(named, "name"));
    match function {
        Some(name) => Ok(ToolChoice::Named(name)),
        None => Err(unsupported("tool_choice".to_owned())),
    }
}
