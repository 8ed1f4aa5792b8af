//! How packed weights lie in memory.
//!
//! Sixteen output rows make a *tile*. Quants of a tile are 64-byte vectors: lane `r` of a vector
//! (4 bytes) belongs to row `r`, and its bytes are four neighbouring columns, a *quad*; one
//! `vpdpbusd` multiplies it with four activations. Scales lie apart, sixteen rows side by side.
//! All forms are exact: a weight is what GGML's dequantization gives, up to one f32 rounding.
//!
//! Weights of 5 and 6 bits are nibbles, and *planes* with the bits above them. A row alone reads
//! every weight once, so its time is that of the bytes: for 32 columns of a tile 320 and 32 of
//! scales at 5 bits, 384 and 36 at 6, where whole bytes would be 512 and as many of scales (35 and
//! 23 % less to read). Taking a register of weights together costs five or six operations for
//! every two quads, once for up to eight rows; the products of whole bytes, which AVX2 can only
//! take by sign and magnitude and widen one by one, cost it more. The integers are the same, and
//! with them every result.

use crate::block::{BLOCK, SUPER_BLOCK};

/// Output rows of a tile, the 32-bit lanes of a 512-bit register.
pub(crate) const TILE_ROWS: usize = 16;
/// Bytes of a vector: four columns of each row.
pub(crate) const VECTOR_BYTES: usize = 64;
/// Columns of a vector.
pub(crate) const QUAD: usize = 4;

/// Quads of 32 columns.
pub(crate) const BLOCK_QUADS: usize = BLOCK / QUAD;
/// Vectors of 32 columns of nibbles: each has one quad in the low and one in the high half.
pub(crate) const NIBBLE_VECTORS: usize = BLOCK_QUADS / 2;
/// The same with one plane, of 1 bit.
pub(crate) const U5_BLOCK_VECTORS: usize = NIBBLE_VECTORS + 1;
/// The same with two planes, of 2 bits for each half of the columns.
pub(crate) const U6_BLOCK_VECTORS: usize = NIBBLE_VECTORS + 2;

/// What is added to signed quants so that they can be stored unsigned.
pub(crate) const U8_OFFSET: i32 = 128;

/// One form of packed weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Nibbles; w = d*u + m. Four vectors a group of 32 columns: vector `v` has quad `v` in its
    /// low nibbles and quad `v + 4` in its high ones. Scales a group: 16 f16 `d`, 16 f16 `m`.
    /// Holds Q4_1, and Q4_0 with m = -8d.
    U4,
    /// Nibbles as in `U4`; w = (d*s)*u - (d_min*n). Scales a super-block of 256 columns:
    /// 16 f16 `d`, 16 f16 `d_min`, then for each of eight groups 16 u8 `s`, 16 u8 `n`. Holds Q4_K.
    U4K,
    /// Nibbles as in `U4` and then a plane; w = d*(u - 16). A byte of the plane has the fifth bits
    /// of one lane's byte in each quad: of quads 0 to 3 from its bit 4 on, of 4 to 7 from bit 0 on.
    /// 16 f16 `d` a group of 32 columns. Holds Q5_0.
    U5,
    /// Nibbles as in `U4` and then two planes; w = (d*s)*(u - 32). A byte of the first plane has
    /// the upper two bits of quads 0 and 1 from its bit 4 on, of 2 and 3 from bit 0 on; the second
    /// plane has those of quads 4 to 7. Scales a super-block of 256 columns: 16 f16 `d`, then for
    /// each of sixteen groups of 16 columns 16 i8 `s`. Holds Q6_K.
    U6K,
    /// Bytes; w = d*(u - 128). Eight vectors a group of 32 columns, 16 f16 `d` a group.
    /// Holds Q8_0.
    U8,
    /// f32, column by column: sixteen rows of column 0, then of column 1, and so on.
    F32,
    /// f16, ordered as `F32`.
    F16,
    /// bf16, ordered as `F32`.
    BF16,
}

impl Layout {
    /// Whether products are of integers; else they are of the activations' values.
    pub fn is_quantized(self) -> bool {
        !matches!(self, Layout::F32 | Layout::F16 | Layout::BF16)
    }

    /// Bytes of one tile's quants for `cols` columns.
    pub fn quant_bytes(self, cols: usize) -> usize {
        match self {
            Layout::U4 | Layout::U4K => cols * TILE_ROWS / 2,
            Layout::U5 => cols / BLOCK * U5_BLOCK_VECTORS * VECTOR_BYTES,
            Layout::U6K => cols / BLOCK * U6_BLOCK_VECTORS * VECTOR_BYTES,
            Layout::U8 => cols * TILE_ROWS,
            Layout::F32 => cols * TILE_ROWS * 4,
            Layout::F16 | Layout::BF16 => cols * TILE_ROWS * 2,
        }
    }

    /// Bytes of one tile's scales for `cols` columns.
    pub fn scale_bytes(self, cols: usize) -> usize {
        match self {
            Layout::U4 => cols / BLOCK * U4_GROUP_SCALE_BYTES,
            Layout::U4K => cols / SUPER_BLOCK * U4K_SUPER_SCALE_BYTES,
            Layout::U5 | Layout::U8 => cols / BLOCK * U8_GROUP_SCALE_BYTES,
            Layout::U6K => cols / SUPER_BLOCK * U6K_SUPER_SCALE_BYTES,
            Layout::F32 | Layout::F16 | Layout::BF16 => 0,
        }
    }
}

/// Sixteen `d` and sixteen `m`.
pub(crate) const U4_GROUP_SCALE_BYTES: usize = 64;
/// Sixteen `d`, sixteen `d_min`, eight times sixteen `s` and `n`.
pub(crate) const U4K_SUPER_SCALE_BYTES: usize = 64 + 8 * 32;
/// Sixteen `d`, for five bits as for eight.
pub(crate) const U8_GROUP_SCALE_BYTES: usize = 32;
/// Sixteen `d`, sixteen times sixteen `s`.
pub(crate) const U6K_SUPER_SCALE_BYTES: usize = 32 + 16 * 16;

/// Sixteen f16, the bytes of one `d` or `m` vector.
pub(crate) const F16_ROW_BYTES: usize = 32;

/// A cache line; tiles start on one, so a vector never straddles two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [u8; VECTOR_BYTES]);

/// Bytes that start on a cache line.
pub(crate) struct AlignedBytes {
    lines: Vec<Line>,
    len: usize,
}

impl AlignedBytes {
    pub fn zeroed(len: usize) -> AlignedBytes {
        AlignedBytes {
            lines: vec![Line([0; VECTOR_BYTES]); len.div_ceil(VECTOR_BYTES)],
            len,
        }
    }

    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `Line` is 64 bytes without padding, and `len` is at most what was allocated.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
