//! The prompt of a completions request.

use super::chat::Message;
use super::fields::{Fields, Path, check_count, invalid_value, wrong_type};
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

/// The prompt; what comes after it is for no model that we know.
pub(super) fn parse_prompt(fields: &Fields<'_>) -> Result<Prompt, ApiError> {
    if fields.optional("suffix").is_some() {
        return Err(invalid_value(
            "suffix",
            "suffix is not supported; leave it out",
        ));
    }
    parse_texts(fields, "prompt", PROMPTS_MAX)
}

/// A field in one of four forms: a string, strings, token ids, lists of token ids, at most
/// `items_max`. The first item of an array says which one it is; a mixture is refused at the item
/// that breaks it.
pub(super) fn parse_texts(
    fields: &Fields<'_>,
    key: &str,
    items_max: usize,
) -> Result<Prompt, ApiError> {
    const FORMS: &str = "a string, an array of strings, an array of token ids or an array of those";
    let json = fields.required(key)?;
    let items = match json {
        Json::String(text) => return Ok(Prompt::Text(vec![text.clone()])),
        Json::Array(items) => items,
        other => return Err(wrong_type(key, FORMS, other)),
    };
    match items.first() {
        Some(Json::Number(_)) => Ok(Prompt::Tokens(vec![parse_tokens(json, Path::field(key))?])),
        Some(Json::String(_)) => parse_each(items, key, items_max, |item, path| {
            let text = item
                .as_str()
                .ok_or_else(|| wrong_type(path, "a string", item))?;
            Ok(text.to_owned())
        })
        .map(Prompt::Text),
        Some(Json::Array(_)) => parse_each(items, key, items_max, parse_tokens).map(Prompt::Tokens),
        Some(other) => Err(wrong_type(
            Path::field(key).item(0),
            "a string, a token id or an array",
            other,
        )),
        None => Err(invalid_value(key, format!("{key} must not be empty"))),
    }
}

/// Whether the prompt is to be repeated before the answer.
pub(super) fn parse_echo(fields: &Fields<'_>) -> Result<bool, ApiError> {
    Ok(fields.bool("echo")?.unwrap_or(false))
}

fn parse_each<T>(
    items: &[Json],
    key: &str,
    items_max: usize,
    parse: impl Fn(&Json, Path<'_>) -> Result<T, ApiError>,
) -> Result<Vec<T>, ApiError> {
    check_count(key, items.len(), items_max)?;
    let items = items.iter().enumerate();
    items
        .map(|(index, item)| parse(item, Path::field(key).item(index)))
        .collect()
}

fn parse_tokens(json: &Json, path: Path<'_>) -> Result<Vec<u32>, ApiError> {
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
                return Err(invalid_value(path, message));
            }
            (None, _) => return Err(wrong_type(format!("{path}[{index}]"), "a token id", item)),
        }
    }
    Ok(tokens)
}
