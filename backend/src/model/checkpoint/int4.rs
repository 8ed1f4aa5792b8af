//! GPTQ's and AWQ's 4-bit matrices as blocks of GGML.
//!
//! Both hold w = scale * (quant - zero) with a scale and a zero point for each group of inputs. A
//! block of Q4_1 holds w = d*quant + m for 32 inputs, so a group of 32, 64 or 128 is one, two or
//! four blocks with d = scale and m = -scale*zero, rounded to f16; nothing else changes. Where a
//! group's inputs do not lie together (GPTQ's `desc_act`) the matrix is held in Q8_0, whose blocks
//! of 32 inputs have a scale of their own.
//!
//! Sources: AutoGPTQ's `qlinear_cuda_old` (weights packed along the inputs, zero points one lower
//! unless the format is `gptq_v2`) and AutoAWQ's `WQLinear_GEMM` (packed along the outputs, nibbles
//! in the order 0 2 4 6 1 3 5 7).

use farthing_kernels::{Dtype, quantize_row};
use half::{bf16, f16};

use super::permute::PairsSideBySide;
use super::safetensors::Element;
use crate::error::BackendError;

/// Whose format, and what its configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Int4Format {
    pub(super) packing: Packing,
    /// Inputs of a group; `None` if all inputs of an output are one.
    pub(super) group: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// `qweight` `[cols / 8, rows]`: nibble i of a word is input 8k + i. What is stored as zero
    /// point is `zero_offset` lower than it is.
    Gptq { zero_offset: u8 },
    /// `qweight` `[cols, rows / 8]`: nibble i of a word is output 8n + (0, 2, 4, 6, 1, 3, 5, 7)[i].
    Awq,
}

/// One matrix, its parts as they are in the file. Shapes have been checked.
#[derive(Clone, Copy)]
pub(super) struct Int4Matrix<'a> {
    pub(super) packing: Packing,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) group: usize,
    pub(super) weights: &'a [u8],
    /// `[cols / group, rows / 8]` words.
    pub(super) zeros: &'a [u8],
    /// `[cols / group, rows]`.
    pub(super) scales: &'a [u8],
    pub(super) scale_element: Element,
    /// The group of each input, where that is not its place divided by the group's size.
    pub(super) groups: Option<&'a [u8]>,
    pub(super) order: Option<PairsSideBySide>,
}

/// Inputs of a block.
pub(super) const BLOCK: usize = 32;
/// Which nibble of an AWQ word holds an output.
const AWQ_NIBBLE: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];
/// Columns that are unpacked at once, of all rows: AWQ's and GPTQ's words of one column lie side by
/// side, so this keeps reading in order.
pub(super) const NIBBLES: usize = 8;

/// Whether each input's group is its place divided by the group's size.
pub(super) fn in_order(groups: &[u8], group: usize) -> bool {
    let mut words = groups.chunks_exact(4).enumerate();
    words.all(|(col, word)| word_at(word, 0) as usize == col / group)
}

// === impl Int4Matrix ===

