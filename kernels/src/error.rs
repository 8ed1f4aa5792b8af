//! What is wrong with bytes or sizes that come from a model file.

use crate::Dtype;

/// Why a tensor cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelError {
    /// A dimension is zero or above its limit.
    Dimension {
        name: &'static str,
        value: usize,
        max: usize,
    },
    /// The row length is no multiple of the format's block.
    NotBlocks {
        dtype: Dtype,
        cols: usize,
        block_len: usize,
    },
    /// The bytes given do not have the length that shape and format ask for.
    ByteLength { expected: usize, actual: usize },
    /// The output does not have the length of the input.
    OutputLength { expected: usize, actual: usize },
    /// An element is not finite, or would not be in this format; in a block, one of its elements.
    NotFinite { dtype: Dtype, index: usize },
    /// The format is read here, but not written.
    ReadOnly { dtype: Dtype },
    /// The system does not give so much memory.
    OutOfMemory { bytes: usize },
}

impl std::fmt::Display for KernelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KernelError::Dimension { name, value, max } => {
                write!(f, "{name} is {value}, expected 1 to {max}")
            }
            KernelError::NotBlocks {
                dtype,
                cols,
                block_len,
            } => {
                write!(
                    f,
                    "{cols} columns are no multiple of the {block_len} of a {dtype:?} block"
                )
            }
            KernelError::ByteLength { expected, actual } => {
                write!(
                    f,
                    "tensor has {actual} bytes, its shape and format ask for {expected}"
                )
            }
            KernelError::OutputLength { expected, actual } => {
                write!(f, "output has {actual} elements, the tensor has {expected}")
            }
            KernelError::NotFinite { dtype, index } => {
                write!(f, "element {index} is not finite in {dtype:?}")
            }
            KernelError::ReadOnly { dtype } => write!(f, "{dtype:?} is read and not written"),
            KernelError::OutOfMemory { bytes } => {
                write!(f, "the system does not give {bytes} bytes of memory")
            }
        }
    }
}

impl std::error::Error for KernelError {}
