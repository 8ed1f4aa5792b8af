//! The multiplication with AVX-512 VNNI: sixteen outputs a register, `vpdpbusd` on quads.
//!
//! A tile's vectors are loaded (and nibbles unpacked) once for up to eight rows of activations,
//! whose quads are broadcast from memory.

use std::arch::x86_64::{
    __m512, __m512i, _mm_load_si128, _mm256_load_si256, _mm256_loadu_si256, _mm512_add_epi32,
    _mm512_add_ps, _mm512_and_si512, _mm512_castsi512_ps, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps,
    _mm512_cvtepu8_epi32, _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_dpbusd_epi32,
    _mm512_fmadd_ps, _mm512_load_si512, _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_epi8,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi16,
    _mm512_slli_epi32, _mm512_srli_epi16, _mm512_storeu_ps, _mm512_sub_ps,
    _mm512_ternarylogic_epi32,
};

use super::prefetch::prefetch;
use super::{Outputs, Tile};
use crate::activations::Panel;
use crate::block::{BLOCK, SUPER_BLOCK};
use crate::layout::{
    BLOCK_QUADS, F16_ROW_BYTES, Layout, NIBBLE_VECTORS, QUAD, TILE_ROWS, U4_GROUP_SCALE_BYTES,
    U4K_SUPER_SCALE_BYTES, U5_BLOCK_VECTORS, U6_BLOCK_VECTORS, U6K_SUPER_SCALE_BYTES,
    U8_GROUP_SCALE_BYTES, VECTOR_BYTES,
};

/// Blocks of 32 columns in a super-block.
const SUPER_BLOCKS: usize = SUPER_BLOCK / BLOCK;

/// Sets `sums[row][output]` for each row of the panel.
///
/// # Safety
/// The processor must have every feature of [`crate::InstructionSet::Avx512`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn multiply(tile: &Tile<'_>, x: &Panel<'_>, sums: &mut Outputs) {
    tile.check(x);
    // SAFETY: the check gives tile and panel the lengths that the loops read, and the features are
    // the caller's promise.
    unsafe {
        match x.rows.count {
            1 => multiply_rows::<1>(tile, x, sums),
            2 => multiply_rows::<2>(tile, x, sums),
            4 => multiply_rows::<4>(tile, x, sums),
            8 => multiply_rows::<8>(tile, x, sums),
            count => unreachable!("panels have 1, 2, 4 or 8 rows, not {count}"),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn multiply_rows<const M: usize>(tile: &Tile<'_>, x: &Panel<'_>, sums: &mut Outputs) {
    // SAFETY: as the caller.
    let totals = unsafe {
        match tile.layout {
            Layout::U4 => nibbles::<F16Pairs, M>(tile, x),
            Layout::U4K => nibbles::<SuperPairs, M>(tile, x),
            Layout::U5 => planes::<F16Scales, M, 5>(tile, x),
            Layout::U6K => planes::<SuperScales, M, 6>(tile, x),
            Layout::U8 => bytes::<M>(tile, x),
            Layout::F32 => dense::<F32, M>(tile, x),
            Layout::F16 => dense::<F16, M>(tile, x),
            Layout::BF16 => dense::<BF16, M>(tile, x),
        }
    };
    for (sums, total) in sums.iter_mut().zip(totals) {
        // SAFETY: `sums` is an array of sixteen; the store needs no alignment.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), total) };
    }
}

/// Four activations in every lane.
///
/// # Safety
/// `quants` has four elements left.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn broadcast_quad(quants: *const i8) -> __m512i {
    // SAFETY: four elements are left; the read needs no alignment.
    _mm512_set1_epi32(unsafe { quants.cast::<i32>().read_unaligned() })
}

/// Layouts `U4` and `U4K`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn nibbles<S: NibbleScales, const M: usize>(tile: &Tile<'_>, x: &Panel<'_>) -> [__m512; M] {
    let low_bits = _mm512_set1_epi8(0x0f);
    let mut weights = tile.quants.as_ptr();
    let (mut quants, mut at) = (x.quants.as_ptr(), 0);
    let mut totals = [_mm512_setzero_ps(); M];
    for block in 0..x.blocks {
        prefetch::<{ BLOCK_QUADS / 2 }>(weights);
        let mut dots = [_mm512_setzero_si512(); M];
        let mut high_dots = [_mm512_setzero_si512(); M];
        // SAFETY: the tile has `blocks` times four vectors and their scales, the panel `blocks`
        // times M times 32 quants, a scale and a sum.
        unsafe {
            for quad in 0..BLOCK_QUADS / 2 {
                let packed = _mm512_load_si512(weights.cast());
                weights = weights.add(VECTOR_BYTES);
                let low = _mm512_and_si512(packed, low_bits);
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(packed), low_bits);
                for m in 0..M {
                    let quants = quants.add(m * BLOCK + quad * QUAD);
                    dots[m] = _mm512_dpbusd_epi32(dots[m], low, broadcast_quad(quants));
                    // Few rows leave registers for a second chain of sums, which hides latency;
                    // integers add up to the same in any order.
                    let chain = if M <= 4 {
                        &mut high_dots[m]
                    } else {
                        &mut dots[m]
                    };
                    let quants = quants.add(BLOCK / 2);
                    *chain = _mm512_dpbusd_epi32(*chain, high, broadcast_quad(quants));
                }
            }
            quants = quants.add(M * BLOCK);
            let (scale, min) = S::load(tile.scales.as_ptr(), block);
            for m in 0..M {
                let dot = if M <= 4 {
                    _mm512_add_epi32(dots[m], high_dots[m])
                } else {
                    dots[m]
                };
                let x_scale = _mm512_set1_ps(*x.scales.as_ptr().add(at));
                let dot = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), x_scale);
                totals[m] = _mm512_fmadd_ps(scale, dot, totals[m]);
                let x_sum = _mm512_set1_ps(*x.sums.as_ptr().add(at));
                totals[m] = _mm512_fmadd_ps(min, x_sum, totals[m]);
                at += 1;
            }
        }
    }
    totals
}

