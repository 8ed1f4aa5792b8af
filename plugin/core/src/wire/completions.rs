//! The prompt of a completions request.

use super::chat::Message;
use super::fields::{Fields, check_count, invalid_value, wrong_type};
use super::json::Json;
use crate::error::ApiError;
use crate::limits::{JSON_VALUES_MAX, PROMPTS_MAX};

/// What to answer or to continue.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A chat.
    Messages(Vec<Message>),
    /// Texts to continue, each by itself.
    Text(Vec<String>),
    /// Token ids to continue, each list by itself.
    Tokens(Vec<Vec<u32>>),
}

/// The four forms of `prompt`: a string, strings, token ids, lists of token ids. The first item of
/// an array says which one it is; a mixture is refused at the item that breaks it.
pub(super) fn parse_prompt(fields: &Fields<'_>) -> Result<Prompt, ApiError> {
    const FORMS: &str = "a string, an array of strings, an array of token ids or an array of those";
    if fields.optional("suffix").is_some() {
        return Err(invalid_value(
            "suffix",
            "suffix is not supported; leave it out",
        ));
    }
    let json = fields.required("prompt")?;
    let items = match json {
        Json::String(text) => return Ok(Prompt::Text(vec![text.clone()])),
        Json::Array(items) => items,
        other => return Err(wrong_type("prompt", FORMS, other)),
    };
    match items.first() {
        Some(Json::Number(_)) => Ok(Prompt::Tokens(vec![parse_tokens(json, "prompt")?])),
        Some(Json::String(_)) => parse_each(items, |item, path| {
            let text = item
                .as_str()
                .ok_or_else(|| wrong_type(path, "a string", item))?;
            Ok(text.to_owned())
        })
        .map(Prompt::Text),
        Some(Json::Array(_)) => parse_each(items, parse_tokens).map(Prompt::Tokens),
        Some(other) => Err(wrong_type(
            "prompt[0]",
            "a string, a token id or an array",
            other,
        )),
        None => Err(invalid_value("prompt", "prompt must not be empty")),
    }
}

/// Whether the prompt is to be repeated before the answer.
pub(super) fn parse_echo(fields: &Fields<'_>) -> Result<bool, ApiError> {
    Ok(fields.bool("echo")?.unwrap_or(false))
}

fn parse_each<T>(
    items: &[Json],
    parse: impl Fn(&Json, &str) -> Result<T, ApiError>,
) -> Result<Vec<T>, ApiError> {
    check_count("prompt", items.len(), PROMPTS_MAX)?;
    let items = items.iter().enumerate();
    items
        .map(|(index, item)| parse(item, &format!("prompt[{index}]")))
        .collect()
}

fn parse_tokens(json: &Json, path: &str) -> Result<Vec<u32>, ApiError> {
    let Json::Array(items) = json else {
        return Err(wrong_type(path, "an array of token ids", json));
    };
    check_count(path, items.len(), JSON_VALUES_MAX)?;
    let mut tokens = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let token = item.as_u64().and_then(|token| u32::try_from(token).ok());
        match (token, item) {
            (Some(token), _) => tokens.push(token),
            (None, Json::Number(_)) => {
                let path = format!("{path}[{index}]");
                let message = format!(
                    "{path} must be a token id: an integer from 0 to {}",
                    u32::MAX
                );
                return Err(invalid_value(&path, message));
            }
            (None, _) => return Err(wrong_type(&format!("{path}[{index}]"), "a token id", item)),
        }
    }
    Ok(tokens)
}
