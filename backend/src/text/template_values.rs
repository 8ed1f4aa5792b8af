//! A request's messages and tools as template values. Every string passes through
//! [`without_marks`], so nothing from a request can form a control token.

use super::control_marks::without_marks;
use farthing_core::wire::{Json, Message, Number, Role};
use minijinja::Value;
use minijinja::value::{Enumerator, Object};
use std::sync::Arc;

/// A mapping that keeps the order of its keys: a tool's schema must reach the model as it was
/// written.
#[derive(Debug)]
struct OrderedMap(Vec<(Value, Value)>);

impl Object for OrderedMap {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(key, _)| key.clone()).collect())
    }
}

/// A message with the keys that templates read: `role`, `content`, and where present `name`,
/// `tool_calls` and `tool_call_id`.
pub(super) fn message_value(message: &Message) -> Value {
    let mut entries = vec![
        ("role", Value::from(template_role(message.role))),
        ("content", string(&message.content)),
    ];
    entries.extend(message.name.as_deref().map(|name| ("name", string(name))));
    entries.extend(
        message
            .tool_call_id
            .as_deref()
            .map(|id| ("tool_call_id", string(id))),
    );
    if let Some(Json::Array(calls)) = &message.tool_calls {
        entries.push(("tool_calls", calls.iter().map(tool_call_value).collect()));
    }
    Value::from_object(OrderedMap(
        entries
            .into_iter()
            .map(|(key, value)| (Value::from(key), value))
            .collect(),
    ))
}

/// JSON of the request.
pub(super) fn json_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(truth) => Value::from(*truth),
        Json::Number(Number::Unsigned(number)) => Value::from(*number),
        Json::Number(Number::Negative(number)) => Value::from(*number),
        Json::Number(Number::Float(number)) => Value::from(*number),
        Json::String(text) => string(text),
        Json::Array(items) => items.iter().map(json_value).collect(),
        Json::Object(_) => object(json, |_, value| json_value(value)),
    }
}

/// The newest name of system messages is not known to templates.
fn template_role(role: Role) -> &'static str {
    match role {
        Role::Developer => Role::System.as_str(),
        role => role.as_str(),
    }
}

/// A tool call. On the wire its `function.arguments` is JSON within a string; templates expect the
/// object itself and write it with `tojson`, which would quote the string once more.
fn tool_call_value(call: &Json) -> Value {
    object(call, |key, value| match key {
        "function" => object(value, |key, value| match (key, value) {
            ("arguments", Json::String(text)) => match Json::parse(text.as_bytes()) {
                Ok(arguments) => json_value(&arguments),
                Err(_) => string(text),
            },
            _ => json_value(value),
        }),
        _ => json_value(value),
    })
}

/// An object, each of its values converted with its key at hand; any other JSON as it is.
fn object(json: &Json, convert: impl Fn(&str, &Json) -> Value) -> Value {
    let Some(entries) = json.as_object() else {
        return json_value(json);
    };
    let entries = entries
        .iter()
        .map(|(key, value)| (string(key), convert(key, value)));
    Value::from_object(OrderedMap(entries.collect()))
}

fn string(text: &str) -> Value {
    Value::from(without_marks(text).into_owned())
}
