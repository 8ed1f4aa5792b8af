//! Eight outputs in a register of 256 bits: AVX2, whose products of bytes are summed in 16 bits,
//! and AVX-VNNI, which sums a quad's in 32.
//!
//! `vpmaddubsw` adds two products of unsigned and signed bytes in 16 bits, and saturates. A lane
//! gets at most 8 * 2 * 15 * 127 = 30,480 from nibbles, 4 * 2 * 31 * 127 = 31,496 from 5 bits and
//! 2 * 2 * 63 * 127 = 32,004 from 6. For bytes the sign of the weight is moved to the activation,
//! which leaves 2 * 128 * 127 = 32,512.

use std::arch::x86_64::{
    __m256, __m256i, _mm_load_si128, _mm_loadl_epi64, _mm256_abs_epi8, _mm256_add_epi16,
    _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_castsi256_ps, _mm256_cvtepi8_epi32,
    _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_cvtepu16_epi32, _mm256_cvtph_ps,
    _mm256_dpbusd_avx_epi32, _mm256_fmadd_ps, _mm256_load_si256, _mm256_loadu_ps,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_or_si256, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256, _mm256_sign_epi8,
    _mm256_slli_epi16, _mm256_slli_epi32, _mm256_srli_epi16, _mm256_storeu_ps, _mm256_xor_si256,
};
use std::marker::PhantomData;

use super::arithmetic::Eight;
use super::{Outputs, Panel, Tile};

/// Sets `sums[row][output]` for each row of the panel.
///
/// # Safety
/// The processor must have every feature of [`crate::InstructionSet::Avx2`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) unsafe fn multiply_avx2(tile: &Tile<'_>, x: &Panel<'_>, sums: &mut Outputs) {
    // SAFETY: the caller's promise.
    unsafe { super::multiply::<Ymm<In16Bits>>(tile, x, sums) };
}

/// Sets `sums[row][output]` for each row of the panel.
///
/// # Safety
/// The processor must have every feature of [`crate::InstructionSet::AvxVnni`].
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub(in super::super) unsafe fn multiply_avx_vnni(
    tile: &Tile<'_>,
    x: &Panel<'_>,
    sums: &mut Outputs,
) {
    // SAFETY: the caller's promise.
    unsafe { super::multiply::<Ymm<In32Bits>>(tile, x, sums) };
}

/// Eight outputs in one register, whose products `P` sums.
struct Ymm<P>(PhantomData<P>);

/// How products of bytes are summed.
///
/// # Safety
/// As for [`Eight`].
trait ProductSums {
    type Whole: Copy;
    const BYTE_QUADS: usize;
    unsafe fn whole(bytes: __m256i) -> Self::Whole;
    unsafe fn add(products: __m256i, weights: __m256i, quad: __m256i) -> __m256i;
    unsafe fn add_bytes(products: __m256i, weights: Self::Whole, quad: __m256i) -> __m256i;
    /// Whether the 128 of whole bytes is among their products.
    const OFFSET: bool;
    /// Each output's sum in 32 bits.
    unsafe fn widen(products: __m256i) -> __m256i;
}

/// Pairs of products in 16 bits, as AVX2 has it.
struct In16Bits;

impl ProductSums for In16Bits {
    /// Magnitudes, and the signed weights.
    type Whole = (__m256i, __m256i);
    const BYTE_QUADS: usize = 1;
    const OFFSET: bool = false;

    #[inline(always)]
    unsafe fn whole(bytes: __m256i) -> (__m256i, __m256i) {
        // SAFETY: the caller's promise.
        unsafe {
            let signed = _mm256_xor_si256(bytes, _mm256_set1_epi8(i8::MIN));
            (_mm256_abs_epi8(signed), signed)
        }
    }

    #[inline(always)]
    unsafe fn add(products: __m256i, weights: __m256i, quad: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_add_epi16(products, _mm256_maddubs_epi16(weights, quad)) }
    }

    #[inline(always)]
    unsafe fn add_bytes(
        products: __m256i,
        (magnitude, signed): (__m256i, __m256i),
        quad: __m256i,
    ) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { Self::add(products, magnitude, _mm256_sign_epi8(quad, signed)) }
    }

    #[inline(always)]
    unsafe fn widen(products: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_madd_epi16(products, _mm256_set1_epi16(1)) }
    }
}

