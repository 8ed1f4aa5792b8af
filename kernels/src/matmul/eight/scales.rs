//! How scales, and weights that are not quantized, are stored: eight of a tile's sixteen.

use super::HALF_ROWS;
use super::arithmetic::Eight;
use crate::block::{BLOCK, SUPER_BLOCK};
use crate::layout::{
    F16_ROW_BYTES, TILE_ROWS, U4_GROUP_SCALE_BYTES, U4K_SUPER_SCALE_BYTES, U6K_SUPER_SCALE_BYTES,
    U8_GROUP_SCALE_BYTES,
};

/// Blocks of 32 columns in a super-block.
const SUPER_BLOCKS: usize = SUPER_BLOCK / BLOCK;

/// How scale and minimum of eight outputs are stored.
pub(super) trait NibbleScales<E: Eight> {
    /// Those of the `block`th 32 columns.
    ///
    /// # Safety
    /// `scales` must hold them; as for [`Eight`].
    unsafe fn load(scales: *const u8, block: usize, half: usize) -> (E::Floats, E::Floats);
}

/// f16 scale and minimum for each block.
pub(super) struct F16Pairs;

impl<E: Eight> NibbleScales<E> for F16Pairs {
    #[inline(always)]
    unsafe fn load(scales: *const u8, block: usize, half: usize) -> (E::Floats, E::Floats) {
        // SAFETY: the caller's promise.
        unsafe {
            let at = scales.add(block * U4_GROUP_SCALE_BYTES + half * HALF_ROWS * 2);
            (E::f16s(at), E::f16s(at.add(F16_ROW_BYTES)))
        }
    }
}

/// f16 scale and minimum for each super-block, times u8 for each block.
pub(super) struct SuperPairs;

impl<E: Eight> NibbleScales<E> for SuperPairs {
    #[inline(always)]
    unsafe fn load(scales: *const u8, block: usize, half: usize) -> (E::Floats, E::Floats) {
        // SAFETY: the caller's promise.
        unsafe {
            let at = scales.add(block / SUPER_BLOCKS * U4K_SUPER_SCALE_BYTES);
            let pair = at.add(half * HALF_ROWS * 2);
            let (scale, min) = (E::f16s(pair), E::f16s(pair.add(F16_ROW_BYTES)));
            let part = block % SUPER_BLOCKS * 2 * TILE_ROWS + half * HALF_ROWS;
            let part = at.add(2 * F16_ROW_BYTES + part);
            let min = E::mul(min, E::u8s(part.add(TILE_ROWS)));
            (E::mul(scale, E::u8s(part)), E::mul(min, E::splat(-1.0)))
        }
    }
}

/// How scales of eight outputs are stored.
pub(super) trait Scales<E: Eight> {
    /// Those of the `group`th group.
    ///
    /// # Safety
    /// `scales` must hold them; as for [`Eight`].
    unsafe fn load(scales: *const u8, group: usize, half: usize) -> E::Floats;
}

/// An f16 for each block of 32.
pub(super) struct F16Scales;

impl<E: Eight> Scales<E> for F16Scales {
    #[inline(always)]
    unsafe fn load(scales: *const u8, group: usize, half: usize) -> E::Floats {
        // SAFETY: the caller's promise.
        unsafe { E::f16s(scales.add(group * U8_GROUP_SCALE_BYTES + half * HALF_ROWS * 2)) }
    }
}

/// An f16 for each super-block times an i8 for each group of 16.
pub(super) struct SuperScales;

impl<E: Eight> Scales<E> for SuperScales {
    #[inline(always)]
    unsafe fn load(scales: *const u8, group: usize, half: usize) -> E::Floats {
        let groups = 2 * SUPER_BLOCKS;
        // SAFETY: the caller's promise.
        unsafe {
            let at = scales.add(group / groups * U6K_SUPER_SCALE_BYTES);
            let part = F16_ROW_BYTES + group % groups * TILE_ROWS + half * HALF_ROWS;
            let scale = E::f16s(at.add(half * HALF_ROWS * 2));
            E::mul(scale, E::i8s(at.add(part)))
        }
    }
}

/// A weight that is not quantized.
pub(super) trait Element<E: Eight> {
    const BYTES: usize;
    /// Eight of them as f32.
    ///
    /// # Safety
    /// `from` must hold eight; as for [`Eight`].
    unsafe fn load(from: *const u8) -> E::Floats;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct BF16;

impl<E: Eight> Element<E> for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load(from: *const u8) -> E::Floats {
        // SAFETY: the caller's promise.
        unsafe { E::f32s(from) }
    }
}

impl<E: Eight> Element<E> for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load(from: *const u8) -> E::Floats {
        // SAFETY: the caller's promise.
        unsafe { E::f16s(from) }
    }
}

impl<E: Eight> Element<E> for BF16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load(from: *const u8) -> E::Floats {
        // SAFETY: the caller's promise.
        unsafe { E::bf16s(from) }
    }
}
