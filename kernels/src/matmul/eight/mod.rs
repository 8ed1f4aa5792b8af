//! The multiplication for registers that hold eight outputs, half a tile at a time: AVX2, AVX-VNNI
//! and NEON. The loops are written once, over what a processor does ([`Eight`]), so that versions
//! which only sum products in another way differ in nothing else.

mod arithmetic;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scales;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::{multiply_avx_vnni, multiply_avx2};
#[cfg(target_arch = "aarch64")]
pub(super) use neon::{multiply_neon, multiply_neon_dot};

use super::prefetch::prefetch;
use super::{Outputs, Tile};
use crate::activations::Panel;
use crate::block::BLOCK;
use crate::layout::{
    BLOCK_QUADS, Layout, NIBBLE_VECTORS, QUAD, TILE_ROWS, U5_BLOCK_VECTORS, U6_BLOCK_VECTORS,
    VECTOR_BYTES,
};
use arithmetic::Eight;
use scales::{
    BF16, Element, F16, F16Pairs, F16Scales, F32, NibbleScales, Scales, SuperPairs, SuperScales,
};

/// Outputs of a register, or of two that are used as one.
const HALF_ROWS: usize = TILE_ROWS / 2;

/// Sets `sums[row][output]` for each row of the panel.
///
/// # Safety
/// As for [`Eight`].
#[inline(always)]
unsafe fn multiply<E: Eight>(tile: &Tile<'_>, x: &Panel<'_>, sums: &mut Outputs) {
    tile.check(x);
    // SAFETY: the check gives tile and panel the lengths that the loops read, and the features are
    // the caller's promise.
    unsafe {
        match x.rows.count {
            1 => multiply_rows::<E, 1>(tile, &Rows::new(x, 0), sums),
            2 => multiply_rows::<E, 2>(tile, &Rows::new(x, 0), sums),
            // Eight rows do not fit sixteen registers: they are two times four.
            count => {
                for first in (0..count).step_by(4) {
                    let rows = Rows::<4>::new(x, first);
                    multiply_rows::<E, 4>(tile, &rows, &mut sums[first..]);
                }
            }
        }
    }
}

/// `M` neighbouring rows of a panel, each pointer at the first element of the first of them.
struct Rows<const M: usize> {
    cols: usize,
    blocks: usize,
    /// Rows of the whole panel, which lie between one block and the next.
    stride: usize,
    values: [*const f32; M],
    quants: *const i8,
    scales: *const f32,
    sums: *const f32,
    offsets: *const i32,
    half_offsets: *const i32,
}

// === impl Rows ===

impl<const M: usize> Rows<M> {
    /// Those from the `first`th on. Their extent is checked here.
    #[inline(always)]
    fn new(x: &Panel<'_>, first: usize) -> Rows<M> {
        assert!(first + M <= x.rows.count, "rows of the panel");
        let values = |m: usize| match x.values.get((first + m) * x.blocks * BLOCK..) {
            Some(values) => values.as_ptr(),
            None => std::ptr::null(),
        };
        Rows {
            cols: x.cols,
            blocks: x.blocks,
            stride: x.rows.count,
            values: std::array::from_fn(values),
            quants: x.quants[first * BLOCK..].as_ptr(),
            scales: x.scales[first..].as_ptr(),
            sums: x.sums[first..].as_ptr(),
            offsets: x.offsets[first..].as_ptr(),
            half_offsets: x.half_offsets[first..].as_ptr(),
        }
    }

    /// A quad of row `m` in `block`.
    ///
    /// # Safety
    /// Both must exist; as for [`Eight`].
    #[inline(always)]
    unsafe fn quad<E: Eight>(&self, block: usize, m: usize, quad: usize) -> E::Quad {
        // SAFETY: the caller's promise.
        unsafe {
            let block = self.quants.add((block * self.stride + m) * BLOCK);
            E::quad(block.add(quad * QUAD))
        }
    }
}

/// # Safety
/// As for [`Eight`]; the tile must be as wide as the rows.
#[inline(always)]
unsafe fn multiply_rows<E: Eight, const M: usize>(
    tile: &Tile<'_>,
    x: &Rows<M>,
    sums: &mut [[f32; TILE_ROWS]],
) {
    for half in 0..2 {
        // SAFETY: as the caller.
        let totals = unsafe {
            match tile.layout {
                Layout::U4 => nibbles::<E, F16Pairs, M>(tile, x, half),
                Layout::U4K => nibbles::<E, SuperPairs, M>(tile, x, half),
                Layout::U5 => planes::<E, F16Scales, M, 5>(tile, x, half),
                Layout::U6K => planes::<E, SuperScales, M, 6>(tile, x, half),
                Layout::U8 => bytes::<E, F16Scales, M>(tile, x, half),
                Layout::F32 => dense::<E, F32, M>(tile, x, half),
                Layout::F16 => dense::<E, F16, M>(tile, x, half),
                Layout::BF16 => dense::<E, BF16, M>(tile, x, half),
            }
        };
        for (sums, total) in sums.iter_mut().zip(totals) {
            let sums = &mut sums[half * HALF_ROWS..][..HALF_ROWS];
            // SAFETY: eight outputs; the store needs no alignment.
            unsafe { E::store(total, sums.as_mut_ptr()) };
        }
    }
}

