//! Element formats of a GGUF tensor.
//!
//! Source: `ggml_type` and the block structs of `ggml-common.h`.

use crate::KernelError;

/// A GGML tensor format that the backend reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q8_0,
    Q4K,
    Q6K,
}

impl Dtype {
    /// Every format, in the order of the GGML ids.
    pub const ALL: [Dtype; 9] = [
        Dtype::F32,
        Dtype::F16,
        Dtype::Q4_0,
        Dtype::Q4_1,
        Dtype::Q5_0,
        Dtype::Q8_0,
        Dtype::Q4K,
        Dtype::Q6K,
        Dtype::BF16,
    ];

    /// The format with this GGML type id, or `None` for one that is not read here.
    pub fn from_ggml(id: u32) -> Option<Dtype> {
        Dtype::ALL.into_iter().find(|dtype| dtype.ggml_id() == id)
    }

    /// The GGML type id.
    pub fn ggml_id(self) -> u32 {
        match self {
            Dtype::F32 => 0,
            Dtype::F16 => 1,
            Dtype::Q4_0 => 2,
            Dtype::Q4_1 => 3,
            Dtype::Q5_0 => 6,
            Dtype::Q8_0 => 8,
            Dtype::Q4K => 12,
            Dtype::Q6K => 14,
            Dtype::BF16 => 30,
        }
    }

    /// Elements of one block; a row is a whole number of blocks.
    pub fn block_len(self) -> usize {
        match self {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => 1,
            Dtype::Q4_0 | Dtype::Q4_1 | Dtype::Q5_0 | Dtype::Q8_0 => 32,
            Dtype::Q4K | Dtype::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::Q4_0 => 18,
            Dtype::Q4_1 => 20,
            Dtype::Q5_0 => 22,
            Dtype::Q8_0 => 34,
            Dtype::Q4K => 144,
            Dtype::Q6K => 210,
        }
    }

    /// Bytes of a row of `cols` elements.
    pub fn row_bytes(self, cols: usize) -> Result<usize, KernelError> {
        let block_len = self.block_len();
        if !cols.is_multiple_of(block_len) {
            return Err(KernelError::NotBlocks {
                dtype: self,
                cols,
                block_len,
            });
        }
        (cols / block_len)
            .checked_mul(self.block_bytes())
            .ok_or(KernelError::Dimension {
                name: "cols",
                value: cols,
                max: usize::MAX / self.block_bytes(),
            })
    }
}
