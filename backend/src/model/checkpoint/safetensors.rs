//! Safetensors files (<https://huggingface.co/docs/safetensors>), read as hostile input: eight
//! bytes with the header's length, the header in JSON, then the tensors' bytes. Every length,
//! shape and offset is checked with checked arithmetic before it is used, and no byte belongs to
//! two tensors.
//!
//! The `safetensors` crate adds offsets up unchecked (0.8.0, `read_metadata`), which eight tensors
//! of 2^61 bytes overflow.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use farthing_core::limits;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use crate::error::BackendError;

/// An element type of which the size is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F32,
    F16,
    BF16,
    I32,
    /// One that nothing is made of here.
    Other {
        bytes: u64,
    },
}

/// A tensor, and where its bytes are in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) element: Element,
    /// Row-major: the last dimension is the contiguous one.
    pub(super) shape: Vec<usize>,
    pub(super) place: Range<usize>,
}

/// The description of one tensor as it is written.
#[derive(serde::Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The header's object. `__metadata__` is free text and skipped.
struct RawHeader(HashMap<String, RawEntry>);

/// Bytes before the header: its length.
const LENGTH_BYTES: usize = 8;

/// Reads the header of a file.
///
/// # Errors
/// [`BackendError::Checkpoint`] names what is wrong.
pub(super) fn entries(file: &[u8]) -> Result<HashMap<String, Entry>, BackendError> {
    let (length, rest) = file
        .split_first_chunk::<LENGTH_BYTES>()
        .ok_or_else(|| wrong("the file has not the 8 bytes of a header's length"))?;
    let length = u64::from_le_bytes(*length);
    if length > limits::SAFETENSORS_HEADER_BYTES_MAX.min(rest.len() as u64) {
        return Err(wrong(&format!(
            "the header claims {length} bytes, where the file has {} and {} are allowed",
            rest.len(),
            limits::SAFETENSORS_HEADER_BYTES_MAX
        )));
    }
    // It is at most the length of a slice.
    let (header, data) = rest.split_at(length as usize);
    let RawHeader(raw) = serde_json::from_slice(header)
        .map_err(|error| wrong(&format!("the header is not what it should be: {error}")))?;
    let data_start = file.len() - data.len();
    let mut entries = HashMap::with_capacity(raw.len());
    for (name, raw) in raw {
        let entry = raw.check(data_start, data.len() as u64);
        let entry = entry.map_err(|what| wrong(&format!("the tensor '{name}' {what}")))?;
        entries.insert(name, entry);
    }
    check_disjoint(&entries)?;
    Ok(entries)
}

// === impl Element ===

impl Element {
    fn parse(name: &str) -> Option<Element> {
        let other = |bytes| Some(Element::Other { bytes });
        match name {
            "F32" => Some(Element::F32),
            "F16" => Some(Element::F16),
            "BF16" => Some(Element::BF16),
            "I32" => Some(Element::I32),
            "F64" | "I64" | "U64" => other(8),
            "U32" => other(4),
            "I16" | "U16" => other(2),
            "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" => other(1),
            _ => None,
        }
    }

    fn bytes(self) -> u64 {
        match self {
            Element::F32 | Element::I32 => 4,
            Element::F16 | Element::BF16 => 2,
            Element::Other { bytes } => bytes,
        }
    }
}

// === impl RawEntry ===

impl RawEntry {
    fn check(self, data_start: usize, data_bytes: u64) -> Result<Entry, String> {
        let element = Element::parse(&self.dtype)
            .ok_or_else(|| format!("has the unknown type '{:.32}'", self.dtype))?;
        if self.shape.len() > limits::SAFETENSORS_RANK_MAX {
            return Err(format!("has {} dimensions", self.shape.len()));
        }
        let bytes = self
            .shape
            .iter()
            .try_fold(element.bytes(), |product, &dim| product.checked_mul(dim))
            .ok_or("has an impossible shape")?;
        let (start, end) = self.data_offsets;
        if start > end || end > data_bytes {
            return Err(format!(
                "lies from {start} to {end}, where the file has {data_bytes} bytes of data"
            ));
        }
        if end - start != bytes {
            return Err(format!(
                "has {} bytes, where its shape asks for {bytes}",
                end - start
            ));
        }
        // Each dimension of a tensor with bytes is at most their number; without any, a dimension
        // may be anything.
        let shape: Option<Vec<usize>> = self
            .shape
            .iter()
            .map(|&dim| usize::try_from(dim).ok())
            .collect();
        Ok(Entry {
            element,
            shape: shape.ok_or("has an impossible shape")?,
            place: data_start + start as usize..data_start + end as usize,
        })
    }
}

// === impl RawHeader ===

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawHeader, D::Error> {
        struct Tensors;

        impl<'de> Visitor<'de> for Tensors {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut entries = HashMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    if entries.len() >= limits::GGUF_TENSORS_MAX as usize {
                        return Err(A::Error::custom("it has too many tensors"));
                    }
                    let entry = map.next_value::<RawEntry>()?;
                    if entries.insert(name, entry).is_some() {
                        return Err(A::Error::custom("a tensor occurs twice"));
                    }
                }
                Ok(RawHeader(entries))
            }
        }

        deserializer.deserialize_map(Tensors)
    }
}

/// Fails if two tensors share a byte: many over one region would turn a small file into any amount
/// of memory.
fn check_disjoint(entries: &HashMap<String, Entry>) -> Result<(), BackendError> {
    let places = entries.iter().filter(|(_, entry)| !entry.place.is_empty());
    let mut places: Vec<_> = places
        .map(|(name, entry)| (entry.place.start, entry.place.end, name))
        .collect();
    places.sort_unstable();
    for (before, after) in places.iter().zip(places.iter().skip(1)) {
        let ((_, end, first), (start, _, second)) = (before, after);
        if start < end {
            return Err(wrong(&format!(
                "the tensors '{first}' and '{second}' overlap"
            )));
        }
    }
    Ok(())
}

fn wrong(what: &str) -> BackendError {
    BackendError::Checkpoint(what.to_owned())
}