impl Int4Matrix<'_> {
    /// What the blocks are: Q4_1, or Q8_0 where groups are scattered.
    pub(super) fn dtype(&self) -> Dtype {
        match self.groups {
            None => Dtype::Q4_1,
            Some(_) => Dtype::Q8_0,
        }
    }

    /// All rows, in GGML's blocks.
    ///
    /// # Errors
    /// An input's group does not exist, or a scale is not finite.
    pub(super) fn blocks(&self) -> Result<Vec<u8>, BackendError> {
        self.check_groups()?;
        match self.groups {
            None => self.q4_1(),
            Some(groups) => self.q8_0(groups),
        }
    }

    fn check_groups(&self) -> Result<(), BackendError> {
        let count = self.cols / self.group;
        for (col, word) in self.groups.unwrap_or_default().chunks_exact(4).enumerate() {
            let group = word_at(word, 0);
            if group as usize >= count {
                return Err(BackendError::Checkpoint(format!(
                    "g_idx puts input {col} into group {group} of {count}"
                )));
            }
        }
        Ok(())
    }

    fn q4_1(&self) -> Result<Vec<u8>, BackendError> {
        let block_bytes = Dtype::Q4_1.block_bytes();
        let row_bytes = self.cols / BLOCK * block_bytes;
        let mut out = vec![0; self.rows * row_bytes];
        for block in 0..self.cols / BLOCK {
            let group = block * BLOCK / self.group;
            for row in 0..self.rows {
                let source = self.source_row(row);
                let (scale, zero) = (self.scale(source, group)?, self.zero(source, group));
                let min = f16::from_f32(-scale.to_f32() * f32::from(zero));
                if !min.is_finite() {
                    return Err(BackendError::Checkpoint(format!(
                        "the minimum of output {source}, group {group} does not fit f16"
                    )));
                }
                let at = row * row_bytes + block * block_bytes;
                let out = &mut out[at..at + block_bytes];
                out[..2].copy_from_slice(&scale.to_le_bytes());
                out[2..4].copy_from_slice(&min.to_le_bytes());
                let mut quants = [0; BLOCK];
                self.read_quants(source, block * BLOCK, &mut quants);
                let (low, high) = quants.split_at(BLOCK / 2);
                for ((out, low), high) in out[4..].iter_mut().zip(low).zip(high) {
                    *out = low | (high << 4);
                }
            }
        }
        Ok(out)
    }

    fn q8_0(&self, groups: &[u8]) -> Result<Vec<u8>, BackendError> {
        let row_bytes = Dtype::Q8_0.row_bytes(self.cols)?;
        let mut out = vec![0; self.rows * row_bytes];
        let (mut quants, mut values) = ([0; BLOCK], vec![0.0; self.cols]);
        for (row, out) in out.chunks_exact_mut(row_bytes).enumerate() {
            let source = self.source_row(row);
            for (block, values) in values.chunks_exact_mut(BLOCK).enumerate() {
                self.read_quants(source, block * BLOCK, &mut quants);
                for (offset, (value, &quant)) in values.iter_mut().zip(&quants).enumerate() {
                    let group = word_at(groups, block * BLOCK + offset) as usize;
                    let steps = f32::from(quant) - f32::from(self.zero(source, group));
                    *value = self.scale(source, group)?.to_f32() * steps;
                }
            }
            quantize_row(Dtype::Q8_0, &values, out)?;
        }
        Ok(out)
    }

    fn source_row(&self, row: usize) -> usize {
        self.order.map_or(row, |order| order.source_row(row))
    }

    /// The quants of 32 inputs of one output.
    fn read_quants(&self, row: usize, first: usize, quants: &mut [u8; BLOCK]) {
        match self.packing {
            Packing::Gptq { .. } => {
                for (word, quants) in quants.chunks_exact_mut(NIBBLES).enumerate() {
                    let word = word_at(self.weights, (first / NIBBLES + word) * self.rows + row);
                    for (index, quant) in quants.iter_mut().enumerate() {
                        *quant = nibble(word, index);
                    }
                }
            }
            Packing::Awq => {
                let (words, at) = (self.rows / NIBBLES, AWQ_NIBBLE[row % NIBBLES]);
                for (offset, quant) in quants.iter_mut().enumerate() {
                    let word = word_at(self.weights, (first + offset) * words + row / NIBBLES);
                    *quant = nibble(word, at);
                }
            }
        }
    }

    /// The zero point. It has four bits, so one that is stored one lower wraps: 15 stands for 0.
    fn zero(&self, row: usize, group: usize) -> u8 {
        let word = word_at(self.zeros, group * (self.rows / NIBBLES) + row / NIBBLES);
        match self.packing {
            Packing::Gptq { zero_offset } => (nibble(word, row % NIBBLES) + zero_offset) & 15,
            Packing::Awq => nibble(word, AWQ_NIBBLE[row % NIBBLES]),
        }
    }

    fn scale(&self, row: usize, group: usize) -> Result<f16, BackendError> {
        let at = group * self.rows + row;
        let half = |at: usize| [self.scales[2 * at], self.scales[2 * at + 1]];
        let scale = match self.scale_element {
            Element::F16 => f16::from_le_bytes(half(at)),
            Element::BF16 => f16::from_f32(bf16::from_le_bytes(half(at)).to_f32()),
            _ => f16::from_f32(f32::from_bits(word_at(self.scales, at))),
        };
        if scale.is_finite() {
            return Ok(scale);
        }
        Err(BackendError::Checkpoint(format!(
            "the scale of output {row}, group {group} does not fit f16"
        )))
    }
}

/// The little-endian word of this index.
fn word_at(bytes: &[u8], index: usize) -> u32 {
    let at = index * 4;
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn nibble(word: u32, index: usize) -> u8 {
    (word >> (4 * index)) as u8 & 15
}
