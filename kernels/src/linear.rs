//! y = x W^T + b with weights and activations in f32: for encoders, whose outputs are compared by
//! cosines that rounding would move. On AVX2 it is as fast as a product of int8, where a
//! multiplication of bytes needs a second one that sums it up.

use std::ops::Range;

use crate::disjoint::Disjoint;
use crate::gelu::gelu_rows;
use crate::lanes::{Chunk, LANES};
use crate::row_product::{Ahead, ROWS_AT_ONCE_MAX, RowProduct, chunks_of, rows_at_once, share};
use crate::{
    InstructionSet, KernelError, MATRIX_COLS_MAX, MATRIX_ROWS_MAX, TASK_NS_MIN, TASKS_PER_THREAD,
    ThreadPool,
};

/// Products that a thread adds in a nanosecond, about.
const PRODUCTS_PER_NS: usize = 40;

/// Rows of so many bytes meet all tiles of a task before the next ones do: they stay in the
/// second-level cache, which has half a mebibyte on the smallest machines.
const GROUP_BYTES: usize = 192 << 10;

/// Weights of shape `[outputs, inputs]` and a bias, in tiles of sixteen outputs.
pub struct Linear {
    outputs: usize,
    inputs: usize,
    /// Of each tile sixteen weights for one input after the other; outputs that the last tile
    /// lacks have weights of 0.
    weights: Vec<Line>,
    bias: Vec<f32>,
}

/// Sixteen weights in one cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line(Chunk);

/// What is done to a product before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// The Gaussian error linear unit, x times the share of the normal distribution below x.
    Gelu,
}

// === impl Linear ===

impl Linear {
    /// Packs weights, row after row, and a bias with a number for each row.
    ///
    /// # Errors
    /// A dimension is zero or above its limit, or `weights` has not exactly their product.
    pub fn pack(weights: &[f32], inputs: usize, bias: Vec<f32>) -> Result<Linear, KernelError> {
        let outputs = bias.len();
        for (name, value, max) in [
            ("rows", outputs, MATRIX_ROWS_MAX),
            ("cols", inputs, MATRIX_COLS_MAX),
        ] {
            if value == 0 || value > max {
                return Err(KernelError::Dimension { name, value, max });
            }
        }
        if weights.len() != outputs * inputs {
            return Err(KernelError::ByteLength {
                expected: outputs * inputs * size_of::<f32>(),
                actual: size_of_val(weights),
            });
        }
        let mut packed = vec![Line([0.0; LANES]); chunks_of(outputs) * inputs];
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            let (tile, lane) = (output / LANES, output % LANES);
            let lines = &mut packed[tile * inputs..][..inputs];
            for (line, weight) in lines.iter_mut().zip(row) {
                line.0[lane] = *weight;
            }
        }
        Ok(Linear {
            outputs,
            inputs,
            weights: packed,
            bias,
        })
    }

    /// Numbers of a row of the result.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Numbers of a row of what it is applied to.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Writes `out[rows, outputs]` for `x[rows, inputs]`. A row's result does not depend on how
    /// many there are.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn apply(&self, pool: &ThreadPool, x: &[f32], activation: Activation, out: &mut [f32]) {
        self.apply_with(InstructionSet::best(), pool, x, activation, out);
    }

    /// [`Linear::apply`] with a given instruction set.
    pub fn apply_with(
        &self,
        set: InstructionSet,
        pool: &ThreadPool,
        x: &[f32],
        activation: Activation,
        out: &mut [f32],
    ) {
        let rows = x.len() / self.inputs;
        assert_eq!(x.len(), rows * self.inputs, "x has rows of {}", self.inputs);
        assert_eq!(
            out.len(),
            rows * self.outputs,
            "out is [rows of x, outputs]"
        );
        let tiles = chunks_of(self.outputs);
        let cost_ns = rows * self.outputs * self.inputs / PRODUCTS_PER_NS;
        let tasks = (cost_ns / TASK_NS_MIN)
            .clamp(1, pool.threads() * TASKS_PER_THREAD)
            .min(tiles);
        let groups = (size_of_val(x)).div_ceil(GROUP_BYTES);
        let out = Disjoint::new(out);
        pool.run(tasks, &|task| {
            let tiles = share(tiles, tasks, task);
            for group in 0..groups {
                for tile in tiles.clone() {
                    self.multiply_tile(set, tile, x, share(rows, groups, group), &out);
                }
            }
            if activation == Activation::Gelu {
                let first = tiles.start * LANES;
                let end = (tiles.end * LANES).min(self.outputs);
                for row in 0..rows {
                    let at = row * self.outputs;
                    // SAFETY: a tile's outputs belong to one task.
                    gelu_rows(set, unsafe { out.slice(at + first..at + end) });
                }
            }
        });
    }

    /// Sixteen outputs of some rows.
    fn multiply_tile(
        &self,
        set: InstructionSet,
        tile: usize,
        x: &[f32],
        rows: Range<usize>,
        out: &Disjoint<'_, f32>,
    ) {
        let first = tile * LANES;
        let bias = &self.bias[first..self.outputs.min(first + LANES)];
        let weights = self.tile(tile);
        let next = weights.as_ptr().wrapping_add(self.inputs);
        let parts = rows.len().div_ceil(rows_at_once(set));
        let mut sums = [[0.0; LANES]; ROWS_AT_ONCE_MAX];
        for part in 0..parts {
            let some = share(rows.len(), parts, part);
            let some = rows.start + some.start..rows.start + some.end;
            let product = RowProduct {
                a: &x[some.start * self.inputs..some.end * self.inputs],
                a_stride: self.inputs,
                depth: self.inputs,
                b: weights,
                b_stride: 1,
                ahead: Ahead::part(next, self.inputs, part, parts),
            };
            product.multiply(set, some.len(), &mut sums);
            for (row, sums) in some.zip(&sums) {
                let at = row * self.outputs + first;
                // SAFETY: a tile's outputs belong to one task.
                let out = unsafe { out.slice(at..at + bias.len()) };
                for ((out, sum), bias) in out.iter_mut().zip(sums).zip(bias) {
                    *out = sum + bias;
                }
            }
        }
    }

    fn tile(&self, tile: usize) -> &[Chunk] {
        let lines = &self.weights[tile * self.inputs..][..self.inputs];
        // SAFETY: a line is a chunk and has no padding: both are 64 bytes.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len()) }
    }
}
