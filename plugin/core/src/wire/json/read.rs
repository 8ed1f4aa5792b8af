//! Reads the tree in one pass: serde_json finds the tokens, the visitor here refuses what it would
//! let through.

use super::{Json, Number, echo};
use crate::error::{ApiError, ErrorKind};
use crate::limits::{JSON_DEPTH_MAX, JSON_VALUES_MAX};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Objects up to this many keys look for a duplicate by a scan, larger ones by sorting.
const KEYS_SCANNED_MAX: usize = 16;

/// What one parse keeps beside the tree.
#[derive(Default)]
struct Parse {
    depth: usize,
    values: usize,
    fault: Option<Fault>,
}

/// A refusal of ours inside serde_json's run: its errors carry strings only, so the typed error
/// waits here and collects its path, innermost segment first, while the visitors unwind.
struct Fault {
    kind: ErrorKind,
    message: String,
    path: Vec<Segment>,
}

enum Segment {
    Key(String),
    Index(usize),
}

/// [`Json::parse`].
pub(super) fn read(bytes: &[u8]) -> Result<Json, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        invalid(format!(
            "the body is not valid UTF-8: the bytes at offset {at} are no character"
        ))
    })?;
    if text.starts_with('\u{feff}') {
        return Err(invalid(
            "the body starts with a byte order mark; JSON must not have one",
        ));
    }
    if text.trim_ascii().is_empty() {
        return Err(invalid("the body is empty"));
    }
    let mut parse = Parse::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let tree = Value(&mut parse).deserialize(&mut deserializer);
    match tree.and_then(|tree| deserializer.end().map(|()| tree)) {
        Ok(tree) => Ok(tree),
        Err(error) => Err(match parse.fault {
            Some(fault) => fault.into_api_error(),
            None => invalid(format!("the body is not valid JSON: {error}")),
        }),
    }
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorKind::InvalidJson, message)
}

impl Fault {
    fn into_api_error(self) -> ApiError {
        let mut path = String::new();
        for segment in self.path.iter().rev() {
            match segment {
                Segment::Key(key) if path.is_empty() => path.push_str(key),
                Segment::Key(key) => path.extend([".", key]),
                Segment::Index(index) => path.extend(["[", &index.to_string(), "]"]),
            }
        }
        let error = ApiError::new(self.kind, self.message);
        // A document that is too large or too deep is so as a whole: a path would only be long.
        match self.kind {
            ErrorKind::DuplicateKey | ErrorKind::InvalidJson if !path.is_empty() => {
                error.param(path)
            }
            _ => error,
        }
    }
}

impl Parse {
    /// Notes why we refuse and returns what serde_json needs to stop.
    fn refuse<E: Error>(&mut self, kind: ErrorKind, message: String, at: Vec<Segment>) -> E {
        self.fault = Some(Fault {
            kind,
            message,
            path: at,
        });
        E::custom("refused")
    }

    /// Adds where the fault lies, seen from the container that is being left.
    fn locate(&mut self, segment: impl FnOnce() -> Segment) {
        if let Some(fault) = &mut self.fault {
            fault.path.push(segment());
        }
    }

    fn count_value<E: Error>(&mut self) -> Result<(), E> {
        self.values += 1;
        if self.values > JSON_VALUES_MAX {
            let message = format!("the JSON holds more than {JSON_VALUES_MAX} values");
            return Err(self.refuse(ErrorKind::InvalidValue, message, Vec::new()));
        }
        Ok(())
    }

    /// Called on `[` and `{`, before anything inside is read: a flood of brackets stops here and
    /// not in serde_json's own, deeper limit.
    fn descend<E: Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > JSON_DEPTH_MAX {
            let message = format!("the JSON is nested deeper than {JSON_DEPTH_MAX} levels");
            return Err(self.refuse(ErrorKind::TooDeep, message, Vec::new()));
        }
        Ok(())
    }
}

/// Reads one value: both the seed and the visitor, as the value's type is not known beforehand.
struct Value<'p>(&'p mut Parse);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        self.0.count_value()?;
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        self.0.count_value()?;
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        self.0.count_value()?;
        Ok(Json::Number(Number::Unsigned(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        self.0.count_value()?;
        Ok(Json::Number(Number::Negative(value)))
    }

    /// serde_json hands integers beyond 64 bits over as doubles, already rounded. Every double of
    /// that size is an integer, so its size alone tells: refused, as another parser may keep it.
    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        self.0.count_value()?;
        const BELOW: f64 = 18_446_744_073_709_551_616.0; // 2^64
        const ABOVE: f64 = -9_223_372_036_854_775_808.0; // -2^63
        if value >= BELOW || value <= ABOVE {
            let message = "the JSON holds a number beyond 64 bits, which parsers read differently";
            return Err(self
                .0
                .refuse(ErrorKind::InvalidJson, message.into(), Vec::new()));
        }
        Ok(Json::Number(Number::Float(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Json, E> {
        self.0.count_value()?;
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let parse = self.0;
        parse.count_value()?;
        parse.descend()?;
        let mut items = Vec::new();
        loop {
            match access.next_element_seed(Value(parse)) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => {
                    parse.locate(|| Segment::Index(items.len()));
                    return Err(error);
                }
            }
        }
        parse.depth -= 1;
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let parse = self.0;
        parse.count_value()?;
        parse.descend()?;
        let mut entries: Vec<(String, Json)> = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            let scanned = entries.len() <= KEYS_SCANNED_MAX;
            if scanned && entries.iter().any(|(known, _)| *known == key) {
                return Err(duplicate(parse, &key));
            }
            match access.next_value_seed(Value(parse)) {
                Ok(value) => entries.push((key, value)),
                Err(error) => {
                    parse.locate(|| Segment::Key(echo(&key)));
                    return Err(error);
                }
            }
        }
        if let Some(key) = repeated_key(&entries) {
            return Err(duplicate(parse, key));
        }
        parse.depth -= 1;
        Ok(Json::Object(entries))
    }
}

fn duplicate<E: Error>(parse: &mut Parse, key: &str) -> E {
    let key = echo(key);
    let message = format!("duplicate key \"{key}\" in a JSON object");
    parse.refuse(ErrorKind::DuplicateKey, message, vec![Segment::Key(key)])
}

/// A key that a large object holds twice. Sorting keeps a hostile object of 100,000 keys from
/// costing the square of that.
fn repeated_key(entries: &[(String, Json)]) -> Option<&str> {
    if entries.len() <= KEYS_SCANNED_MAX {
        return None;
    }
    let mut keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.windows(2).find_map(|pair| match pair {
        [first, second] if first == second => Some(*first),
        _ => None,
    })
}
