//! y = x W^T for packed weights and quantized activations.
//!
//! For each group of columns the integer products are summed exactly and then scaled in f32:
//! d_w * d_x * sum(u*x), and for weights with a minimum m_w * d_x * sum(x) beside it. Groups are
//! added in order, for every row alike: a row's result does not depend on how many rows there are.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod eight;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod prefetch;
mod reference;

use std::ops::Range;

use crate::activations::{PANEL_ROWS_MAX, Panel, panel_count};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::block::BLOCK;
use crate::disjoint::Disjoint;
use crate::layout::{Layout, TILE_ROWS};
use crate::{Activations, InstructionSet, Matrix, TASK_NS_MIN, TASKS_PER_THREAD, ThreadPool};

/// Weight bytes that a thread reads in a nanosecond, about.
const BYTES_PER_NS: usize = 10;
/// Products that a thread adds in a nanosecond, about.
const PRODUCTS_PER_NS: usize = 120;

/// Panels of activations of a task at most: they and a tile stay in the second-level cache.
const TASK_PANELS_MAX: usize = 16;

/// Sixteen outputs for each row of a panel.
pub(crate) type Outputs = [[f32; TILE_ROWS]; PANEL_ROWS_MAX];

/// What becomes of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// It is written.
    Replace,
    /// It is added to what is there, such as the residual stream.
    Add,
}

/// Writes `out[rows of x, rows of weights]`, the product of `x` with the transposed weights, or
/// adds it.
///
/// # Panics
/// If the shapes do not fit, or the weights are not quantized and `x` has kept no values.
pub fn matmul(pool: &ThreadPool, weights: &Matrix, x: &Activations, out: &mut [f32], store: Store) {
    matmul_with(
        InstructionSet::best(),
        pool,
        x,
        &mut [(weights, out)],
        store,
    );
}

/// Several products of one `x` in one run of the pool, such as query, key and value.
///
/// # Panics
/// As [`matmul`].
pub fn matmul_group(pool: &ThreadPool, x: &Activations, products: &mut [(&Matrix, &mut [f32])]) {
    matmul_with(InstructionSet::best(), pool, x, products, Store::Replace);
}

/// [`matmul_group`] with a given instruction set.
pub fn matmul_with(
    set: InstructionSet,
    pool: &ThreadPool,
    x: &Activations,
    products: &mut [(&Matrix, &mut [f32])],
    store: Store,
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
        assert!(
            weights.is_quantized() || x.has_values(),
            "weights that are not quantized need the values of activations"
        );
        let elements = weights.rows() * weights.cols();
        cost_ns += (weights.bytes() / BYTES_PER_NS).max(x.rows() * elements / PRODUCTS_PER_NS);
        let first_tile = tiles;
        tiles += weights.tiles();
        parts.push(Part {
            weights,
            first_tile,
            out: Disjoint::new(out),
            store,
        });
    }
    let panels = panel_count(x.rows());
    if panels == 0 || tiles == 0 {
        return;
    }
    let row_parts = panels.div_ceil(TASK_PANELS_MAX);
    let wanted = (cost_ns / TASK_NS_MIN).clamp(1, pool.threads() * TASKS_PER_THREAD);
    let tile_parts = wanted.div_ceil(row_parts).min(tiles);
    pool.run(row_parts * tile_parts, &|task| {
        let panels = share(panels, row_parts, task / tile_parts);
        for tile in share(tiles, tile_parts, task % tile_parts) {
            let part = parts.iter().rfind(|part| part.first_tile <= tile);
            let part = part.expect("the first part starts at tile 0");
            part.multiply_tile(set, tile - part.first_tile, x, panels.clone());
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
    store: Store,
}

// === impl Part ===

impl Part<'_> {
    /// Multiplies one tile with a range of panels.
    fn multiply_tile(
        &self,
        set: InstructionSet,
        tile: usize,
        x: &Activations,
        panels: Range<usize>,
    ) {
        let (quants, scales) = self.weights.tile(tile);
        let weights = Tile {
            layout: self.weights.layout(),
            quants,
            scales,
        };
        let first = tile * TILE_ROWS;
        let outputs = TILE_ROWS.min(self.weights.rows() - first);
        let mut sums = [[0.0; TILE_ROWS]; PANEL_ROWS_MAX];
        for index in panels {
            let panel = x.panel(index);
            weights.multiply(set, &panel, &mut sums);
            for (row, sums) in sums[..panel.rows.count].iter().enumerate() {
                let at = (panel.rows.first + row) * self.weights.rows() + first;
                // SAFETY: a tile and a row of activations belong to one task.
                let out = unsafe { self.out.slice(at..at + outputs) };
                self.store.write(sums, out);
            }
        }
    }
}

// === impl Store ===

impl Store {
    #[inline]
    fn write(self, sums: &[f32; TILE_ROWS], out: &mut [f32]) {
        match (self, out.as_mut_array::<TILE_ROWS>()) {
            // The usual tile is whole, which needs no loop.
            (Store::Replace, Some(out)) => *out = *sums,
            (Store::Replace, None) => out.copy_from_slice(&sums[..out.len()]),
            (Store::Add, Some(out)) => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
            (Store::Add, None) => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
        }
    }
}

/// Sixteen packed output rows.
pub(crate) struct Tile<'a> {
    pub layout: Layout,
    pub quants: &'a [u8],
    pub scales: &'a [u8],
}

// === impl Tile ===

impl Tile<'_> {
    #[inline]
    fn multiply(&self, set: InstructionSet, x: &Panel<'_>, sums: &mut Outputs) {
        match set {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `matmul_with` has asserted that the processor has this set.
            InstructionSet::Avx512 => unsafe { avx512::multiply(self, x, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            InstructionSet::AvxVnni => unsafe { eight::multiply_avx_vnni(self, x, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            InstructionSet::Avx2 => unsafe { eight::multiply_avx2(self, x, sums) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            InstructionSet::NeonDot => unsafe { eight::multiply_neon_dot(self, x, sums) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            InstructionSet::Neon => unsafe { eight::multiply_neon(self, x, sums) },
            _ => reference::multiply(self, x, sums),
        }
    }

    /// Asserts that the tile is as wide as the panel and the panel is whole, which the SIMD
    /// versions rely on.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[inline(always)]
    fn check(&self, x: &Panel<'_>) {
        x.check();
        assert!(
            self.quants.len() == self.layout.quant_bytes(x.cols)
                && self.scales.len() == self.layout.scale_bytes(x.cols),
            "a tile as wide as x"
        );
        assert!(
            self.layout.is_quantized() || x.values.len() == x.rows.count * x.blocks * BLOCK,
            "a panel with its values"
        );
    }
}