/// Layouts `U4` and `U4K`.
///
/// # Safety
/// As [`multiply_rows`].
#[inline(always)]
unsafe fn nibbles<E: Eight, S: NibbleScales<E>, const M: usize>(
    tile: &Tile<'_>,
    x: &Rows<M>,
    half: usize,
) -> [E::Floats; M] {
    // SAFETY: the tile has `blocks` times four vectors, and scales for each block; the rows have
    // `blocks` times 32 quants, a scale and a sum.
    unsafe {
        let mut totals = [E::splat(0.0); M];
        let mut weights = tile.quants.as_ptr().add(half * VECTOR_BYTES / 2);
        for block in 0..x.blocks {
            prefetch::<NIBBLE_VECTORS>(weights);
            let mut products = [E::no_products(); M];
            for quad in 0..NIBBLE_VECTORS {
                let packed = E::bytes(weights);
                weights = weights.wrapping_add(VECTOR_BYTES);
                let (low, high) = (E::low(packed), E::high(packed));
                for (m, products) in products.iter_mut().enumerate() {
                    let left = x.quad::<E>(block, m, quad);
                    *products = E::add_products(*products, low, left);
                    let left = x.quad::<E>(block, m, quad + NIBBLE_VECTORS);
                    *products = E::add_products(*products, high, left);
                }
            }
            let (scale, min) = S::load(tile.scales.as_ptr(), block, half);
            for m in 0..M {
                let at = block * x.stride + m;
                let dot = E::floats(E::sum(E::sums(0), products[m]));
                let dot = E::mul(dot, E::splat(*x.scales.add(at)));
                totals[m] = E::mul_add(scale, dot, totals[m]);
                totals[m] = E::mul_add(min, E::splat(*x.sums.add(at)), totals[m]);
            }
        }
        totals
    }
}

/// Layouts `U5` and `U6K`: nibbles, and planes with the 1 or 2 bits above them.
///
/// # Safety
/// As [`multiply_rows`].
#[inline(always)]
unsafe fn planes<E: Eight, S: Scales<E>, const M: usize, const BITS: usize>(
    tile: &Tile<'_>,
    x: &Rows<M>,
    half: usize,
) -> [E::Floats; M] {
    let vectors = if BITS == 5 {
        U5_BLOCK_VECTORS
    } else {
        U6_BLOCK_VECTORS
    };
    // SAFETY: the tile has `blocks` times so many vectors, and scales for each group; the rows have
    // `blocks` times 32 quants, a scale and offsets.
    unsafe {
        let mut totals = [E::splat(0.0); M];
        let mut weights = tile.quants.as_ptr().add(half * VECTOR_BYTES / 2);
        for block in 0..x.blocks {
            if BITS == 5 {
                prefetch::<U5_BLOCK_VECTORS>(weights);
                // The offset of bytes is 128, that of five bits is an eighth of it.
                let mut dots = start::<E, M, 3>(x.offsets.add(block * x.stride));
                add_run::<E, M, BITS, 0>(&mut dots, weights, x, block);
                add_run::<E, M, BITS, 1>(&mut dots, weights, x, block);
                let scale = S::load(tile.scales.as_ptr(), block, half);
                add_scaled::<E, M>(&mut totals, dots, scale, x, block);
            } else {
                prefetch::<U6_BLOCK_VECTORS>(weights);
                let offsets = x.half_offsets.add(2 * block * x.stride);
                let mut dots = start::<E, M, 2>(offsets);
                add_run::<E, M, BITS, 0>(&mut dots, weights, x, block);
                add_run::<E, M, BITS, 1>(&mut dots, weights, x, block);
                let scale = S::load(tile.scales.as_ptr(), 2 * block, half);
                add_scaled::<E, M>(&mut totals, dots, scale, x, block);
                let mut dots = start::<E, M, 2>(offsets.add(x.stride));
                add_run::<E, M, BITS, 2>(&mut dots, weights, x, block);
                add_run::<E, M, BITS, 3>(&mut dots, weights, x, block);
                let scale = S::load(tile.scales.as_ptr(), 2 * block + 1, half);
                add_scaled::<E, M>(&mut totals, dots, scale, x, block);
            }
            weights = weights.wrapping_add(vectors * VECTOR_BYTES);
        }
        totals
    }
}

/// Sums that begin with the offsets of bytes, in which each has `SHIFT` bits too many.
///
/// # Safety
/// `offsets` has `M` elements left; as for [`Eight`].
#[inline(always)]
unsafe fn start<E: Eight, const M: usize, const SHIFT: u32>(offsets: *const i32) -> [E::Sums; M] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [E::sums(0); M];
        for (m, sums) in sums.iter_mut().enumerate() {
            *sums = E::sums(*offsets.add(m) >> SHIFT);
        }
        sums
    }
}