/// Layouts `U5` and `U6K`: nibbles, and planes with the 1 or 2 bits above them. The second has two
/// groups of 16 columns in a block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn planes<S: Scales, const M: usize, const BITS: usize>(
    tile: &Tile<'_>,
    x: &Panel<'_>,
) -> [__m512; M] {
    let vectors = if BITS == 5 {
        U5_BLOCK_VECTORS
    } else {
        U6_BLOCK_VECTORS
    };
    // The offset of bytes is 128; those of five and six bits are an eighth and a quarter of it.
    let (mut offsets, shift) = if BITS == 5 {
        (x.offsets.as_ptr(), 3)
    } else {
        (x.half_offsets.as_ptr(), 2)
    };
    let (mut weights, mut quants) = (tile.quants.as_ptr(), x.quants.as_ptr());
    let mut totals = [_mm512_setzero_ps(); M];
    for block in 0..x.blocks {
        prefetch::<U6_BLOCK_VECTORS>(weights);
        for group in 0..BITS - 4 {
            // SAFETY: the tile has so many vectors a block and the scales of each group, the panel
            // M times 32 quants and a scale a block, and M offsets a group.
            unsafe {
                let mut dots = [_mm512_setzero_si512(); M];
                for (m, dot) in dots.iter_mut().enumerate() {
                    *dot = _mm512_set1_epi32(*offsets.add(m) >> shift);
                }
                offsets = offsets.add(M);
                let runs = if group == 0 {
                    [
                        run::<M, BITS, 0>(weights, quants, dots),
                        run::<M, BITS, 1>(weights, quants, [_mm512_setzero_si512(); M]),
                    ]
                } else {
                    [
                        run::<M, BITS, 2>(weights, quants, dots),
                        run::<M, BITS, 3>(weights, quants, [_mm512_setzero_si512(); M]),
                    ]
                };
                let scale = S::load(tile.scales.as_ptr(), block * (BITS - 4) + group);
                for m in 0..M {
                    let x_scale = _mm512_set1_ps(*x.scales.as_ptr().add(block * M + m));
                    let dot = _mm512_add_epi32(runs[0][m], runs[1][m]);
                    let dot = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), x_scale);
                    totals[m] = _mm512_fmadd_ps(scale, dot, totals[m]);
                }
            }
        }
        // SAFETY: as above; after the last block this is the end.
        unsafe {
            weights = weights.add(vectors * VECTOR_BYTES);
            quants = quants.add(M * BLOCK);
        }
    }
    totals
}

