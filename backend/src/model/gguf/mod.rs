//! GGUF versions 2 and 3 (ggml/docs/gguf.md), read as hostile input: every count, length, shape,
//! type, alignment and offset is checked against the file's size with checked arithmetic before
//! anything is allocated for it, and no byte belongs to two tensors. Tensors stay in the mapped
//! file.

mod metadata;
mod reader;
mod tensor;
mod value;
mod writer;

pub use metadata::{Metadata, required};
pub use tensor::Tensor;
pub use writer::{Pairs, TensorDescription, padding};

use std::collections::HashMap;
use std::path::Path;

use farthing_core::limits;

use super::mapped::Bytes;
use crate::error::BackendError;
use reader::Reader;
use tensor::TensorInfo;
use value::{Kind, Pair, Value};

/// The alignment of tensor data when the file does not say.
const ALIGNMENT_DEFAULT: u64 = 32;

/// A model file whose header is valid.
pub struct Gguf {
    bytes: Bytes,
    metadata: HashMap<String, Pair>,
    tensors: HashMap<String, TensorInfo>,
}

// === impl Gguf ===

impl Gguf {
    /// Maps a model file and checks its header.
    pub fn open(path: &Path) -> Result<Gguf, BackendError> {
        Gguf::parse(Bytes::map(path)?)
    }

    /// Checks the header of a model file that is already in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Gguf, BackendError> {
        Gguf::parse(Bytes::Owned(bytes))
    }

    /// The key-value pairs.
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata {
            values: &self.metadata,
            bytes: &self.bytes,
        }
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// There is none, or its type is one that this build cannot read.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>, BackendError> {
        self.optional_tensor(name)?
            .ok_or_else(|| BackendError::Gguf(format!("the tensor '{name}' is missing")))
    }

    /// The tensor of this name, if there is one.
    pub fn optional_tensor(&self, name: &str) -> Result<Option<Tensor<'_>>, BackendError> {
        self.tensors
            .get(name)
            .map(|info| info.resolve(name, &self.bytes))
            .transpose()
    }

    /// The names of all tensors, in the order in which they lie in the file.
    pub fn tensor_names(&self) -> Vec<&str> {
        let places = self
            .tensors
            .iter()
            .map(|(name, info)| (info.range().start, name.as_str()));
        let mut places: Vec<_> = places.collect();
        places.sort_unstable();
        places.into_iter().map(|(_, name)| name).collect()
    }

    /// The pairs in the file's order: key, then value type and value as they are in the file.
    pub(super) fn raw_metadata(&self) -> Vec<(&str, &[u8])> {
        let mut pairs: Vec<_> = self.metadata.iter().collect();
        pairs.sort_unstable_by_key(|(_, pair)| pair.raw.start);
        pairs
            .into_iter()
            .map(|(key, pair)| (key.as_str(), &self.bytes[pair.raw.clone()]))
            .collect()
    }

    pub(super) fn release(&self, name: &str) {
        if let Some(info) = self.tensors.get(name) {
            self.bytes.release(info.range());
        }
    }

    /// Size of the whole file in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn parse(bytes: Bytes) -> Result<Gguf, BackendError> {
        let mut reader = Reader::new(&bytes);
        let (tensor_count, metadata_count) = read_preamble(&mut reader)?;
        let metadata = read_metadata(&mut reader, metadata_count)?;
        let alignment = Metadata {
            values: &metadata,
            bytes: &bytes,
        };
        let alignment = read_alignment(alignment)?;
        let mut tensors = HashMap::new();
        for _ in 0..tensor_count {
            let (name, info) = TensorInfo::read(&mut reader, alignment)?;
            if tensors.contains_key(&name) {
                return Err(BackendError::Gguf(format!(
                    "the tensor '{name}' occurs twice"
                )));
            }
            tensors.insert(name, info);
        }
        let data_start = (reader.position() as u64).next_multiple_of(alignment);
        for (name, info) in &mut tensors {
            info.place(name, data_start, bytes.len() as u64)?;
        }
        tensor::check_disjoint(&tensors)?;
        Ok(Gguf {
            bytes,
            metadata,
            tensors,
        })
    }
}

/// Magic and version; returns the numbers of tensors and of metadata pairs.
fn read_preamble(reader: &mut Reader<'_>) -> Result<(u64, u64), BackendError> {
    if reader.take(4)? != b"GGUF" {
        return Err(BackendError::Gguf(
            "the file does not start with 'GGUF'".to_owned(),
        ));
    }
    let version = reader.u32()?;
    if !matches!(version, 2 | 3) {
        return Err(BackendError::Gguf(format!(
            "version {version} is neither 2 nor 3"
        )));
    }
    let tensors = reader.u64()?;
    let metadata = reader.u64()?;
    for (what, count, max) in [
        ("tensors", tensors, limits::GGUF_TENSORS_MAX),
        ("metadata pairs", metadata, limits::GGUF_METADATA_MAX),
    ] {
        if count > max {
            return Err(BackendError::Gguf(format!(
                "{count} {what} are more than {max}"
            )));
        }
    }
    Ok((tensors, metadata))
}

fn read_metadata(
    reader: &mut Reader<'_>,
    count: u64,
) -> Result<HashMap<String, Pair>, BackendError> {
    let mut metadata = HashMap::new();
    for _ in 0..count {
        let key = reader.string(limits::GGUF_NAME_BYTES_MAX)?.to_owned();
        let start = reader.position();
        let kind = Kind::read(reader)?;
        let value = Value::read(reader, kind)
            .map_err(|error| BackendError::Gguf(format!("'{key}': {error}")))?;
        if metadata.contains_key(&key) {
            return Err(BackendError::Gguf(format!("the key '{key}' occurs twice")));
        }
        let raw = start..reader.position();
        metadata.insert(key, Pair { value, raw });
    }
    Ok(metadata)
}

fn read_alignment(metadata: Metadata<'_>) -> Result<u64, BackendError> {
    let alignment = metadata
        .unsigned("general.alignment")?
        .unwrap_or(ALIGNMENT_DEFAULT);
    if !alignment.is_power_of_two() || alignment > u64::from(limits::GGUF_ALIGNMENT_MAX) {
        return Err(BackendError::Gguf(format!(
            "'general.alignment' is {alignment}, not a power of two up to {}",
            limits::GGUF_ALIGNMENT_MAX
        )));
    }
    Ok(alignment)
}