/// Adds the products of one run of quads, whose upper bits are a nibble of a plane.
///
/// # Safety
/// The block's vectors and quants must exist; as for [`Eight`].
#[inline(always)]
unsafe fn add_run<E: Eight, const M: usize, const BITS: usize, const RUN: usize>(
    dots: &mut [E::Sums; M],
    weights: *const u8,
    x: &Rows<M>,
    block: usize,
) {
    let quads = NIBBLE_VECTORS / (BITS - 4);
    // SAFETY: the caller's promise.
    unsafe {
        let mut plane = E::bytes(weights.add((NIBBLE_VECTORS + RUN / 2) * VECTOR_BYTES));
        if RUN % 2 == 1 {
            plane = E::left_4(plane);
        }
        let mut products = [E::no_products(); M];
        for quad in RUN * quads..(RUN + 1) * quads {
            let packed = E::bytes(weights.add(quad % NIBBLE_VECTORS * VECTOR_BYTES));
            let nibbles = if RUN * quads < NIBBLE_VECTORS {
                E::low(packed)
            } else {
                E::high(packed)
            };
            let (whole, rest) = if BITS == 5 {
                (E::join_5(nibbles, plane), E::right_1(plane))
            } else {
                (E::join_6(nibbles, plane), E::right_2(plane))
            };
            plane = rest;
            for (m, products) in products.iter_mut().enumerate() {
                let left = x.quad::<E>(block, m, quad);
                *products = E::add_products(*products, whole, left);
            }
        }
        for m in 0..M {
            dots[m] = E::sum(dots[m], products[m]);
        }
    }
}

/// Adds integer sums times both scales.
///
/// # Safety
/// The block must exist; as for [`Eight`].
#[inline(always)]
unsafe fn add_scaled<E: Eight, const M: usize>(
    totals: &mut [E::Floats; M],
    dots: [E::Sums; M],
    scale: E::Floats,
    x: &Rows<M>,
    block: usize,
) {
    for m in 0..M {
        // SAFETY: the caller's promise.
        unsafe {
            let x_scale = E::splat(*x.scales.add(block * x.stride + m));
            let dot = E::mul(E::floats(dots[m]), x_scale);
            totals[m] = E::mul_add(scale, dot, totals[m]);
        }
    }
}

/// Layout `U8`.
///
/// # Safety
/// As [`multiply_rows`].
#[inline(always)]
unsafe fn bytes<E: Eight, S: Scales<E>, const M: usize>(
    tile: &Tile<'_>,
    x: &Rows<M>,
    half: usize,
) -> [E::Floats; M] {
    // SAFETY: the tile has `blocks` times eight vectors, and scales for each; the rows have
    // `blocks` times 32 quants, a scale and an offset.
    unsafe {
        let mut totals = [E::splat(0.0); M];
        let mut weights = tile.quants.as_ptr().add(half * VECTOR_BYTES / 2);
        for block in 0..x.blocks {
            prefetch::<BLOCK_QUADS>(weights);
            let mut dots = [E::sums(0); M];
            for (m, dot) in dots.iter_mut().enumerate() {
                *dot = E::byte_sums(*x.offsets.add(block * x.stride + m));
            }
            for first in (0..BLOCK_QUADS).step_by(E::BYTE_QUADS) {
                let mut products = [E::no_products(); M];
                for quad in first..first + E::BYTE_QUADS {
                    let vector = E::whole(E::bytes(weights));
                    weights = weights.wrapping_add(VECTOR_BYTES);
                    for (m, products) in products.iter_mut().enumerate() {
                        let left = x.quad::<E>(block, m, quad);
                        *products = E::add_byte_products(*products, vector, left);
                    }
                }
                for m in 0..M {
                    dots[m] = E::sum(dots[m], products[m]);
                }
            }
            let scale = S::load(tile.scales.as_ptr(), block, half);
            add_scaled::<E, M>(&mut totals, dots, scale, x, block);
        }
        totals
    }
}

/// Weights that are not quantized. Even and odd columns are summed apart, for every number of
/// rows, so that a row's result does not depend on it.
///
/// # Safety
/// As [`multiply_rows`]; the rows must have values.
#[inline(always)]
unsafe fn dense<E: Eight, T: Element<E>, const M: usize>(
    tile: &Tile<'_>,
    x: &Rows<M>,
    half: usize,
) -> [E::Floats; M] {
    // SAFETY: the tile has sixteen weights, each row a value for every column.
    unsafe {
        let mut even = [E::splat(0.0); M];
        let mut odd = [E::splat(0.0); M];
        for col in 0..x.cols {
            let sums = if col % 2 == 0 { &mut even } else { &mut odd };
            let first = col * TILE_ROWS + half * HALF_ROWS;
            let weight = T::load(tile.quants.as_ptr().add(first * T::BYTES));
            for (sum, values) in sums.iter_mut().zip(x.values) {
                *sum = E::mul_add(weight, E::splat(*values.add(col)), *sum);
            }
        }
        for (even, odd) in even.iter_mut().zip(odd) {
            *even = E::add(*even, odd);
        }
        even
    }
}
