//! Typed access to a model file's metadata. A key of the wrong type is an error that names it; an
//! absent one is `None`, and the caller says what that means.

use std::collections::HashMap;

use super::reader::Reader;
use super::value::{Array, Kind, Pair, Value};
use crate::error::BackendError;

/// The key-value pairs of a model file, beside the bytes that its arrays still lie in.
#[derive(Clone, Copy)]
pub struct Metadata<'a> {
    pub(super) values: &'a HashMap<String, Pair>,
    pub(super) bytes: &'a [u8],
}

impl<'a> Metadata<'a> {
    /// A string.
    pub fn string(&self, key: &str) -> Result<Option<&'a str>, BackendError> {
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A non-negative integer of any width.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>, BackendError> {
        self.typed(key, "a non-negative integer", |value| match value {
            Value::Unsigned(number) => Some(*number),
            Value::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A finite number of either precision.
    pub fn float(&self, key: &str) -> Result<Option<f32>, BackendError> {
        self.typed(key, "a finite number", |value| match value {
            Value::Float(number) => Some(*number as f32).filter(|number| number.is_finite()),
            _ => None,
        })
    }

    /// A truth value.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, BackendError> {
        self.typed(key, "a truth value", |value| match value {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        })
    }

    /// An array of UTF-8 strings.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<String>>, BackendError> {
        let Some(array) = self.array(key, "an array of strings", &[Kind::String])? else {
            return Ok(None);
        };
        let mut reader = Reader::over(self.bytes, array.bytes.clone());
        // Each string took eight bytes of the file at least, so the file bounds the allocation.
        let mut strings = Vec::with_capacity(array.count as usize);
        for _ in 0..array.count {
            strings.push(reader.string(u64::MAX)?.to_owned());
        }
        Ok(Some(strings))
    }

    /// An array of 32-bit integers, signed or not.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i32>>, BackendError> {
        let kinds = [Kind::I32, Kind::U32];
        let Some(array) = self.array(key, "an array of 32-bit integers", &kinds)? else {
            return Ok(None);
        };
        let bytes = self.bytes.get(array.bytes.clone()).unwrap_or_default();
        let (numbers, _) = bytes.as_chunks::<4>();
        Ok(Some(
            numbers
                .iter()
                .map(|number| i32::from_le_bytes(*number))
                .collect(),
        ))
    }

    fn array(
        &self,
        key: &str,
        wanted: &str,
        elements: &[Kind],
    ) -> Result<Option<&'a Array>, BackendError> {
        self.typed(key, wanted, |value| match value {
            Value::Array(array) if elements.contains(&array.element) => Some(array),
            _ => None,
        })
    }

    fn typed<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, BackendError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(pair) => match read(&pair.value) {
                Some(typed) => Ok(Some(typed)),
                None => Err(BackendError::Gguf(format!("'{key}' is not {wanted}"))),
            },
        }
    }
}

/// Turns an absent value into an error that names its key.
pub fn required<T>(key: &str, value: Option<T>) -> Result<T, BackendError> {
    value.ok_or_else(|| BackendError::Gguf(format!("'{key}' is missing")))
}
