//! What things are called in Redis, what is said to it, and what its answers mean.

use std::fmt::Write as _;
use std::time::Duration;

use ::redis::{Pipeline, Value};
use farthing_core::limits::{REDIS_INDEX_BUILD_SEEN, REDIS_INDEX_LINKS, REDIS_INDEX_SEEN};
use sha2::{Digest, Sha256};

use super::sizes::Plan;
use crate::remote::{add, command};
use crate::semantic::index::Quantized;
use crate::semantic::scope::{RouteKey, Scope};
use crate::semantic::store::RecordId;

/// The version of the hashes and of their index; a change of either is a change of this.
const VERSION: &str = "1";

/// Bytes of a hash in a name, enough to tell models apart.
const SPACE_BYTES: usize = 8;

/// Fields of a hash.
const SCOPE: &str = "scope";
const VECTOR: &str = "vector";
const RECORD: &str = "record";

/// Gives names.
#[derive(Debug)]
pub(super) struct Naming {
    prefix: String,
    revision: String,
}

/// Questions whose vectors can be compared: of one embedding model, one width and one version. Two
/// backends that differ in any of them see nothing of each other.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) width: usize,
    index: String,
    /// What the keys of its hashes begin with.
    keys: String,
}

// === impl Naming ===

impl Naming {
    pub(super) fn new(prefix: &str, revision: &str) -> Naming {
        Naming {
            prefix: prefix.to_owned(),
            revision: revision.to_owned(),
        }
    }

    pub(super) fn space(&self, width: usize) -> Space {
        let mut digest = Sha256::new();
        for part in [VERSION, &self.revision, &width.to_string()] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let hash: [u8; 32] = digest.finalize().into();
        let name = hexadecimal(hash.get(..SPACE_BYTES).unwrap_or(&hash));
        let prefix = &self.prefix;
        Space {
            width,
            index: format!("{prefix}:semantic:{name}"),
            keys: format!("{prefix}:s:{name}:"),
        }
    }

    /// The key of a route's samples.
    pub(super) fn samples(&self, route: &RouteKey) -> String {
        format!("{}:b:{}", self.prefix, hexadecimal(&route.0))
    }
}

// === impl Space ===

impl Space {
    pub(super) fn key(&self, id: RecordId) -> String {
        format!("{}{id:032x}", self.keys)
    }

    /// Makes the index. What already has such keys is taken in by and by.
    pub(super) fn create(&self) -> Pipeline {
        let (width, links) = (self.width.to_string(), REDIS_INDEX_LINKS.to_string());
        let seen = REDIS_INDEX_BUILD_SEEN.to_string();
        let words = [
            &self.index,
            "ON",
            "HASH",
            "PREFIX",
            "1",
            &self.keys,
            "SCHEMA",
            SCOPE,
            "TAG",
            VECTOR,
            "VECTOR",
            "HNSW",
            "10",
            "TYPE",
            "FLOAT32",
            "DIM",
            &width,
            "DISTANCE_METRIC",
            "COSINE",
            "M",
            &links,
            "EF_CONSTRUCTION",
            &seen,
        ];
        command("FT.CREATE", &words.map(str::as_bytes))
    }

    /// Asks what the index is like.
    pub(super) fn info(&self) -> Pipeline {
        command("FT.INFO", &[self.index.as_bytes()])
    }

    /// Asks for what is nearest in a scope. What would come too late need not be looked for.
    pub(super) fn search(
        &self,
        (scope, plan): (&Scope, Plan),
        vector: &Quantized,
        count: usize,
        within: Duration,
    ) -> Pipeline {
        let filter = filter(scope);
        let how = match plan {
            Plan::Any => format!("EF_RUNTIME {REDIS_INDEX_SEEN}"),
            Plan::Each => "HYBRID_POLICY ADHOC_BF".to_owned(),
            Plan::Links => format!("HYBRID_POLICY BATCHES EF_RUNTIME {REDIS_INDEX_SEEN}"),
        };
        let query = format!("{filter}=>[KNN {count} @{VECTOR} $v {how}]");
        let (count, within) = (count.to_string(), within.as_millis().to_string());
        let floats = floats(vector);
        let words: [&[u8]; 16] = [
            self.index.as_bytes(),
            query.as_bytes(),
            b"TIMEOUT",
            within.as_bytes(),
            b"PARAMS",
            b"2",
            b"v",
            &floats,
            b"RETURN",
            b"1",
            RECORD.as_bytes(),
            b"LIMIT",
            b"0",
            count.as_bytes(),
            b"DIALECT",
            b"2",
        ];
        command("FT.SEARCH", &words)
    }

    /// Asks how many entries a scope has.
    pub(super) fn count(&self, scope: &Scope) -> Pipeline {
        let filter = filter(scope);
        let words: [&[u8]; 8] = [
            self.index.as_bytes(),
            filter.as_bytes(),
            b"NOCONTENT",
            b"LIMIT",
            b"0",
            b"0",
            b"DIALECT",
            b"2",
        ];
        command("FT.SEARCH", &words)
    }

