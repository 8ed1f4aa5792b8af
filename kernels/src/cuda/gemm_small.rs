//! 2 to 64 tokens times packed weights (`gemm_small.cu`; the reference is
//! [`super::product::reference`]).

use super::gemv::{GEMV, WARPS, board_bytes};
use super::product::Family;

/// The kernels for up to 8 tokens: those for one, with a tile of tokens.
pub const GEMM_8: Family = Family {
    kernels: [
        "gemm8_nibble_affine",
        "gemm8_nibble_symmetric",
        "gemm8_byte_symmetric",
        "gemm8_byte_half_groups",
    ],
    tokens_max: 8,
    unit_tokens: 8,
    stages: [5, 5, 3, 3],
    stage_token_rows: 8,
    ..GEMV
};

/// The kernels for up to 16 tokens.
pub const GEMM_16: Family = Family {
    kernels: [
        "gemm16_nibble_affine",
        "gemm16_nibble_symmetric",
        "gemm16_byte_symmetric",
        "gemm16_byte_half_groups",
    ],
    tokens_max: 16,
    unit_tokens: 16,
    board_bytes: board_bytes(2),
    stages: [3, 3, 2, 2],
    stage_token_rows: 16,
    ..GEMV
};

/// Bytes in which warps that share outputs meet: two of four, with 128 outputs of each token.
const fn gathered_bytes(tokens: usize) -> usize {
    2 * 128 * tokens * 4
}

/// Bytes in which eight warps turn the outputs of eight tokens each.
pub(super) const TURNED_BYTES: usize = WARPS * 8 * (64 + 4) * 4;

/// The kernels for up to 32 tokens: warps share the tokens.
pub const GEMM_32: Family = Family {
    kernels: [
        "gemm32_nibble_affine",
        "gemm32_nibble_symmetric",
        "gemm32_byte_symmetric",
        "gemm32_byte_half_groups",
    ],
    tokens_max: 32,
    unit_row_blocks: 2,
    unit_tokens: 32,
    chunk_tiles: 4,
    blocks: 2,
    board_bytes: gathered_bytes(32),
    stages: [3, 3, 2, 2],
    stage_token_rows: 4 * 32,
    stage_tiles: 2 * 4,
    rings: 1,
    stage_alignment: 16,
};

/// The kernels for up to 64 tokens.
pub const GEMM_64: Family = Family {
    kernels: [
        "gemm64_nibble_affine",
        "gemm64_nibble_symmetric",
        "gemm64_byte_symmetric",
        "gemm64_byte_half_groups",
    ],
    tokens_max: 64,
    unit_tokens: 64,
    blocks: 1,
    board_bytes: gathered_bytes(64),
    stage_token_rows: 4 * 64,
    ..GEMM_32
};
