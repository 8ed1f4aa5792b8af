//! GGUF versions 2 and 3 (ggml/docs/gguf.md), read as hostile input: every count, length, shape,
//! type, alignment and offset is checked against the file's size with checked arithmetic before
//! anything is allocated for it, and no byte belongs to two tensors. Tensors stay in the mapped
//! file.

mod metadata;
mod reader;
mod tensor;
mod value;

pub use metadata::{Metadata, required};
pub use tensor::Tensor;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use farthing_core::limits;

use crate::error::BackendError;
use reader::Reader;
use tensor::TensorInfo;
use value::{Kind, Value};

/// The alignment of tensor data when the file does not say.
const ALIGNMENT_DEFAULT: u64 = 32;

/// A model file whose header is valid.
pub struct Gguf {
    bytes: Bytes,
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, TensorInfo>,
}

/// Where the file's bytes are.
enum Bytes {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

// === impl Bytes ===

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

// === impl Gguf ===

impl Gguf {
    /// Maps a model file and checks its header.
    pub fn open(path: &Path) -> Result<Gguf, BackendError> {
        let io = |source| BackendError::Io {
            what: path.display().to_string(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        Gguf::parse(Bytes::Mapped(map(&file).map_err(io)?))
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

    /// The names of all tensors, in no order.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
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

/// Maps a file read-only.
#[allow(unsafe_code, reason = "mapping a file is unsafe by nature; see SAFETY")]
fn map(file: &File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: the map is read-only and private to this process. Model files are written once, by
    // renaming a finished download into place, and never changed in place; whoever truncates one
    // under a running server stops that server with SIGBUS, which is documented for operators and
    // cannot be caused by a request.
    unsafe { memmap2::Mmap::map(file) }
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
) -> Result<HashMap<String, Value>, BackendError> {
    let mut metadata = HashMap::new();
    for _ in 0..count {
        let key = reader.string(limits::GGUF_NAME_BYTES_MAX)?.to_owned();
        let kind = Kind::read(reader)?;
        let value = Value::read(reader, kind)
            .map_err(|error| BackendError::Gguf(format!("'{key}': {error}")))?;
        if metadata.contains_key(&key) {
            return Err(BackendError::Gguf(format!("the key '{key}' occurs twice")));
        }
        metadata.insert(key, value);
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