/// Adds the products of one run of quads, whose upper bits are a nibble of a plane.
///
/// # Safety
/// The block's vectors and the quants of M rows must be there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn run<const M: usize, const BITS: usize, const RUN: usize>(
    weights: *const u8,
    quants: *const i8,
    mut dots: [__m512i; M],
) -> [__m512i; M] {
    let low_bits = _mm512_set1_epi8(0x0f);
    let upper_bits = _mm512_set1_epi8(if BITS == 5 { 0x10 } else { 0x30 });
    let quads = NIBBLE_VECTORS / (BITS - 4);
    // SAFETY: the caller's promise.
    unsafe {
        let plane = weights.add((NIBBLE_VECTORS + RUN / 2) * VECTOR_BYTES);
        let mut plane = _mm512_load_si512(plane.cast());
        if RUN % 2 == 1 {
            plane = _mm512_slli_epi16::<4>(plane);
        }
        for quad in RUN * quads..(RUN + 1) * quads {
            let packed = weights.add(quad % NIBBLE_VECTORS * VECTOR_BYTES);
            let mut nibbles = _mm512_load_si512(packed.cast());
            if RUN * quads >= NIBBLE_VECTORS {
                nibbles = _mm512_srli_epi16::<4>(nibbles);
            }
            nibbles = _mm512_and_si512(nibbles, low_bits);
            // nibbles | (plane & upper_bits)
            let whole = _mm512_ternarylogic_epi32::<0xf8>(nibbles, plane, upper_bits);
            plane = if BITS == 5 {
                _mm512_srli_epi16::<1>(plane)
            } else {
                _mm512_srli_epi16::<2>(plane)
            };
            for (m, dot) in dots.iter_mut().enumerate() {
                let x = broadcast_quad(quants.add(m * BLOCK + quad * QUAD));
                *dot = _mm512_dpbusd_epi32(*dot, whole, x);
            }
        }
    }
    dots
}

/// Layout `U8`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn bytes<const M: usize>(tile: &Tile<'_>, x: &Panel<'_>) -> [__m512; M] {
    let (mut weights, mut quants) = (tile.quants.as_ptr(), x.quants.as_ptr());
    let mut totals = [_mm512_setzero_ps(); M];
    for block in 0..x.blocks {
        prefetch::<BLOCK_QUADS>(weights);
        // SAFETY: the tile has eight vectors and a scale a block, the panel M times 32 quants, a
        // scale and an offset.
        unsafe {
            let offsets = x.offsets.as_ptr().add(block * M);
            let mut dots: [__m512i; M] =
                std::array::from_fn(|m| _mm512_set1_epi32(*offsets.add(m)));
            for quad in 0..BLOCK_QUADS {
                let vector = _mm512_load_si512(weights.cast());
                weights = weights.add(VECTOR_BYTES);
                for (m, dot) in dots.iter_mut().enumerate() {
                    let x = broadcast_quad(quants.add(m * BLOCK + quad * QUAD));
                    *dot = _mm512_dpbusd_epi32(*dot, vector, x);
                }
            }
            let scale = F16Scales::load(tile.scales.as_ptr(), block);
            for m in 0..M {
                let x_scale = _mm512_set1_ps(*x.scales.as_ptr().add(block * M + m));
                let dot = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[m]), x_scale);
                totals[m] = _mm512_fmadd_ps(scale, dot, totals[m]);
            }
            // After the last block this is the end.
            quants = quants.add(M * BLOCK);
        }
    }
    totals
}

