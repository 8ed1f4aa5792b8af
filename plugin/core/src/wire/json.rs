//! An ordered JSON tree that no two parsers can read differently.
//!
//! A filter that reads a request in one way and an upstream that reads it in another is a hole: the
//! filter prices `"model":"small"` and the upstream serves the second `"model":"large"`. So
//! duplicate keys, numbers that do not fit, lone surrogates and deep nesting are refused, never
//! guessed at.

mod read;
pub(super) mod scan;

use crate::error::ApiError;
use crate::limits::ERROR_ECHO_CHARS_MAX;

/// What is set aside for a tree that is written: most are small.
const WRITTEN_BYTES: usize = 256;

/// A JSON value. Objects keep the order of their keys and hold no key twice.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number that a double or a 64-bit integer holds.
    Number(Number),
    /// A string: valid UTF-8, escapes resolved.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object, keys in the order of the text.
    Object(Vec<(String, Json)>),
}

/// A JSON number as it was written: integers stay exact, everything else is a finite double.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// An integer from 0.
    Unsigned(u64),
    /// An integer below 0.
    Negative(i64),
    /// Written with a fraction or an exponent, or `-0`.
    Float(f64),
}

/// Is there white space between the values of a document, or around them? It says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Spacing {
    /// None at all.
    #[default]
    None,
    Loose,
}

/// How a document is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    pub spacing: Spacing,
    /// Where the entries stand, if it is an object.
    pub members: Vec<Member>,
}

/// Where an entry of an object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The quote before its key, and its value.
    pub key_from: usize,
    pub value_from: usize,
    /// What follows it.
    pub to: usize,
}

impl Json {
    /// Reads one document and nothing after it.
    ///
    /// # Errors
    /// `InvalidJson` (also for a byte order mark, bytes that are not UTF-8 and numbers that fit
    /// neither 64 bits nor a double), `DuplicateKey`, `TooDeep`, and `InvalidValue` for more than
    /// `JSON_VALUES_MAX` values.
    pub fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        read::read(bytes).map(|(tree, _)| tree)
    }

    /// [`Json::parse`], with what can be told of how it is written.
    pub(super) fn parse_laid_out(bytes: &[u8]) -> Result<(Self, Layout), ApiError> {
        read::read(bytes)
    }

    /// An integer.
    pub(super) fn unsigned(value: u64) -> Self {
        Self::Number(Number::Unsigned(value))
    }

    /// The value of `key`, if this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let entry = self.as_object()?.iter().find(|(name, _)| name == key)?;
        Some(&entry.1)
    }

    /// The entries, if this is an object.
    pub fn as_object(&self) -> Option<&[(String, Self)]> {
        if let Self::Object(entries) = self {
            Some(entries)
        } else {
            None
        }
    }

    /// The items, if this is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(items) = self {
            Some(items)
        } else {
            None
        }
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The value, if this is `true` or `false`.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self {
            Some(*value)
        } else {
            None
        }
    }

    /// The number as an integer from 0, if it is one.
    pub fn as_u64(&self) -> Option<u64> {
        if let Self::Number(number) = self {
            number.as_u64()
        } else {
            None
        }
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// What to call this in an error message, with its article.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// Writes the tree with no white space, keys in their order, numbers as the shortest text with
    /// the same value. Equal trees give equal bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Number(number) => number.write(out),
            Self::String(text) => write_string(text, out),
            Self::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Object(entries) => {
                out.push(b'{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_string(key, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }

    /// [`Json::write`] into a new buffer.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(WRITTEN_BYTES);
        self.write(&mut out);
        out
    }
}

impl Number {
    /// The number as an integer from 0; `3.0` is 3, as JSON has one kind of number.
    pub fn as_u64(self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(value),
            Self::Negative(_) => None,
            Self::Float(value) => {
                // Within 2^53 a double is an exact integer, so the cast loses nothing.
                let exact =
                    value.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&value);
                exact.then_some(value as u64)
            }
        }
    }

    /// The number as a double, rounded if it is an integer beyond 2^53.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Unsigned(value) => value as f64,
            Self::Negative(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        // Writing to memory cannot fail.
        let _ = serde_json::to_writer(out, &self);
    }
}

impl serde::Serialize for Number {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Unsigned(value) => serializer.serialize_u64(value),
            Self::Negative(value) => serializer.serialize_i64(value),
            Self::Float(value) => serializer.serialize_f64(value),
        }
    }
}

/// Writes `text` as a JSON string. Only what JSON demands is escaped.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len().saturating_add(2));
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some((plain, marked)) = rest.split_at_checked(scan::plain_bytes(rest)) {
        out.extend_from_slice(plain);
        let Some((byte, behind)) = marked.split_first() else {
            break;
        };
        write_byte(*byte, out);
        rest = behind;
    }
    out.push(b'"');
}

/// One byte of a string, escaped if RFC 8259, section 7, wants that.
fn write_byte(byte: u8, out: &mut Vec<u8>) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x09 => b't',
        0x0a => b'n',
        0x0c => b'f',
        0x0d => b'r',
        0x00..0x20 => {
            out.extend_from_slice(b"\\u00");
            out.extend([byte >> 4, byte & 0x0f].map(|digit| {
                // A digit is below 16.
                HEX.get(usize::from(digit)).copied().unwrap_or(b'0')
            }));
            return;
        }
        _ => return out.push(byte),
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// What the inside of a JSON string says, escapes resolved; `None` if it is none.
pub(super) fn unescaped(text: &str) -> Option<String> {
    read::unescaped(text)
}

/// A client's own word as an error message may repeat it: short, and with nothing that could break
/// a log line.
pub(super) fn echo(word: &str) -> String {
    let mut short: String = word
        .chars()
        .take(ERROR_ECHO_CHARS_MAX)
        .flat_map(char::escape_debug)
        .collect();
    if word.chars().nth(ERROR_ECHO_CHARS_MAX).is_some() {
        short.push_str("...");
    }
    short
}
