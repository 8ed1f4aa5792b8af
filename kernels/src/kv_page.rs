//! A few positions of the key and value cache, as attention reads them.

use crate::InstructionSet;
use crate::half_float::{Rows, widen_rows};
use crate::instruction_set::versions;

/// A page's keys and values from some position on.
pub(crate) struct Page<'a> {
    /// `[head_dim, stride]`, of which the first `positions` columns count.
    pub keys: Elements<'a>,
    pub stride: usize,
    /// `[positions, head_dim]`.
    pub values: Elements<'a>,
    pub positions: usize,
}

/// Elements of a page in the form in which they are stored.
pub(crate) enum Elements<'a> {
    /// f16 bits.
    F16(&'a [u16]),
    /// With a scale for each position.
    Int8 { quants: &'a [i8], scales: &'a [f32] },
}

// === impl Page ===

impl Page<'_> {
    /// Widens the keys into `out`, `[head_dim, out_stride]`.
    pub fn widen_keys(
        &self,
        set: InstructionSet,
        head_dim: usize,
        out: &mut [f32],
        out_stride: usize,
    ) {
        match self.keys {
            Elements::F16(bits) => {
                let rows = Rows {
                    count: head_dim,
                    len: self.positions,
                    stride: self.stride,
                };
                widen_rows(set, bits, &rows, out, out_stride);
            }
            Elements::Int8 { quants, scales } => {
                let strides = (self.stride, out_stride);
                widen_columns(set, quants, scales, head_dim, strides, out);
            }
        }
    }

    /// Widens the values into `out`, `[positions, out_stride]`.
    pub fn widen_values(
        &self,
        set: InstructionSet,
        head_dim: usize,
        out: &mut [f32],
        out_stride: usize,
    ) {
        match self.values {
            Elements::F16(bits) => {
                let rows = Rows {
                    count: self.positions,
                    len: head_dim,
                    stride: head_dim,
                };
                widen_rows(set, bits, &rows, out, out_stride);
            }
            Elements::Int8 { quants, scales } => {
                widen_scaled_rows(set, quants, scales, head_dim, out_stride, out);
            }
        }
    }
}

versions! {
    /// `out[d][p] = quants[d][p] * scales[p]`.
    fn widen_columns(
        quants: &[i8],
        scales: &[f32],
        head_dim: usize,
        strides: (usize, usize),
        out: &mut [f32],
    ) = widen_each_column;
}

#[inline(always)]
fn widen_each_column(
    quants: &[i8],
    scales: &[f32],
    head_dim: usize,
    (stride, out_stride): (usize, usize),
    out: &mut [f32],
) {
    for dimension in 0..head_dim {
        let quants = &quants[dimension * stride..][..scales.len()];
        let out = &mut out[dimension * out_stride..][..scales.len()];
        for ((out, quant), scale) in out.iter_mut().zip(quants).zip(scales) {
            *out = f32::from(*quant) * scale;
        }
    }
}

versions! {
    /// `out[p][d] = quants[p][d] * scales[p]`.
    fn widen_scaled_rows(
        quants: &[i8],
        scales: &[f32],
        head_dim: usize,
        out_stride: usize,
        out: &mut [f32],
    ) = widen_each_scaled_row;
}

#[inline(always)]
fn widen_each_scaled_row(
    quants: &[i8],
    scales: &[f32],
    head_dim: usize,
    out_stride: usize,
    out: &mut [f32],
) {
    for (position, scale) in scales.iter().enumerate() {
        let quants = &quants[position * head_dim..][..head_dim];
        let out = &mut out[position * out_stride..][..head_dim];
        for (out, quant) in out.iter_mut().zip(quants) {
            *out = f32::from(*quant) * scale;
        }
    }
}