/// A quad's products in 32 bits, as AVX-VNNI has it: one instruction, of unsigned weights.
struct In32Bits;

impl ProductSums for In32Bits {
    type Whole = __m256i;
    const BYTE_QUADS: usize = 8;
    const OFFSET: bool = true;

    #[inline(always)]
    unsafe fn whole(bytes: __m256i) -> __m256i {
        bytes
    }

    #[inline(always)]
    unsafe fn add(products: __m256i, weights: __m256i, quad: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_dpbusd_avx_epi32(products, weights, quad) }
    }

    #[inline(always)]
    unsafe fn add_bytes(products: __m256i, weights: __m256i, quad: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { Self::add(products, weights, quad) }
    }

    #[inline(always)]
    unsafe fn widen(products: __m256i) -> __m256i {
        products
    }
}

/// What both have in common needs AVX2, FMA and F16C.
impl<P: ProductSums> Eight for Ymm<P> {
    type Floats = __m256;
    type Bytes = __m256i;
    type Whole = P::Whole;
    type Quad = __m256i;
    type Products = __m256i;
    type Sums = __m256i;

    const BYTE_QUADS: usize = P::BYTE_QUADS;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn store(values: __m256, to: *mut f32) {
        // SAFETY: the caller's promise; the store needs no alignment.
        unsafe { _mm256_storeu_ps(to, values) };
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, sum: __m256) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_fmadd_ps(a, b, sum) }
    }

    #[inline(always)]
    unsafe fn f32s(from: *const u8) -> __m256 {
        // SAFETY: the caller's promise; the load needs no alignment.
        unsafe { _mm256_loadu_ps(from.cast()) }
    }

    #[inline(always)]
    unsafe fn f16s(from: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtph_ps(_mm_load_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn bf16s(from: *const u8) -> __m256 {
        // SAFETY: the caller's promise. A bf16 is the upper half of an f32.
        unsafe {
            let half = _mm256_cvtepu16_epi32(_mm_load_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(half))
        }
    }

    #[inline(always)]
    unsafe fn u8s(from: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn i8s(from: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> __m256i {
        // SAFETY: the caller's promise; a half of a vector lies on a 32-byte boundary.
        unsafe { _mm256_load_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn low(bytes: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_and_si256(bytes, _mm256_set1_epi8(0x0f)) }
    }

    #[inline(always)]
    unsafe fn high(bytes: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { Self::low(_mm256_srli_epi16::<4>(bytes)) }
    }

    // A shift of 16 bits moves bits from one byte to the other, but not into the nibble that
    // counts.
    #[inline(always)]
    unsafe fn left_4(bytes: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_slli_epi16::<4>(bytes) }
    }

    #[inline(always)]
    unsafe fn right_1(bytes: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_srli_epi16::<1>(bytes) }
    }

    #[inline(always)]
    unsafe fn right_2(bytes: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_srli_epi16::<2>(bytes) }
    }

    #[inline(always)]
    unsafe fn join_5(nibbles: __m256i, plane: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_or_si256(nibbles, _mm256_and_si256(plane, _mm256_set1_epi8(0x10))) }
    }

    #[inline(always)]
    unsafe fn join_6(nibbles: __m256i, plane: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_or_si256(nibbles, _mm256_and_si256(plane, _mm256_set1_epi8(0x30))) }
    }

    #[inline(always)]
    unsafe fn whole(bytes: __m256i) -> P::Whole {
        // SAFETY: the caller's promise.
        unsafe { P::whole(bytes) }
    }

    #[inline(always)]
    unsafe fn quad(from: *const i8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn no_products() -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn add_products(products: __m256i, weights: __m256i, quad: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { P::add(products, weights, quad) }
    }

    #[inline(always)]
    unsafe fn add_byte_products(products: __m256i, weights: P::Whole, quad: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { P::add_bytes(products, weights, quad) }
    }

    #[inline(always)]
    unsafe fn sums(value: i32) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_set1_epi32(value) }
    }

    #[inline(always)]
    unsafe fn byte_sums(offset: i32) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { Self::sums(if P::OFFSET { offset } else { 0 }) }
    }

    #[inline(always)]
    unsafe fn sum(sums: __m256i, products: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_add_epi32(sums, P::widen(products)) }
    }

    #[inline(always)]
    unsafe fn floats(sums: __m256i) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtepi32_ps(sums) }
    }
}
