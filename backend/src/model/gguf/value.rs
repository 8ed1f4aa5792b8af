//! Metadata values. Scalars and strings are read at once; arrays are walked, checked and left where
//! they are, so that a header costs no more memory than its keys whatever it claims.

use std::ops::Range;

use farthing_core::limits;

use super::reader::Reader;
use crate::error::BackendError;

/// One metadata value. Integers keep no width: the keys' meanings do not depend on it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// A value, and where its type and the value itself are in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pair {
    pub(super) value: Value,
    pub(super) raw: Range<usize>,
}

/// A checked array that is still in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    pub(super) element: Kind,
    pub(super) count: u64,
    /// Where the first element starts and the last one ends.
    pub(super) bytes: Range<usize>,
}

/// GGUF's value types (ggml/docs/gguf.md, `gguf_metadata_value_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

// === impl Kind ===

impl Kind {
    const IN_FILE_ORDER: [Kind; 13] = [
        Kind::U8,
        Kind::I8,
        Kind::U16,
        Kind::I16,
        Kind::U32,
        Kind::I32,
        Kind::F32,
        Kind::Bool,
        Kind::String,
        Kind::Array,
        Kind::U64,
        Kind::I64,
        Kind::F64,
    ];

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Kind, BackendError> {
        let id = reader.u32()?;
        Kind::IN_FILE_ORDER
            .get(id as usize)
            .copied()
            .ok_or_else(|| BackendError::Gguf(format!("value type {id} does not exist")))
    }

    /// The number that stands for this kind in a file.
    pub(super) fn id(self) -> u32 {
        let at = Kind::IN_FILE_ORDER.iter().position(|kind| *kind == self);
        at.expect("every kind is in the list") as u32
    }

    /// The fewest bytes that one value takes; exactly its bytes for all but strings and arrays.
    fn bytes_min(self) -> u64 {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => 1,
            Kind::U16 | Kind::I16 => 2,
            Kind::U32 | Kind::I32 | Kind::F32 => 4,
            Kind::U64 | Kind::I64 | Kind::F64 | Kind::String => 8,
            Kind::Array => 12,
        }
    }
}

// === impl Value ===

impl Value {
    /// Reads one value of this kind.
    pub(super) fn read(reader: &mut Reader<'_>, kind: Kind) -> Result<Value, BackendError> {
        Ok(match kind {
            Kind::U8 => Value::Unsigned(u8::from_le_bytes(reader.array()?).into()),
            Kind::U16 => Value::Unsigned(u16::from_le_bytes(reader.array()?).into()),
            Kind::U32 => Value::Unsigned(reader.u32()?.into()),
            Kind::U64 => Value::Unsigned(reader.u64()?),
            Kind::I8 => Value::Signed(i8::from_le_bytes(reader.array()?).into()),
            Kind::I16 => Value::Signed(i16::from_le_bytes(reader.array()?).into()),
            Kind::I32 => Value::Signed(i32::from_le_bytes(reader.array()?).into()),
            Kind::I64 => Value::Signed(i64::from_le_bytes(reader.array()?)),
            Kind::F32 => Value::Float(f32::from_le_bytes(reader.array()?).into()),
            Kind::F64 => Value::Float(f64::from_le_bytes(reader.array()?)),
            Kind::Bool => match reader.array::<1>()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(BackendError::Gguf(format!("{other} is no truth value"))),
            },
            Kind::String => Value::String(reader.string(u64::MAX)?.to_owned()),
            Kind::Array => Value::Array(Array::walk(reader, 1)?),
        })
    }
}

// === impl Array ===

impl Array {
    /// Checks an array without keeping its elements.
    fn walk(reader: &mut Reader<'_>, depth: usize) -> Result<Array, BackendError> {
        if depth > limits::GGUF_ARRAY_DEPTH_MAX {
            return Err(BackendError::Gguf(format!(
                "arrays are nested deeper than {}",
                limits::GGUF_ARRAY_DEPTH_MAX
            )));
        }
        let element = Kind::read(reader)?;
        let count = reader.u64()?;
        if count > reader.remaining() / element.bytes_min() {
            return Err(BackendError::Gguf(format!(
                "an array claims {count} elements, where the file has {} bytes left",
                reader.remaining()
            )));
        }
        let start = reader.position();
        match element {
            Kind::String => {
                for _ in 0..count {
                    let len = reader.u64()?;
                    reader.take(len)?;
                }
            }
            Kind::Array => {
                for _ in 0..count {
                    Array::walk(reader, depth + 1)?;
                }
            }
            // The product is at most what remains, by the check above.
            fixed => drop(reader.take(count * fixed.bytes_min())?),
        }
        Ok(Array {
            element,
            count,
            bytes: start..reader.position(),
        })
    }
}
