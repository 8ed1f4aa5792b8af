//! The two encodings of a plugin configuration, decoded into one tree. Envoy hands a `StringValue`
//! over as its text, and a `Struct` as serialized protobuf (seen on 1.40; its documentation says
//! JSON).

use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde_json::Value;

use super::ConfigError;
use crate::limits::PLUGIN_CONFIG_BYTES_MAX;
use crate::wire::{Json, Number};

/// First byte of a serialized `Struct` that is not empty: field 1, length-delimited.
const STRUCT_FIRST_BYTE: u8 = 0x0a;

/// Decodes a configuration; the tree's root is an object.
pub(super) fn decode(bytes: &[u8]) -> Result<Value, ConfigError> {
    if bytes.len() > PLUGIN_CONFIG_BYTES_MAX {
        return Err(whole(format!(
            "must be at most {PLUGIN_CONFIG_BYTES_MAX} bytes"
        )));
    }
    let tree = match bytes.first() {
        None => return Err(whole("is missing: the filter needs at least `models`")),
        Some(&STRUCT_FIRST_BYTE) if !is_text(bytes) => from_struct(bytes)?,
        Some(_) => from_text(bytes)?,
    };
    match tree {
        Value::Object(_) => Ok(tree),
        _ => Err(whole("must be an object")),
    }
}

/// A line feed is also byte 0x0a: JSON text may begin with one, and then has a brace next.
fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
        && std::str::from_utf8(bytes).is_ok()
        && Struct::decode(bytes).is_err()
}

fn whole(problem: impl Into<String>) -> ConfigError {
    ConfigError::new("configuration", problem)
}

fn from_text(bytes: &[u8]) -> Result<Value, ConfigError> {
    let json = Json::parse(bytes).map_err(|error| whole(error.message))?;
    Ok(from_json(json))
}

fn from_json(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(Number::Unsigned(value)) => Value::from(value),
        Json::Number(Number::Negative(value)) => Value::from(value),
        Json::Number(Number::Float(value)) => Value::from(value),
        Json::String(value) => Value::String(value),
        Json::Array(items) => items.into_iter().map(from_json).collect(),
        Json::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(key, value)| (key, from_json(value)))
                .collect(),
        ),
    }
}

fn from_struct(bytes: &[u8]) -> Result<Value, ConfigError> {
    let message = Struct::decode(bytes)
        .map_err(|_| whole("is neither JSON text nor a serialized google.protobuf.Struct"))?;
    Ok(from_fields(message))
}

fn from_fields(message: Struct) -> Value {
    Value::Object(
        message
            .fields
            .into_iter()
            .map(|(key, value)| (key, from_value(value)))
            .collect(),
    )
}

fn from_value(value: prost_types::Value) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        // A Struct has doubles only. NaN and infinities become null, which no field accepts.
        Some(Kind::NumberValue(value)) => Value::from(value),
        Some(Kind::StringValue(value)) => Value::String(value),
        Some(Kind::StructValue(value)) => from_fields(value),
        Some(Kind::ListValue(ListValue { values })) => values.into_iter().map(from_value).collect(),
    }
}
