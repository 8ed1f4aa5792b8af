//! Typed access to the fields of a JSON object, with errors that name the field's whole path.

use super::json::{Json, Number};
use crate::error::{ApiError, ErrorKind};
use std::ops::RangeInclusive;

/// One object of a request and where it stands in it.
pub(super) struct Fields<'a> {
    entries: &'a [(String, Json)],
    /// Empty for the request itself, else such as `messages[2].`.
    prefix: String,
}

impl<'a> Fields<'a> {
    /// The request itself.
    pub(super) fn root(json: &'a Json) -> Result<Self, ApiError> {
        let Json::Object(entries) = json else {
            let message = format!(
                "the body must be a JSON object, but it is {}",
                json.type_name()
            );
            return Err(ApiError::new(ErrorKind::InvalidType, message));
        };
        Ok(Self {
            entries,
            prefix: String::new(),
        })
    }

    /// An object inside the request, at `path`.
    pub(super) fn nested(json: &'a Json, path: &str) -> Result<Self, ApiError> {
        let Json::Object(entries) = json else {
            return Err(wrong_type(path, "an object", json));
        };
        Ok(Self {
            entries,
            prefix: format!("{path}."),
        })
    }

    /// Full path of one of this object's fields.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The field's value; null is the same as absent, as OpenAI's clients send nulls for defaults.
    pub(super) fn optional(&self, key: &str) -> Option<&'a Json> {
        let entry = self.entries.iter().find(|(name, _)| name == key)?;
        (!entry.1.is_null()).then_some(&entry.1)
    }

    /// The field's value, which must be there.
    pub(super) fn required(&self, key: &str) -> Result<&'a Json, ApiError> {
        self.optional(key).ok_or_else(|| missing(&self.path(key)))
    }

    pub(super) fn string(&self, key: &str) -> Result<Option<&'a str>, ApiError> {
        let Some(value) = self.optional(key) else {
            return Ok(None);
        };
        let text = value
            .as_str()
            .ok_or_else(|| wrong_type(&self.path(key), "a string", value))?;
        Ok(Some(text))
    }

    pub(super) fn required_string(&self, key: &str) -> Result<&'a str, ApiError> {
        self.string(key)?.ok_or_else(|| missing(&self.path(key)))
    }

    pub(super) fn bool(&self, key: &str) -> Result<Option<bool>, ApiError> {
        let Some(value) = self.optional(key) else {
            return Ok(None);
        };
        let flag = value
            .as_bool()
            .ok_or_else(|| wrong_type(&self.path(key), "a boolean", value))?;
        Ok(Some(flag))
    }

    pub(super) fn array(&self, key: &str) -> Result<Option<&'a [Json]>, ApiError> {
        let Some(value) = self.optional(key) else {
            return Ok(None);
        };
        let items = value
            .as_array()
            .ok_or_else(|| wrong_type(&self.path(key), "an array", value))?;
        Ok(Some(items))
    }

    /// An array with at least one and at most `items_max` items.
    pub(super) fn filled_array(
        &self,
        key: &str,
        items_max: usize,
    ) -> Result<Option<&'a [Json]>, ApiError> {
        let Some(items) = self.array(key)? else {
            return Ok(None);
        };
        check_count(&self.path(key), items.len(), items_max)?;
        Ok(Some(items))
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<Fields<'a>>, ApiError> {
        let Some(value) = self.optional(key) else {
            return Ok(None);
        };
        Fields::nested(value, &self.path(key)).map(Some)
    }

    /// A whole number within `range`.
    pub(super) fn integer(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.optional(key) else {
            return Ok(None);
        };
        let Json::Number(number) = value else {
            return Err(wrong_type(&self.path(key), "an integer", value));
        };
        match number.as_u64().filter(|value| range.contains(value)) {
            Some(value) => Ok(Some(value)),
            None => {
                let allowed = format!("an integer from {} to {}", range.start(), range.end());
                Err(out_of_range(&self.path(key), &allowed, *number))
            }
        }
    }

    /// [`Fields::integer`] for the fields that are kept in 32 bits.
    pub(super) fn integer_u32(
        &self,
        key: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, ApiError> {
        let wide = u64::from(*range.start())..=u64::from(*range.end());
        let value = self.integer(key, wide)?;
        // The range was checked, so the conversion cannot fail.
        Ok(value.and_then(|value| u32::try_from(value).ok()))
    }

    /// A number within `range`, or `default` when absent.
    pub(super) fn number(
        &self,
        key: &str,
        range: NumberRange,
        default: f32,
    ) -> Result<f32, ApiError> {
        let Some(value) = self.optional(key) else {
            return Ok(default);
        };
        let Json::Number(number) = value else {
            return Err(wrong_type(&self.path(key), "a number", value));
        };
        if !range.contains(number.as_f64()) {
            return Err(out_of_range(&self.path(key), &range.describe(), *number));
        }
        Ok(number.as_f64() as f32)
    }
}

/// The values that a sampling parameter may take.
#[derive(Clone, Copy)]
pub(super) enum NumberRange {
    /// From the first to the second, both allowed.
    Closed(f64, f64),
    /// Above 0, up to and with this.
    AboveZero(f64),
}

impl NumberRange {
    fn contains(self, value: f64) -> bool {
        match self {
            Self::Closed(low, high) => (low..=high).contains(&value),
            // What a 32-bit float would round to 0 is 0 to the sampler.
            Self::AboveZero(high) => value as f32 > 0.0 && value <= high,
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Closed(low, high) => format!("a number from {low} to {high}"),
            Self::AboveZero(high) => format!("a number above 0 and up to {high}"),
        }
    }
}

/// Refuses an empty list and one longer than `count_max`.
pub(super) fn check_count(path: &str, count: usize, count_max: usize) -> Result<(), ApiError> {
    if count == 0 {
        return Err(invalid_value(path, format!("{path} must not be empty")));
    }
    if count > count_max {
        let message = format!("{path} has {count} items; at most {count_max} are allowed");
        return Err(invalid_value(path, message));
    }
    Ok(())
}

pub(super) fn missing(path: &str) -> ApiError {
    ApiError::new(
        ErrorKind::MissingField,
        format!("missing required field {path}"),
    )
    .param(path)
}

pub(super) fn invalid_value(path: &str, message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorKind::InvalidValue, message).param(path)
}

pub(super) fn wrong_type(path: &str, expected: &str, found: &Json) -> ApiError {
    let message = format!("{path} must be {expected}, but it is {}", found.type_name());
    ApiError::new(ErrorKind::InvalidType, message).param(path)
}

fn out_of_range(path: &str, allowed: &str, found: Number) -> ApiError {
    let found = match found {
        Number::Unsigned(value) => value.to_string(),
        Number::Negative(value) => value.to_string(),
        Number::Float(value) => value.to_string(),
    };
    invalid_value(path, format!("{path} must be {allowed}, but it is {found}"))
}
