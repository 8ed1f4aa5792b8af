//! The header of a GGUF file of version 3, as it is written (ggml/docs/gguf.md).

use farthing_kernels::Dtype;

use super::ALIGNMENT_DEFAULT;
use super::value::Kind;

/// The format's version that is written.
const VERSION: u32 = 3;

/// Key-value pairs in the bytes that a file has them in.
#[derive(Debug, Default)]
pub struct Pairs(Vec<(String, Vec<u8>)>);

/// What the header says about one tensor that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorDescription {
    pub name: String,
    /// GGML's order: a row's length first.
    pub dims: Vec<usize>,
    pub dtype: Dtype,
    pub bytes: u64,
}

// === impl Pairs ===

impl Pairs {
    /// A value as it is already encoded: its type, then its bytes.
    pub fn raw(&mut self, key: &str, bytes: &[u8]) {
        self.0.retain(|(known, _)| known != key);
        self.0.push((key.to_owned(), bytes.to_vec()));
    }

    pub fn u32(&mut self, key: &str, value: u32) {
        self.put(key, Kind::U32, &value.to_le_bytes());
    }

    pub fn f32(&mut self, key: &str, value: f32) {
        self.put(key, Kind::F32, &value.to_le_bytes());
    }

    pub fn boolean(&mut self, key: &str, value: bool) {
        self.put(key, Kind::Bool, &[u8::from(value)]);
    }

    pub fn string(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::with_capacity(8 + value.len());
        put_string(&mut bytes, value);
        self.put(key, Kind::String, &bytes);
    }

    pub fn strings(&mut self, key: &str, values: &[String]) {
        let mut bytes = array_head(Kind::String, values.len());
        for value in values {
            put_string(&mut bytes, value);
        }
        self.put(key, Kind::Array, &bytes);
    }

    pub fn i32s(&mut self, key: &str, values: &[i32]) {
        let mut bytes = array_head(Kind::I32, values.len());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.put(key, Kind::Array, &bytes);
    }

    /// The bytes from the file's start up to the first tensor's, which lie one after another in
    /// the order given, each aligned.
    pub fn header(&self, tensors: &[TensorDescription]) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend((tensors.len() as u64).to_le_bytes());
        out.extend((self.0.len() as u64).to_le_bytes());
        for (key, value) in &self.0 {
            put_string(&mut out, key);
            out.extend(value);
        }
        let mut offset = 0;
        for tensor in tensors {
            put_string(&mut out, &tensor.name);
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            out.extend(
                tensor
                    .dims
                    .iter()
                    .flat_map(|&dim| (dim as u64).to_le_bytes()),
            );
            out.extend(tensor.dtype.ggml_id().to_le_bytes());
            out.extend(u64::to_le_bytes(offset));
            offset += tensor.bytes + padding(tensor.bytes);
        }
        out.resize(out.len() + padding(out.len() as u64) as usize, 0);
        out
    }

    fn put(&mut self, key: &str, kind: Kind, bytes: &[u8]) {
        let id = kind.id().to_le_bytes();
        self.raw(key, &[&id, bytes].concat());
    }
}

/// Zeros that follow so many bytes, so that what comes next is aligned.
pub fn padding(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT_DEFAULT) - bytes
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn array_head(element: Kind, count: usize) -> Vec<u8> {
    let mut out = element.id().to_le_bytes().to_vec();
    out.extend((count as u64).to_le_bytes());
    out
}
