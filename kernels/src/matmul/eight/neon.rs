//! Eight outputs in two registers of 128 bits: NEON, whose products of bytes are summed in 16
//! bits, and its dot product instruction, which sums a quad's in 32.
//!
//! `smlal` adds products in 16 bits, each column's apart. A lane gets at most
//! 8 * 15 * 127 = 15,240 from nibbles, 4 * 31 * 127 = 15,748 from 5 bits, 2 * 63 * 127 = 16,002
//! from 6 and 2 * 128 * 127 = 32,512 from bytes.

use std::arch::aarch64::{
    float32x4_t, int8x16_t, int16x8_t, int32x4_t, uint8x16_t, vaddq_f32, vaddq_s32, vandq_u8,
    vcvt_f32_f16, vcvtq_f32_s32, vcvtq_f32_u32, vdupq_n_f32, vdupq_n_s16, vdupq_n_s32, vdupq_n_u8,
    veorq_u8, vfmaq_f32, vget_low_s8, vget_low_s16, vget_low_u16, vld1_s8, vld1_u8, vld1_u16,
    vld1q_f32, vld1q_u8, vmlal_high_s8, vmlal_s8, vmovl_high_s16, vmovl_high_u16, vmovl_s8,
    vmovl_s16, vmovl_u8, vmovl_u16, vmulq_f32, vorrq_u8, vpaddlq_s16, vpaddq_s32,
    vreinterpret_f16_u16, vreinterpretq_f32_u32, vreinterpretq_s8_s32, vreinterpretq_s8_u8,
    vshll_n_u16, vshlq_n_u8, vshrq_n_u8, vst1q_f32,
};
use std::arch::asm;
use std::marker::PhantomData;

use super::arithmetic::Eight;
use super::{Outputs, Panel, Tile};

/// Sets `sums[row][output]` for each row of the panel.
///
/// # Safety
/// The processor must have every feature of [`crate::InstructionSet::Neon`].
#[target_feature(enable = "neon")]
pub(in super::super) unsafe fn multiply_neon(tile: &Tile<'_>, x: &Panel<'_>, sums: &mut Outputs) {
    // SAFETY: the caller's promise.
    unsafe { super::multiply::<Quads<In16Bits>>(tile, x, sums) };
}

/// Sets `sums[row][output]` for each row of the panel.
///
/// # Safety
/// The processor must have every feature of [`crate::InstructionSet::NeonDot`].
#[target_feature(enable = "neon,dotprod")]
pub(in super::super) unsafe fn multiply_neon_dot(
    tile: &Tile<'_>,
    x: &Panel<'_>,
    sums: &mut Outputs,
) {
    // SAFETY: the caller's promise.
    unsafe { super::multiply::<Quads<In32Bits>>(tile, x, sums) };
}

/// Four outputs in each of two registers, whose products `P` sums.
struct Quads<P>(PhantomData<P>);

/// How products of signed bytes are summed.
///
/// # Safety
/// As for [`Eight`].
trait ProductSums {
    /// Sums of four outputs.
    type Products: Copy;
    const BYTE_QUADS: usize;
    unsafe fn none() -> Self::Products;
    unsafe fn add(products: Self::Products, weights: int8x16_t, quad: int8x16_t) -> Self::Products;
    /// Each output's sum in 32 bits.
    unsafe fn widen(products: Self::Products) -> int32x4_t;
}

/// Products in 16 bits, as every processor of the architecture has it.
struct In16Bits;

impl ProductSums for In16Bits {
    /// A lane for each column of two outputs, and of the other two.
    type Products = [int16x8_t; 2];
    const BYTE_QUADS: usize = 2;

    #[inline(always)]
    unsafe fn none() -> [int16x8_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { [vdupq_n_s16(0); 2] }
    }

    #[inline(always)]
    unsafe fn add(
        [low, high]: [int16x8_t; 2],
        weights: int8x16_t,
        quad: int8x16_t,
    ) -> [int16x8_t; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            [
                vmlal_s8(low, vget_low_s8(weights), vget_low_s8(quad)),
                vmlal_high_s8(high, weights, quad),
            ]
        }
    }

    #[inline(always)]
    unsafe fn widen([low, high]: [int16x8_t; 2]) -> int32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)) }
    }
}

/// A quad's products in 32 bits: one instruction, from 2018 on.
struct In32Bits;

impl ProductSums for In32Bits {
    type Products = int32x4_t;
    const BYTE_QUADS: usize = 8;

