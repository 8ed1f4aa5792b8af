//! From GGUF tensors, and from quants with scales of any origin, to tiles.

use half::f16;

use super::{Format, Packed, Place, TILE_COLS, WeightShape};
use crate::block::{self, BLOCK, Q4K, Q6K, SUPER_BLOCK, f16_at};
use crate::cuda::CudaError;
use crate::{Dtype, KernelError};

/// The scale and minimum of a group, w = d*q + m.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    pub d: f16,
    /// Unused by the symmetric formats.
    pub m: f16,
}

impl Packed {
    /// Packs `rows * cols` elements of a GGUF tensor.
    ///
    /// Q4_1 and Q4_K become [`Format::NibbleAffine`], Q4_0 [`Format::NibbleSymmetric`], Q8_0 and
    /// Q5_0 [`Format::ByteSymmetric`], Q6_K [`Format::ByteHalfGroups`], each without a change of
    /// quants; the scales of the K formats, which are products of two numbers, are rounded to f16.
    /// F32, F16 and BF16 are quantized to 8 bits as Q8_0 is.
    ///
    /// # Errors
    /// The kernels do not take the shape, or `bytes` has not the length of the tensor.
    pub fn from_gguf(
        dtype: Dtype,
        bytes: &[u8],
        rows: usize,
        cols: usize,
    ) -> Result<Packed, CudaError> {
        let format = match dtype {
            Dtype::Q4_1 | Dtype::Q4K => Format::NibbleAffine,
            Dtype::Q4_0 => Format::NibbleSymmetric,
            Dtype::Q6K => Format::ByteHalfGroups,
            Dtype::Q5_0 | Dtype::Q8_0 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => {
                Format::ByteSymmetric
            }
        };
        let shape = WeightShape {
            format,
            rows,
            cols,
            group: TILE_COLS,
        };
        let mut packed = Packed::zeroed(shape)?;
        let row_bytes = dtype.row_bytes(cols)?;
        if bytes.len() != rows * row_bytes {
            return Err(KernelError::ByteLength {
                expected: rows * row_bytes,
                actual: bytes.len(),
            }
            .into());
        }
        let mut dense = vec![0.0; cols];
        for (row, bytes) in bytes.chunks_exact(row_bytes).enumerate() {
            if dtype.block_len() == 1 {
                crate::dequantize_row(dtype, bytes, &mut dense)?;
                packed.write_dense(row, &dense);
                continue;
            }
            for (index, block) in bytes.chunks_exact(dtype.block_bytes()).enumerate() {
                packed.write_block(dtype, row, index, block);
            }
        }
        Ok(packed)
    }

    fn write_block(&mut self, dtype: Dtype, row: usize, index: usize, block: &[u8]) {
        let col = index * dtype.block_len();
        let zero = f16::ZERO;
        match dtype {
            Dtype::Q4_0 | Dtype::Q4_1 => {
                let affine = dtype == Dtype::Q4_1;
                let mut quants = [0; BLOCK];
                block::nibbles(&block[if affine { 4 } else { 2 }..], &mut quants);
                let m = if affine { f16_at(block, 2) } else { zero };
                let d = f16_at(block, 0);
                self.write_group(row, col, &quants, Scale { d, m });
            }
            Dtype::Q5_0 => self.write_signed(row, col, block, block::q5_0),
            Dtype::Q8_0 => self.write_signed(row, col, block, block::q8_0),
            Dtype::Q4K => {
                let block = Q4K::read(block);
                let (d, d_min) = (block.d.to_f32(), block.d_min.to_f32());
                for (group, quants) in block.quants.chunks_exact(BLOCK).enumerate() {
                    let scale = Scale {
                        d: f16::from_f32(d * f32::from(block.scales[group])),
                        m: f16::from_f32(-d_min * f32::from(block.mins[group])),
                    };
                    self.write_group(row, col + group * BLOCK, quants, scale);
                }
            }
            Dtype::Q6K => {
                let block = Q6K::read(block);
                let len = SUPER_BLOCK / block.scales.len();
                for (group, quants) in block.quants.chunks_exact(len).enumerate() {
                    let d = block.d.to_f32() * f32::from(block.scales[group]);
                    let d = f16::from_f32(d);
                    let quants: Vec<u8> = quants.iter().map(|quant| offset(*quant)).collect();
                    self.write_group(row, col + group * len, &quants, Scale { d, m: zero });
                }
            }
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => {}
        }
    }

    fn write_signed(
        &mut self,
        row: usize,
        col: usize,
        block: &[u8],
        read: fn(&[u8], &mut [i8; BLOCK]) -> f16,
    ) {
        let mut quants = [0; BLOCK];
        let d = read(block, &mut quants);
        let scale = Scale { d, m: f16::ZERO };
        self.write_group(row, col, &quants.map(offset), scale);
    }

    /// Quantizes a row to 8 bits: d = max|w| / 127, as GGML's `quantize_row_q8_0_ref`.
    fn write_dense(&mut self, row: usize, values: &[f32]) {
        for (index, values) in values.chunks_exact(BLOCK).enumerate() {
            let largest = values
                .iter()
                .fold(0.0f32, |largest, w| largest.max(w.abs()));
            let inverse = if largest == 0.0 { 0.0 } else { 127.0 / largest };
            let mut quants = [0; BLOCK];
            for (quant, value) in quants.iter_mut().zip(values) {
                *quant = offset((value * inverse).round() as i8);
            }
            let d = f16::from_f32(largest / 127.0);
            self.write_group(row, index * BLOCK, &quants, Scale { d, m: f16::ZERO });
        }
    }

    /// Writes quants of a row from `col` on, and the scale that they share.
    ///
    /// # Panics
    /// If row or columns lie outside the matrix.
    pub fn write_group(&mut self, row: usize, col: usize, quants: &[u8], scale: Scale) {
        let shape = self.shape;
        assert!(
            row < shape.rows && col + quants.len() <= shape.cols,
            "row {row}, columns {col} to {} of {shape:?}",
            col + quants.len()
        );
        for (offset, quant) in quants.iter().enumerate() {
            let (byte, shift) = Place::of(&shape, row, col + offset).quant(shape.format);
            self.quants[byte] |= quant << shift;
        }
        let at = Place::of(&shape, row, col).scale(&shape);
        self.scales[at..at + 2].copy_from_slice(&scale.d.to_le_bytes());
        if shape.format == Format::NibbleAffine {
            self.scales[at + 2..at + 4].copy_from_slice(&scale.m.to_le_bytes());
        }
    }
}

/// A signed quant as it is stored, 128 higher.
fn offset(quant: i8) -> u8 {
    (quant as u8) ^ 0x80
}