/// Weights that are not quantized. Even and odd columns are summed apart, for every number of
/// rows, so that a row's result does not depend on it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn dense<E: Element, const M: usize>(tile: &Tile<'_>, x: &Panel<'_>) -> [__m512; M] {
    let mut even = [_mm512_setzero_ps(); M];
    let mut odd = [_mm512_setzero_ps(); M];
    let weights = tile.quants.as_ptr();
    let values: [*const f32; M] =
        std::array::from_fn(|m| x.values[m * x.blocks * BLOCK..].as_ptr());
    for col in 0..x.cols {
        let sums = if col % 2 == 0 { &mut even } else { &mut odd };
        // SAFETY: the tile has sixteen weights, each row a value for every column.
        unsafe {
            let at = weights.add(col * TILE_ROWS * E::BYTES);
            prefetch::<1>(at);
            let weight = E::load(at);
            for (sum, values) in sums.iter_mut().zip(values) {
                *sum = _mm512_fmadd_ps(weight, _mm512_set1_ps(*values.add(col)), *sum);
            }
        }
    }
    std::array::from_fn(|m| _mm512_add_ps(even[m], odd[m]))
}

/// How scale and minimum of sixteen outputs are stored.
trait NibbleScales {
    /// Those of the `block`th 32 columns.
    ///
    /// # Safety
    /// `scales` must hold them, on a 32-byte boundary.
    unsafe fn load(scales: *const u8, block: usize) -> (__m512, __m512);
}

/// f16 scale and minimum for each block.
struct F16Pairs;

impl NibbleScales for F16Pairs {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn load(scales: *const u8, block: usize) -> (__m512, __m512) {
        // SAFETY: the caller's promise.
        unsafe {
            let at = scales.add(block * U4_GROUP_SCALE_BYTES);
            (load_f16(at), load_f16(at.add(F16_ROW_BYTES)))
        }
    }
}

/// f16 scale and minimum for each super-block, times u8 for each block.
struct SuperPairs;

impl NibbleScales for SuperPairs {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn load(scales: *const u8, block: usize) -> (__m512, __m512) {
        // SAFETY: the caller's promise.
        unsafe {
            let at = scales.add(block / SUPER_BLOCKS * U4K_SUPER_SCALE_BYTES);
            let (scale, min) = (load_f16(at), load_f16(at.add(F16_ROW_BYTES)));
            let at = at.add(2 * F16_ROW_BYTES + block % SUPER_BLOCKS * 2 * TILE_ROWS);
            let part =
                |at: *const u8| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_load_si128(at.cast())));
            let min = _mm512_mul_ps(min, part(at.add(TILE_ROWS)));
            (
                _mm512_mul_ps(scale, part(at)),
                _mm512_sub_ps(_mm512_setzero_ps(), min),
            )
        }
    }
}

/// How scales of sixteen outputs are stored.
trait Scales {
    /// Those of the `group`th group.
    ///
    /// # Safety
    /// `scales` must hold them, on a 16-byte boundary.
    unsafe fn load(scales: *const u8, group: usize) -> __m512;
}

/// An f16 for each block of 32.
struct F16Scales;

impl Scales for F16Scales {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn load(scales: *const u8, group: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { load_f16(scales.add(group * U8_GROUP_SCALE_BYTES)) }
    }
}

/// An f16 for each super-block times an i8 for each group of 16.
struct SuperScales;

impl Scales for SuperScales {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn load(scales: *const u8, group: usize) -> __m512 {
        let groups = 2 * SUPER_BLOCKS;
        // SAFETY: the caller's promise.
        unsafe {
            let at = scales.add(group / groups * U6K_SUPER_SCALE_BYTES);
            let part = _mm_load_si128(at.add(F16_ROW_BYTES + group % groups * TILE_ROWS).cast());
            _mm512_mul_ps(load_f16(at), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(part)))
        }
    }
}

/// Sixteen f16 on a 32-byte boundary as f32.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_f16(at: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    _mm512_cvtph_ps(unsafe { _mm256_load_si256(at.cast()) })
}

/// A weight that is not quantized.
trait Element {
    const BYTES: usize;
    /// Sixteen of them as f32.
    ///
    /// # Safety
    /// `at` must hold sixteen.
    unsafe fn load(at: *const u8) -> __m512;
}

struct F32;
struct F16;
struct BF16;

impl Element for F32 {
    const BYTES: usize = 4;
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(at.cast()) }
    }
}

impl Element for F16 {
    const BYTES: usize = 2;
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { load_f16(at) }
    }
}

impl Element for BF16 {
    const BYTES: usize = 2;
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: the caller's promise. A bf16 is the upper half of an f32.
        let half = unsafe { _mm256_loadu_si256(at.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
    }
}
