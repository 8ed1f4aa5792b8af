//! Typed access to the fields of a JSON object, with errors that name the field's whole path.

use super::json::{Json, Number};
use crate::error::{ApiError, ErrorKind};
use std::fmt;
use std::ops::RangeInclusive;

/// Where a value stands in a request, such as `messages[2].content`. It is only written out for an
/// error: a request has many values and usually none.
#[derive(Clone, Copy)]
pub(super) struct Path<'p> {
    /// The object that holds it; none is the request itself.
    of: Option<&'p Path<'p>>,
    key: &'p str,
    index: Option<usize>,
}

impl<'p> Path<'p> {
    /// A field of the request itself.
    pub(super) fn field(key: &'p str) -> Self {
        Self {
            of: None,
            key,
            index: None,
        }
    }

    /// An item of the list that stands here.
    pub(super) fn item(self, index: usize) -> Self {
        Self {
            index: Some(index),
            ..self
        }
    }
}

impl fmt::Display for Path<'_> {
    /// Recursion goes no deeper than the JSON, which the parser bounds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(of) = self.of {
            write!(f, "{of}.")?;
        }
        f.write_str(self.key)?;
        match self.index {
            Some(index) => write!(f, "[{index}]"),
            None => Ok(()),
        }
    }
}

/// One object of a request and where it stands in it.
pub(super) struct Fields<'a> {
    entries: &'a [(String, Json)],
    /// None for the request itself.
    at: Option<Path<'a>>,
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
        Ok(Self { entries, at: None })
    }

    /// An object inside the request, at `path`.
    pub(super) fn nested(json: &'a Json, path: Path<'a>) -> Result<Self, ApiError> {
        let Json::Object(entries) = json else {
            return Err(wrong_type(path, "an object", json));
        };
        Ok(Self {
            entries,
            at: Some(path),
        })
    }

    /// Full path of one of this object's fields.
    pub(super) fn path<'p>(&'p self, key: &'p str) -> Path<'p> {
        Path {
            of: self.at.as_ref(),
            key,
            index: None,
        }
    }

    /// All fields, in the order of the text.
    pub(super) fn entries(&self) -> &'a [(String, Json)] {
        self.entries
    }

    /// The field's value; null is the same as absent, as OpenAI's clients send nulls for defaults.
    pub(super) fn optional(&self, key: &str) -> Option<&'a Json> {
        let entry = self.entries.iter().find(|(name, _)| name == key)?;
        (!entry.1.is_null()).then_some(&entry.1)
    }

    /// The field's value, which must be there.
    pub(super) fn required(&self, key: &str) -> Result<&'a Json, ApiError> {
        self.optional(key).ok_or_else(|| missing(self.path(key)))
    }

    pub(super) fn string(&self, key: &str) -> Result<Option<&'a str>, ApiError> {
        let Some(value) = self.optional(key) else {
            return Ok(None);
        };
        let text = value
            .as_str()
            .ok_or_else(|| wrong_type(self.path(key), "a string", value))?;
        Ok(Some(text))
    }

    pub(super) fn required_string(&self, key: &str) -> Result<&'a str, ApiError> {
        self.string(key)?.ok_or_else(|| missing(self.path(key)))
    }

    pub(super) fn bool(&self, key: &str) -> Result<Option<bool>, ApiError> {
        let Some(value) = self.optional(key) else {
            return Ok(None);
        };
        let flag = value
            .as_bool()
            .ok_or_else(|| wrong_type(self.path(key), "a boolean", value))?;
        Ok(Some(flag))
    }

    pub(super) fn array(&self, key: &str) -> Result<Option<&'a [Json]>, ApiError> {
        let Some(value) = self.optional(key) else {
            return Ok(None);
        };
        let items = value
            .as_array()
            .ok_or_else(|| wrong_type(self.path(key), "an array", value))?;
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
        check_count(self.path(key), items.len(), items_max)?;
        Ok(Some(items))
    }

    pub(super) fn object<'p>(&'p self, key: &'p str) -> Result<Option<Fields<'p>>, ApiError> {
        let Some(value) = self.optional(key) else {
            return Ok(None);
        };
        Fields::nested(value, self.path(key)).map(Some)
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
            return Err(wrong_type(self.path(key), "an integer", value));
        };
        match number.as_u64().filter(|value| range.contains(value)) {
            Some(value) => Ok(Some(value)),
            None => {
                let allowed = format!("an integer from {} to {}", range.start(), range.end());
                Err(out_of_range(self.path(key), &allowed, *number))
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
            return Err(wrong_type(self.path(key), "a number", value));
        };
        if !range.contains(number.as_f64()) {
            return Err(out_of_range(self.path(key), &range.describe(), *number));
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
pub(super) fn check_count(
    path: impl fmt::Display,
    count: usize,
    count_max: usize,
) -> Result<(), ApiError> {
    if count == 0 {
        let message = format!("{path} must not be empty");
        return Err(invalid_value(path, message));
    }
    if count > count_max {
        let message = format!("{path} has {count} items; at most {count_max} are allowed");
        return Err(invalid_value(path, message));
    }
    Ok(())
}

pub(super) fn missing(path: impl fmt::Display) -> ApiError {
    let path = path.to_string();
    let message = format!("missing required field {path}");
    ApiError::new(ErrorKind::MissingField, message).param(path)
}

pub(super) fn invalid_value(path: impl fmt::Display, message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorKind::InvalidValue, message).param(path.to_string())
}

pub(super) fn wrong_type(path: impl fmt::Display, expected: &str, found: &Json) -> ApiError {
    let message = format!("{path} must be {expected}, but it is {}", found.type_name());
    ApiError::new(ErrorKind::InvalidType, message).param(path.to_string())
}

fn out_of_range(path: Path<'_>, allowed: &str, found: Number) -> ApiError {
    let found = match found {
        Number::Unsigned(value) => value.to_string(),
        Number::Negative(value) => value.to_string(),
        Number::Float(value) => value.to_string(),
    };
    invalid_value(path, format!("{path} must be {allowed}, but it is {found}"))
}