    #[inline(always)]
    unsafe fn none() -> int32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vdupq_n_s32(0) }
    }

    #[inline(always)]
    unsafe fn add(mut products: int32x4_t, weights: int8x16_t, quad: int8x16_t) -> int32x4_t {
        // SAFETY: the caller's promise. Rust has no stable name for this instruction yet.
        unsafe {
            asm!(
                "sdot {products:v}.4s, {weights:v}.16b, {quad:v}.16b",
                products = inlateout(vreg) products,
                weights = in(vreg) weights,
                quad = in(vreg) quad,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        products
    }

    #[inline(always)]
    unsafe fn widen(products: int32x4_t) -> int32x4_t {
        products
    }
}

/// What both have in common needs NEON.
impl<P: ProductSums> Eight for Quads<P> {
    type Floats = [float32x4_t; 2];
    type Bytes = [uint8x16_t; 2];
    type Whole = [uint8x16_t; 2];
    type Quad = int8x16_t;
    type Products = [P::Products; 2];
    type Sums = [int32x4_t; 2];

    const BYTE_QUADS: usize = P::BYTE_QUADS;

    #[inline(always)]
    unsafe fn splat(value: f32) -> [float32x4_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { [vdupq_n_f32(value); 2] }
    }

    #[inline(always)]
    unsafe fn store(values: [float32x4_t; 2], to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            vst1q_f32(to, values[0]);
            vst1q_f32(to.add(4), values[1]);
        }
    }

    #[inline(always)]
    unsafe fn add(a: [float32x4_t; 2], b: [float32x4_t; 2]) -> [float32x4_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { [vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn mul(a: [float32x4_t; 2], b: [float32x4_t; 2]) -> [float32x4_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { [vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn mul_add(
        a: [float32x4_t; 2],
        b: [float32x4_t; 2],
        sum: [float32x4_t; 2],
    ) -> [float32x4_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { [vfmaq_f32(sum[0], a[0], b[0]), vfmaq_f32(sum[1], a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn f32s(from: *const u8) -> [float32x4_t; 2] {
        let from: *const f32 = from.cast();
        // SAFETY: the caller's promise.
        unsafe { [vld1q_f32(from), vld1q_f32(from.add(4))] }
    }

    #[inline(always)]
    unsafe fn f16s(from: *const u8) -> [float32x4_t; 2] {
        let from: *const u16 = from.cast();
        // SAFETY: the caller's promise.
        unsafe {
            [
                vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from))),
                vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from.add(4)))),
            ]
        }
    }

    #[inline(always)]
    unsafe fn bf16s(from: *const u8) -> [float32x4_t; 2] {
        let from: *const u16 = from.cast();
        // SAFETY: the caller's promise. A bf16 is the upper half of an f32.
        unsafe {
            [
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.add(4)))),
            ]
        }
    }

    #[inline(always)]
    unsafe fn u8s(from: *const u8) -> [float32x4_t; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let wide = vmovl_u8(vld1_u8(from));
            [
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide))),
                vcvtq_f32_u32(vmovl_high_u16(wide)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn i8s(from: *const u8) -> [float32x4_t; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let wide = vmovl_s8(vld1_s8(from.cast()));
            [
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))),
                vcvtq_f32_s32(vmovl_high_s16(wide)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> [uint8x16_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { [vld1q_u8(from), vld1q_u8(from.add(16))] }
    }

    #[inline(always)]
    unsafe fn low(bytes: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { bytes.map(|bytes| vandq_u8(bytes, vdupq_n_u8(0x0f))) }
    }

    #[inline(always)]
    unsafe fn high(bytes: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { bytes.map(|bytes| vshrq_n_u8::<4>(bytes)) }
    }

    #[inline(always)]
    unsafe fn left_4(bytes: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { bytes.map(|bytes| vshlq_n_u8::<4>(bytes)) }
    }

    #[inline(always)]
    unsafe fn right_1(bytes: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { bytes.map(|bytes| vshrq_n_u8::<1>(bytes)) }
    }

    #[inline(always)]
    unsafe fn right_2(bytes: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { bytes.map(|bytes| vshrq_n_u8::<2>(bytes)) }
    }

    #[inline(always)]
    unsafe fn join_5(nibbles: [uint8x16_t; 2], plane: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { join(nibbles, plane, 0x10) }
    }

    #[inline(always)]
    unsafe fn join_6(nibbles: [uint8x16_t; 2], plane: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { join(nibbles, plane, 0x30) }
    }

    /// Signed, so that no offset is left.
    #[inline(always)]
    unsafe fn whole(bytes: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { bytes.map(|bytes| veorq_u8(bytes, vdupq_n_u8(0x80))) }
    }

    #[inline(always)]
    unsafe fn quad(from: *const i8) -> int8x16_t {
        // SAFETY: the caller's promise.
        unsafe { vreinterpretq_s8_s32(vdupq_n_s32(from.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn no_products() -> [P::Products; 2] {
        // SAFETY: the caller's promise.
        unsafe { [P::none(); 2] }
    }

    #[inline(always)]
    unsafe fn add_products(
        products: [P::Products; 2],
        weights: [uint8x16_t; 2],
        quad: int8x16_t,
    ) -> [P::Products; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            [
                P::add(products[0], vreinterpretq_s8_u8(weights[0]), quad),
                P::add(products[1], vreinterpretq_s8_u8(weights[1]), quad),
            ]
        }
    }

    #[inline(always)]
    unsafe fn add_byte_products(
        products: [P::Products; 2],
        weights: [uint8x16_t; 2],
        quad: int8x16_t,
    ) -> [P::Products; 2] {
        // SAFETY: the caller's promise.
        unsafe { Self::add_products(products, weights, quad) }
    }

    #[inline(always)]
    unsafe fn sums(value: i32) -> [int32x4_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { [vdupq_n_s32(value); 2] }
    }

    #[inline(always)]
    unsafe fn byte_sums(_: i32) -> [int32x4_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { Self::sums(0) }
    }

    #[inline(always)]
    unsafe fn sum(sums: [int32x4_t; 2], products: [P::Products; 2]) -> [int32x4_t; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            [
                vaddq_s32(sums[0], P::widen(products[0])),
                vaddq_s32(sums[1], P::widen(products[1])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn floats(sums: [int32x4_t; 2]) -> [float32x4_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { [vcvtq_f32_s32(sums[0]), vcvtq_f32_s32(sums[1])] }
    }
}

/// Nibbles with the bits of `plane` that `mask` has.
#[inline(always)]
unsafe fn join(nibbles: [uint8x16_t; 2], plane: [uint8x16_t; 2], mask: u8) -> [uint8x16_t; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let mask = vdupq_n_u8(mask);
        [
            vorrq_u8(nibbles[0], vandq_u8(plane[0], mask)),
            vorrq_u8(nibbles[1], vandq_u8(plane[1], mask)),
        ]
    }
}
