//! One token times packed weights (`gemv.cu`; the reference is [`super::product::reference`]).

use super::product::Family;

/// Warps of a block, each with every eighth tile of the inputs.
pub(super) const WARPS: usize = 8;

/// Bytes in which the warps' sums of 64 outputs meet, for so many tiles of eight tokens.
pub(super) const fn board_bytes(token_tiles: usize) -> usize {
    WARPS * token_tiles * 8 * (64 + 4) * 4
}

/// The kernels for one token.
pub const GEMV: Family = Family {
    kernels: [
        "gemv_nibble_affine",
        "gemv_nibble_symmetric",
        "gemv_byte_symmetric",
        "gemv_byte_half_groups",
    ],
    tokens_max: 1,
    unit_row_blocks: 1,
    unit_tokens: 1,
    chunk_tiles: WARPS,
    blocks: 2,
    board_bytes: board_bytes(1),
    stages: [6, 7, 4, 4],
    stage_token_rows: 1,
    stage_tiles: 1,
    rings: WARPS,
    stage_alignment: 16,
};
