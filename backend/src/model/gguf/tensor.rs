//! Tensor descriptions: shapes whose product, size and place were checked against the file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use farthing_core::limits;
use farthing_kernels::Dtype;

use super::reader::Reader;
use crate::error::BackendError;

/// GGML's own limit on the rank of a tensor.
const DIMS_MAX: u32 = 4;

/// A tensor and its bytes: those in the file, or rewritten ones where the file has another order.
#[derive(Clone)]
pub struct Tensor<'a> {
    pub dtype: Dtype,
    /// GGML's order: the first dimension is the contiguous one (a row's length).
    pub dims: &'a [usize],
    pub bytes: Cow<'a, [u8]>,
}

/// What the header says about a tensor.
pub(super) struct TensorInfo {
    dims: Vec<usize>,
    type_id: u32,
    /// From the start of the tensor data.
    offset: u64,
    /// Absent when the type is unknown, which is an error only for whoever needs the tensor.
    bytes: Option<u64>,
    place: Range<usize>,
}

// === impl Tensor ===

impl<'a> Tensor<'a> {
    /// Rows and columns of a matrix.
    pub fn matrix_shape(&self, name: &str) -> Result<(usize, usize), BackendError> {
        match self.dims {
            [columns, rows] => Ok((*rows, *columns)),
            dims => Err(BackendError::Gguf(format!(
                "the tensor '{name}' has {} dimensions where a matrix is needed",
                dims.len()
            ))),
        }
    }

    /// Fails unless the tensor has exactly these dimensions, in GGML's order.
    pub fn expect_dims(self, name: &str, dims: &[usize]) -> Result<Tensor<'a>, BackendError> {
        if self.dims == dims {
            return Ok(self);
        }
        Err(BackendError::Gguf(format!(
            "the tensor '{name}' has the shape {:?} where the model needs {dims:?}",
            self.dims
        )))
    }
}

// === impl TensorInfo ===

impl TensorInfo {
    /// Reads one description and checks all that can be without knowing where the data starts.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        alignment: u64,
    ) -> Result<(String, TensorInfo), BackendError> {
        let name = reader.string(limits::GGUF_NAME_BYTES_MAX)?.to_owned();
        let wrong = |what: String| BackendError::Gguf(format!("the tensor '{name}' {what}"));
        let rank = reader.u32()?;
        if !(1..=DIMS_MAX).contains(&rank) {
            return Err(wrong(format!("has {rank} dimensions, not 1 to {DIMS_MAX}")));
        }
        let mut dims = Vec::with_capacity(rank as usize);
        let mut elements = 1u64;
        for _ in 0..rank {
            let dim = reader.u64()?;
            elements = match elements.checked_mul(dim) {
                Some(product) if product > 0 => product,
                _ => return Err(wrong(format!("has an impossible dimension {dim}"))),
            };
            dims.push(usize::try_from(dim).map_err(|_| wrong(format!("has dimension {dim}")))?);
        }
        let type_id = reader.u32()?;
        let offset = reader.u64()?;
        if !offset.is_multiple_of(alignment) {
            return Err(wrong(format!(
                "starts at {offset}, not aligned to {alignment}"
            )));
        }
        let bytes = match Dtype::from_ggml(type_id) {
            None => None,
            Some(dtype) => Some(
                tensor_bytes(dtype, dims[0] as u64, elements)
                    .ok_or_else(|| wrong(format!("has a shape that {dtype:?} cannot hold")))?,
            ),
        };
        Ok((
            name,
            TensorInfo {
                dims,
                type_id,
                offset,
                bytes,
                place: 0..0,
            },
        ))
    }

    /// Finds the tensor's bytes, which must lie inside the file.
    pub(super) fn place(
        &mut self,
        name: &str,
        data_start: u64,
        file_bytes: u64,
    ) -> Result<(), BackendError> {
        let start = data_start.checked_add(self.offset);
        let end = start.and_then(|start| start.checked_add(self.bytes.unwrap_or(0)));
        match (start, end) {
            (Some(start), Some(end)) if end <= file_bytes => {
                self.place = start as usize..end as usize;
                Ok(())
            }
            _ => Err(BackendError::Gguf(format!(
                "the tensor '{name}' ends past the file's {file_bytes} bytes"
            ))),
        }
    }

    /// Where the tensor's bytes are in the file.
    pub(super) fn range(&self) -> Range<usize> {
        self.place.clone()
    }

    /// The tensor with its bytes.
    pub(super) fn resolve<'a>(
        &'a self,
        name: &str,
        file: &'a [u8],
    ) -> Result<Tensor<'a>, BackendError> {
        let bytes = file.get(self.place.clone());
        match (Dtype::from_ggml(self.type_id), bytes) {
            (Some(dtype), Some(bytes)) => Ok(Tensor {
                dtype,
                dims: &self.dims,
                bytes: Cow::Borrowed(bytes),
            }),
            _ => Err(BackendError::Gguf(format!(
                "the tensor '{name}' has the GGML type {}, which is not supported",
                self.type_id
            ))),
        }
    }
}

/// Fails if two tensors share a byte. Weights are repacked into memory, so many tensors over one
/// region would turn a small file into any amount of it.
pub(super) fn check_disjoint(tensors: &HashMap<String, TensorInfo>) -> Result<(), BackendError> {
    let mut places: Vec<_> = tensors
        .iter()
        .filter(|(_, info)| !info.place.is_empty())
        .map(|(name, info)| (info.place.start, info.place.end, name))
        .collect();
    places.sort_unstable();
    // Where all neighbours are apart, each tensor ends before all later ones start.
    for (before, after) in places.iter().zip(places.iter().skip(1)) {
        let ((_, end, first), (start, _, second)) = (before, after);
        if start < end {
            return Err(BackendError::Gguf(format!(
                "the tensors '{first}' and '{second}' overlap"
            )));
        }
    }
    Ok(())
}

/// Bytes of a tensor, `None` when its rows are not whole blocks or the size overflows.
fn tensor_bytes(dtype: Dtype, row: u64, elements: u64) -> Option<u64> {
    let block_len = dtype.block_len() as u64;
    if !row.is_multiple_of(block_len) {
        return None;
    }
    (elements / block_len).checked_mul(dtype.block_bytes() as u64)
}
