//! The multiplication with AVX2: eight outputs a register, half a tile at a time.
//!
//! `vpmaddubsw` adds two products of unsigned and signed bytes in 16 bits, and saturates. Nibbles
//! cannot get there: eight quads give a lane at most 16 * 15 * 127 = 30,480. For bytes the sign
//! of the weight is moved to the activation, which leaves 2 * 128 * 127 = 32,512.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _mm_load_si128, _mm_loadl_epi64, _mm256_abs_epi8, _mm256_add_epi16,
    _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_castsi256_ps, _mm256_cvtepi8_epi32,
    _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_cvtepu16_epi32, _mm256_cvtph_ps,
    _mm256_fmadd_ps, _mm256_load_si256, _mm256_loadu_ps, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_slli_epi32,
    _mm256_srli_epi16, _mm256_storeu_ps, _mm256_sub_ps, _mm256_xor_si256,
};

use super::prefetch::prefetch;
use super::{Outputs, Tile};
use crate::activations::Panel;
use crate::block::{BLOCK, SUPER_BLOCK};
use crate::layout::{
    F16_ROW_BYTES, Layout, QUAD, TILE_ROWS, U4_GROUP_SCALE_BYTES, U4K_SUPER_SCALE_BYTES,
    U8_GROUP_SCALE_BYTES, U8K_SUPER_SCALE_BYTES, VECTOR_BYTES,
};

/// Outputs of a register.
const HALF_ROWS: usize = TILE_ROWS / 2;
/// Blocks of 32 columns in a super-block.
const SUPER_BLOCKS: usize = SUPER_BLOCK / BLOCK;
/// Quads of a block of 32 columns.
const BLOCK_QUADS: usize = BLOCK / QUAD;

/// Sets `sums[row][output]` for each row of the panel.
///
/// # Safety
/// The processor must have every feature of [`crate::InstructionSet::Avx2`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn multiply(tile: &Tile<'_>, x: &Panel<'_>, sums: &mut Outputs) {
    tile.check(x);
    // SAFETY: the check gives tile and panel the lengths that the loops read, and the features are
    // the caller's promise.
    unsafe {
        match x.rows.count {
            1 => multiply_rows(tile, &Rows::<1>::new(x, 0), sums),
            2 => multiply_rows(tile, &Rows::<2>::new(x, 0), sums),
            // Eight rows do not fit sixteen registers: they are two times four.
            count => {
                for first in (0..count).step_by(4) {
                    let rows = Rows::<4>::new(x, first);
                    multiply_rows(tile, &rows, &mut sums[first..]);
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
}

// === impl Rows ===

impl<const M: usize> Rows<M> {
    /// Those from the `first`th on. Their extent is checked here.
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
        }
    }

    /// The quants of row `m` in `block`.
    ///
    /// # Safety
    /// Both must exist.
    #[inline(always)]
    unsafe fn block_quants(&self, block: usize, m: usize) -> *const i8 {
        // SAFETY: the caller's promise.
        unsafe { self.quants.add((block * self.stride + m) * BLOCK) }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply_rows<const M: usize>(
    tile: &Tile<'_>,
    x: &Rows<M>,
    sums: &mut [[f32; TILE_ROWS]],
) {
    for half in 0..2 {
        // SAFETY: as the caller.
        let totals = unsafe {
            match tile.layout {
                Layout::U4 => nibbles::<F16Pairs, M>(tile, x, half),
                Layout::U4K => nibbles::<SuperPairs, M>(tile, x, half),
                Layout::U8 => bytes::<F16Scales, M, 1>(tile, x, half),
                Layout::U8K => bytes::<SuperScales, M, 2>(tile, x, half),
                Layout::F32 => dense::<F32, M>(tile, x, half),
                Layout::F16 => dense::<F16, M>(tile, x, half),
                Layout::BF16 => dense::<BF16, M>(tile, x, half),
            }
        };
        for (sums, total) in sums.iter_mut().zip(totals) {
            let sums = &mut sums[half * HALF_ROWS..][..HALF_ROWS];
            // SAFETY: eight outputs; the store needs no alignment.
            unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), total) };
        }
    }
}

/// Four activations in every lane.
///
/// # Safety
/// `quants` has four elements left.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn broadcast_quad(quants: *const i8) -> __m256i {
    // SAFETY: four elements are left; the read needs no alignment.
    _mm256_set1_epi32(unsafe { quants.cast::<i32>().read_unaligned() })
}

