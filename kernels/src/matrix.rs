//! A weight matrix, repacked at load for the multiplication that it is used in.

use crate::layout::{AlignedBytes, Layout, TILE_ROWS};
use crate::pack::{TileRow, layout_of};
use crate::{Dtype, KernelError, MATRIX_COLS_MAX, MATRIX_ROWS_MAX};

/// Weights of shape `[rows (outputs), cols (inputs)]` in tiles of sixteen rows.
///
/// Rows that the last tile lacks are zero: no weight and no scale.
pub struct Matrix {
    layout: Layout,
    rows: usize,
    cols: usize,
    quants: AlignedBytes,
    scales: AlignedBytes,
}

impl Matrix {
    /// Packs `rows * cols` elements of the format `dtype`, row after row as in a GGUF tensor.
    ///
    /// # Errors
    /// A dimension is zero or above its limit, `cols` is no multiple of the block, or `bytes` does
    /// not have exactly the length of the tensor. Nothing is allocated before these checks.
    pub fn pack(
        dtype: Dtype,
        bytes: &[u8],
        rows: usize,
        cols: usize,
    ) -> Result<Matrix, KernelError> {
        check_dimension("rows", rows, MATRIX_ROWS_MAX)?;
        check_dimension("cols", cols, MATRIX_COLS_MAX)?;
        let row_bytes = dtype.row_bytes(cols)?;
        let expected = rows * row_bytes;
        if bytes.len() != expected {
            return Err(KernelError::ByteLength {
                expected,
                actual: bytes.len(),
            });
        }
        let layout = layout_of(dtype, bytes);
        let tiles = rows.div_ceil(TILE_ROWS);
        let (tile_quants, tile_scales) = (layout.quant_bytes(cols), layout.scale_bytes(cols));
        let mut quants = AlignedBytes::zeroed(tiles * tile_quants);
        let mut scales = AlignedBytes::zeroed(tiles * tile_scales);
        for (tile, tile_bytes) in bytes.chunks(TILE_ROWS * row_bytes).enumerate() {
            let quants = &mut quants.as_mut_slice()[tile * tile_quants..][..tile_quants];
            let scales = &mut scales.as_mut_slice()[tile * tile_scales..][..tile_scales];
            for (row, row_bytes) in tile_bytes.chunks_exact(row_bytes).enumerate() {
                TileRow {
                    quants,
                    scales,
                    row,
                }
                .write(layout, dtype, row_bytes);
            }
        }
        Ok(Matrix {
            layout,
            rows,
            cols,
            quants,
            scales,
        })
    }

    /// Output rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes that the packed weights take.
    pub fn bytes(&self) -> usize {
        self.quants.as_slice().len() + self.scales.as_slice().len()
    }

    /// Whether it is multiplied with quantized activations; else with their values.
    pub fn is_quantized(&self) -> bool {
        self.layout.is_quantized()
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    /// Quants and scales of one tile.
    pub(crate) fn tile(&self, tile: usize) -> (&[u8], &[u8]) {
        let quant_bytes = self.layout.quant_bytes(self.cols);
        let scale_bytes = self.layout.scale_bytes(self.cols);
        (
            &self.quants.as_slice()[tile * quant_bytes..][..quant_bytes],
            &self.scales.as_slice()[tile * scale_bytes..][..scale_bytes],
        )
    }
}

fn check_dimension(name: &'static str, value: usize, max: usize) -> Result<(), KernelError> {
    if value == 0 || value > max {
        return Err(KernelError::Dimension { name, value, max });
    }
    Ok(())
}