    /// Keeps a record for so long: all of it or nothing.
    pub(super) fn put(
        &self,
        (id, scope): (RecordId, &Scope),
        vector: &Quantized,
        sealed: &[u8],
        lives_s: u64,
    ) -> Pipeline {
        let (key, scope, lives_s) = (self.key(id), hexadecimal(&scope.0), lives_s.to_string());
        let floats = floats(vector);
        let mut commands = Pipeline::new();
        commands.atomic();
        let fields: [&[u8]; 7] = [
            key.as_bytes(),
            SCOPE.as_bytes(),
            scope.as_bytes(),
            VECTOR.as_bytes(),
            &floats,
            RECORD.as_bytes(),
            sealed,
        ];
        add(&mut commands, "HSET", &fields);
        add(
            &mut commands,
            "EXPIRE",
            &[key.as_bytes(), lives_s.as_bytes()],
        );
        commands
    }
}

/// How many were found by a search.
pub(super) fn total(answer: &Value) -> Option<u64> {
    match answer {
        Value::Array(items) => read_number(items.first()?),
        _ => None,
    }
}

/// Keys and records in the answer to a search: their number, then each key with a list of its
/// fields. What has just expired has none.
pub(super) fn found(answer: &Value) -> Vec<(&[u8], &[u8])> {
    let Value::Array(items) = answer else {
        return Vec::new();
    };
    let pairs = items.get(1..).unwrap_or_default().chunks_exact(2);
    let records = pairs.filter_map(|pair| match pair {
        [key, Value::Array(fields)] => Some((bytes(key)?, value_of(fields, RECORD)?)),
        _ => None,
    });
    records.collect()
}

/// How wide the vectors of an index are, by its description.
pub(super) fn width(info: &Value) -> Option<u64> {
    number(info, &["dim", "dimensions"])
}

/// How many records an index has, by its description.
pub(super) fn entries(info: &Value) -> Option<u64> {
    number(info, &["num_docs"])
}

/// The number behind one of these names, in lists of names and values within each other.
fn number(value: &Value, names: &[&str]) -> Option<u64> {
    let Value::Array(items) = value else {
        return None;
    };
    let is_name = |item: &Value| {
        let text = bytes(item).unwrap_or_default();
        names
            .iter()
            .any(|name| text.eq_ignore_ascii_case(name.as_bytes()))
    };
    let behind = items.windows(2).find_map(|pair| match pair {
        [name, value] if is_name(name) => read_number(value),
        _ => None,
    });
    behind.or_else(|| items.iter().find_map(|item| number(item, names)))
}

fn read_number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        other => std::str::from_utf8(bytes(other)?).ok()?.parse().ok(),
    }
}

fn value_of<'a>(fields: &'a [Value], name: &str) -> Option<&'a [u8]> {
    let mut pairs = fields.chunks_exact(2);
    pairs.find_map(|pair| match pair {
        [field, value] if bytes(field) == Some(name.as_bytes()) => bytes(value),
        _ => None,
    })
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// What has the tag of a scope.
fn filter(scope: &Scope) -> String {
    format!("@{SCOPE}:{{{}}}", hexadecimal(&scope.0))
}

/// A vector as Redis wants it.
fn floats(vector: &Quantized) -> Vec<u8> {
    let numbers = vector.numbers.iter();
    numbers
        .flat_map(|number| (f32::from(*number) * vector.scale).to_le_bytes())
        .collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    /// Both servers describe an index in lists within lists, with names of their own.
    #[test]
    fn descriptions_of_both_servers_are_read() {
        let words = |words: &[&str]| words.iter().map(|word| text(word)).collect::<Vec<_>>();
        let redis = [
            words(&["identifier", "vector", "type", "VECTOR", "dim"]),
            vec![Value::Int(384)],
        ];
        let inner = Value::Array(words(&["capacity", "10240", "dimensions", "384"]));
        let valkey = [words(&["identifier", "vector", "index"]), vec![inner]];
        for vector in [redis.concat(), valkey.concat()] {
            let scope = Value::Array(words(&["identifier", "scope", "type", "TAG"]));
            let attributes = Value::Array(vec![scope, Value::Array(vector)]);
            let info = Value::Array(vec![
                Value::SimpleString("attributes".to_owned()),
                attributes,
                text("num_docs"),
                text("12"),
            ]);
            assert_eq!((width(&info), entries(&info)), (Some(384), Some(12)));
        }
        assert_eq!(width(&Value::Okay), None);
    }

    #[test]
    fn answers_of_any_form_are_read() {
        let whole = Value::Array(vec![text("other"), text("x"), text(RECORD), text("r1")]);
        let answer = |items: Vec<Value>| Value::Array([vec![Value::Int(2)], items].concat());
        let two = answer(vec![text("k1"), whole.clone(), text("k2"), Value::Nil]);
        assert_eq!(found(&two), [(b"k1".as_slice(), b"r1".as_slice())]);
        for odd in [
            answer(vec![text("k1")]),
            answer(vec![text("k1"), text("k2")]),
            answer(vec![whole.clone(), whole]),
            answer(vec![text("k1"), Value::Array(vec![text(RECORD)])]),
            Value::Array(Vec::new()),
            Value::Nil,
        ] {
            assert_eq!(found(&odd), Vec::new(), "{odd:?}");
        }
    }
}