/// Layouts `U4` and `U4K`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn nibbles<S: NibbleScales, const M: usize>(
    tile: &Tile<'_>,
    x: &Rows<M>,
    half: usize,
) -> [__m256; M] {
    let low_bits = _mm256_set1_epi8(0x0f);
    let ones = _mm256_set1_epi16(1);
    let mut totals = [_mm256_setzero_ps(); M];
    // SAFETY: the tile has `blocks` times four vectors, and scales for each block; the rows have
    // `blocks` times 32 quants, a scale and a sum.
    unsafe {
        let mut weights = tile.quants.as_ptr().add(half * VECTOR_BYTES / 2);
        for block in 0..x.blocks {
            prefetch::<{ BLOCK_QUADS / 2 }>(weights);
            let mut dots = [_mm256_setzero_si256(); M];
            for quad in 0..BLOCK_QUADS / 2 {
                let packed = _mm256_load_si256(weights.cast());
                weights = weights.wrapping_add(VECTOR_BYTES);
                let low = _mm256_and_si256(packed, low_bits);
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(packed), low_bits);
                for (m, dot) in dots.iter_mut().enumerate() {
                    let at = x.block_quants(block, m).add(quad * QUAD);
                    let products = _mm256_maddubs_epi16(low, broadcast_quad(at));
                    *dot = _mm256_add_epi16(*dot, products);
                    let products = _mm256_maddubs_epi16(high, broadcast_quad(at.add(BLOCK / 2)));
                    *dot = _mm256_add_epi16(*dot, products);
                }
            }
            let (scale, min) = S::load(tile.scales.as_ptr(), block, half);
            for m in 0..M {
                let at = block * x.stride + m;
                let dot = _mm256_cvtepi32_ps(_mm256_madd_epi16(dots[m], ones));
                let dot = _mm256_mul_ps(dot, _mm256_set1_ps(*x.scales.add(at)));
                totals[m] = _mm256_fmadd_ps(scale, dot, totals[m]);
                totals[m] = _mm256_fmadd_ps(min, _mm256_set1_ps(*x.sums.add(at)), totals[m]);
            }
        }
    }
    totals
}

/// Layouts `U8` and `U8K`, which have `GROUPS` scales for each block of 32 columns.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn bytes<S: ByteScales, const M: usize, const GROUPS: usize>(
    tile: &Tile<'_>,
    x: &Rows<M>,
    half: usize,
) -> [__m256; M] {
    let sign_bits = _mm256_set1_epi8(i8::MIN);
    let ones = _mm256_set1_epi16(1);
    let mut totals = [_mm256_setzero_ps(); M];
    // SAFETY: the tile has `blocks` times eight vectors, and the scales of each group; the rows
    // have `blocks` times 32 quants and a scale.
    unsafe {
        let mut weights = tile.quants.as_ptr().add(half * VECTOR_BYTES / 2);
        for group in 0..x.blocks * GROUPS {
            if group % GROUPS == 0 {
                prefetch::<BLOCK_QUADS>(weights);
            }
            let mut dots = [_mm256_setzero_si256(); M];
            for quad in 0..BLOCK_QUADS / GROUPS {
                let vector = _mm256_xor_si256(_mm256_load_si256(weights.cast()), sign_bits);
                weights = weights.wrapping_add(VECTOR_BYTES);
                let magnitude = _mm256_abs_epi8(vector);
                for (m, dot) in dots.iter_mut().enumerate() {
                    let column = group % GROUPS * (BLOCK / GROUPS) + quad * QUAD;
                    let at = x.block_quants(group / GROUPS, m).add(column);
                    let signed = _mm256_sign_epi8(broadcast_quad(at), vector);
                    let products = _mm256_maddubs_epi16(magnitude, signed);
                    *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(products, ones));
                }
            }
            let scale = S::load(tile.scales.as_ptr(), group, half);
            for m in 0..M {
                let at = group / GROUPS * x.stride + m;
                let x_scale = _mm256_set1_ps(*x.scales.add(at));
                let dot = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[m]), x_scale);
                totals[m] = _mm256_fmadd_ps(scale, dot, totals[m]);
            }
        }
    }
    totals
}

/// Weights that are not quantized. Even and odd columns are summed apart, for every number of
/// rows, so that a row's result does not depend on it.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dense<E: Element, const M: usize>(
    tile: &Tile<'_>,
    x: &Rows<M>,
    half: usize,
) -> [__m256; M] {
    let mut even = [_mm256_setzero_ps(); M];
    let mut odd = [_mm256_setzero_ps(); M];
    for col in 0..x.cols {
        let sums = if col % 2 == 0 { &mut even } else { &mut odd };
        // SAFETY: the tile has sixteen weights, each row a value for every column.
        unsafe {
            let first = col * TILE_ROWS + half * HALF_ROWS;
            let weight = E::load(tile.quants.as_ptr().add(first * E::BYTES));
            for (sum, values) in sums.iter_mut().zip(x.values) {
                *sum = _mm256_fmadd_ps(weight, _mm256_set1_ps(*values.add(col)), *sum);
            }
        }
    }
    std::array::from_fn(|m| _mm256_add_ps(even[m], odd[m]))
}

