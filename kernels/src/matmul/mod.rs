//! y = x W^T for packed weights and quantized activations.
//!
//! For each group of columns the integer products are summed exactly and then scaled in f32:
//! d_w * d_x * sum(u*x), and for weights with a minimum m_w * d_x * sum(x) beside it. Groups are
//! added in order, for every row alike: a row's result does not depend on how many rows there are.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod reference;
#[cfg(target_arch = "x86_64")]
mod rows;

use std::ops::Range;

use crate::disjoint::Disjoint;
use crate::layout::{Layout, TILE_ROWS};
use crate::{Activations, InstructionSet, Matrix, TASK_NS_MIN, TASKS_PER_THREAD, ThreadPool};

/// Weight bytes that a thread reads in a nanosecond, about.
const BYTES_PER_NS: usize = 12;
/// Products that a thread adds in a nanosecond, about.
const PRODUCTS_PER_NS: usize = 100;

/// Activation rows that one pass over a tile serves at most: their sums fill the registers.
pub(crate) const BLOCK_ROWS_MAX: usize = 8;
/// Activation rows of a task at most: they and a tile stay in the second-level cache.
const TASK_ROWS_MAX: usize = 128;

/// Sixteen outputs for each of a few activation rows.
pub(crate) type Outputs = [[f32; TILE_ROWS]; BLOCK_ROWS_MAX];

/// Writes `out[rows of x, rows of weights]`, the product of `x` with the transposed weights.
///
/// # Panics
/// If the shapes do not fit.
pub fn matmul(pool: &ThreadPool, weights: &Matrix, x: &Activations, out: &mut [f32]) {
    matmul_group(pool, x, &mut [(weights, out)]);
}

/// Several products of one `x` in one run of the pool, such as query, key and value.
///
/// # Panics
/// If the shapes do not fit.
pub fn matmul_group(pool: &ThreadPool, x: &Activations, products: &mut [(&Matrix, &mut [f32])]) {
    matmul_with(InstructionSet::best(), pool, x, products);
}

/// [`matmul_group`] with a given instruction set.
pub fn matmul_with(
    set: InstructionSet,
    pool: &ThreadPool,
    x: &Activations,
    products: &mut [(&Matrix, &mut [f32])],
) {
    assert!(
        set.is_available(),
        "{set:?} is not available on this processor"
    );
    let mut cost_ns = 0;
    let mut tiles = 0;
    let mut parts = Vec::with_capacity(products.len());
    for (weights, out) in products {
        assert_eq!(
            weights.cols(),
            x.cols(),
            "weights and activations have one width"
        );
        assert_eq!(
            out.len(),
            x.rows() * weights.rows(),
            "out is [rows of x, rows of weights]"
        );
        let elements = weights.rows() * weights.cols();
        cost_ns += (weights.bytes() / BYTES_PER_NS).max(x.rows() * elements / PRODUCTS_PER_NS);
        let first_tile = tiles;
        tiles += weights.tiles();
        parts.push(Part {
            weights,
            first_tile,
            out: Disjoint::new(out),
        });
    }
    if x.rows() == 0 || tiles == 0 {
        return;
    }
    let row_parts = x.rows().div_ceil(TASK_ROWS_MAX);
    let wanted = (cost_ns / TASK_NS_MIN).clamp(1, pool.threads() * TASKS_PER_THREAD);
    let tile_parts = wanted.div_ceil(row_parts).min(tiles);
    pool.run(row_parts * tile_parts, &|task| {
        let rows = share(x.rows(), row_parts, task / tile_parts);
        for tile in share(tiles, tile_parts, task % tile_parts) {
            let part = parts.iter().rfind(|part| part.first_tile <= tile);
            let part = part.expect("the first part starts at tile 0");
            part.multiply_tile(set, tile - part.first_tile, x, rows.clone());
        }
    });
}

/// The `index`th of `parts` nearly equal shares of `0..count`.
fn share(count: usize, parts: usize, index: usize) -> Range<usize> {
    count * index / parts..count * (index + 1) / parts
}

/// One product of a group.
struct Part<'a> {
    weights: &'a Matrix,
    /// Where its tiles begin in the count over the whole group.
    first_tile: usize,
    out: Disjoint<'a, f32>,
}

// === impl Part ===

impl Part<'_> {
    /// Multiplies one tile with a range of activation rows, a block of rows at a time.
    fn multiply_tile(&self, set: InstructionSet, tile: usize, x: &Activations, rows: Range<usize>) {
        let (quants, scales) = self.weights.tile(tile);
        let tile_weights = Tile {
            layout: self.weights.layout(),
            quants,
            scales,
        };
        let first = tile * TILE_ROWS;
        let outputs = TILE_ROWS.min(self.weights.rows() - first);
        let mut sums = [[0.0; TILE_ROWS]; BLOCK_ROWS_MAX];
        let mut row = rows.start;
        while row < rows.end {
            let count = block_rows(rows.end - row);
            tile_weights.multiply(
                set,
                &RowBlock {
                    x,
                    first: row,
                    count,
                },
                &mut sums,
            );
            for (index, sums) in sums[..count].iter().enumerate() {
                let at = (row + index) * self.weights.rows() + first;
                // SAFETY: a tile and a row of activations belong to one task.
                let out = unsafe { self.out.slice(at..at + outputs) };
                out.copy_from_slice(&sums[..outputs]);
            }
            row += count;
        }
    }
}

/// The largest block that is no larger than what is left.
fn block_rows(left: usize) -> usize {
    match left {
        8.. => 8,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// Sixteen packed output rows.
pub(crate) struct Tile<'a> {
    pub layout: Layout,
    pub quants: &'a [u8],
    pub scales: &'a [u8],
}

/// A block of 1, 2, 4 or 8 rows of activations.
pub(crate) struct RowBlock<'a> {
    pub x: &'a Activations,
    pub first: usize,
    pub count: usize,
}

// === impl Tile ===

impl Tile<'_> {
    fn multiply(&self, set: InstructionSet, rows: &RowBlock<'_>, sums: &mut Outputs) {
        match set {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `matmul_with` has asserted that the processor has this set.
            InstructionSet::Avx512 => unsafe { avx512::multiply(self, rows, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            InstructionSet::Avx2 => unsafe { avx2::multiply(self, rows, sums) },
            _ => reference::multiply(self, rows, sums),
        }
    }

    /// Asserts that the tile is as wide as the rows, which the SIMD versions rely on.
    #[cfg(target_arch = "x86_64")]
    fn check(&self, rows: &RowBlock<'_>) {
        let cols = rows.x.cols();
        assert_eq!(
            self.quants.len(),
            self.layout.quant_bytes(cols),
            "a tile as wide as x"
        );
        assert_eq!(
            self.scales.len(),
            self.layout.scale_bytes(cols),
            "a tile as wide as x"
        );
    }
}