/// How scale and minimum of eight outputs are stored.
trait NibbleScales {
    /// Those of the `block`th 32 columns.
    ///
    /// # Safety
    /// `scales` must hold them, on a 16-byte boundary.
    unsafe fn load(scales: *const u8, block: usize, half: usize) -> (__m256, __m256);
}

/// f16 scale and minimum for each block.
struct F16Pairs;

impl NibbleScales for F16Pairs {
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn load(scales: *const u8, block: usize, half: usize) -> (__m256, __m256) {
        // SAFETY: the caller's promise.
        unsafe {
            let at = scales.add(block * U4_GROUP_SCALE_BYTES);
            (load_f16(at, half), load_f16(at.add(F16_ROW_BYTES), half))
        }
    }
}

/// f16 scale and minimum for each super-block, times u8 for each block.
struct SuperPairs;

impl NibbleScales for SuperPairs {
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn load(scales: *const u8, block: usize, half: usize) -> (__m256, __m256) {
        // SAFETY: the caller's promise.
        unsafe {
            let at = scales.add(block / SUPER_BLOCKS * U4K_SUPER_SCALE_BYTES);
            let (scale, min) = (load_f16(at, half), load_f16(at.add(F16_ROW_BYTES), half));
            let at = at.add(2 * F16_ROW_BYTES + block % SUPER_BLOCKS * 2 * TILE_ROWS);
            let part = |at: *const u8| {
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_eight_bytes(at, half)))
            };
            let min = _mm256_mul_ps(min, part(at.add(TILE_ROWS)));
            (
                _mm256_mul_ps(scale, part(at)),
                _mm256_sub_ps(_mm256_setzero_ps(), min),
            )
        }
    }
}

/// How scales of eight outputs are stored.
trait ByteScales {
    /// Those of the `group`th group.
    ///
    /// # Safety
    /// `scales` must hold them, on a 16-byte boundary.
    unsafe fn load(scales: *const u8, group: usize, half: usize) -> __m256;
}

/// An f16 for each block of 32.
struct F16Scales;

impl ByteScales for F16Scales {
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn load(scales: *const u8, group: usize, half: usize) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { load_f16(scales.add(group * U8_GROUP_SCALE_BYTES), half) }
    }
}

/// An f16 for each super-block times an i8 for each group of 16.
struct SuperScales;

impl ByteScales for SuperScales {
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn load(scales: *const u8, group: usize, half: usize) -> __m256 {
        let groups = 2 * SUPER_BLOCKS;
        // SAFETY: the caller's promise.
        unsafe {
            let at = scales.add(group / groups * U8K_SUPER_SCALE_BYTES);
            let part = at.add(F16_ROW_BYTES + group % groups * TILE_ROWS);
            let part = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_eight_bytes(part, half)));
            _mm256_mul_ps(load_f16(at, half), part)
        }
    }
}

/// Eight of sixteen f16 as f32.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn load_f16(at: *const u8, half: usize) -> __m256 {
    // SAFETY: the caller's promise.
    _mm256_cvtph_ps(unsafe { _mm_load_si128(at.add(half * HALF_ROWS * 2).cast()) })
}

/// Eight of sixteen bytes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_eight_bytes(at: *const u8, half: usize) -> __m128i {
    // SAFETY: the caller's promise.
    unsafe { _mm_loadl_epi64(at.add(half * HALF_ROWS).cast()) }
}

/// A weight that is not quantized.
trait Element {
    const BYTES: usize;
    /// Eight of them as f32.
    ///
    /// # Safety
    /// `at` must hold eight, on a 16-byte boundary.
    unsafe fn load(at: *const u8) -> __m256;
}

struct F32;
struct F16;
struct BF16;

impl Element for F32 {
    const BYTES: usize = 4;
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(at.cast()) }
    }
}

impl Element for F16 {
    const BYTES: usize = 2;
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { load_f16(at, 0) }
    }
}

impl Element for BF16 {
    const BYTES: usize = 2;
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: the caller's promise. A bf16 is the upper half of an f32.
        let half = unsafe { _mm_load_si128(at.cast()) };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(half)))
    }
}
