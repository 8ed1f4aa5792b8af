//! Many tokens times packed weights on any card since sm_80 (`gemm_large.cu`; the reference is
//! [`super::product::reference`]).

use super::gemm_small::{GEMM_8, GEMM_16, GEMM_32, GEMM_64, TURNED_BYTES};
use super::gemv::GEMV;
use super::product::Family;

/// The kernels for any number of tokens.
pub const LARGE: Family = Family {
    kernels: [
        "gemm_large_nibble_affine",
        "gemm_large_nibble_symmetric",
        "gemm_large_byte_symmetric",
        "gemm_large_byte_half_groups",
    ],
    tokens_max: usize::MAX,
    unit_row_blocks: 2,
    unit_tokens: 256,
    chunk_tiles: 1,
    blocks: 1,
    board_bytes: TURNED_BYTES,
    stages: [4; 4],
    stage_token_rows: 256,
    stage_tiles: 2,
    rings: 1,
    stage_alignment: 16,
};

/// What serves how many tokens, fewest first.
pub const FAMILIES: [&Family; 6] = [&GEMV, &GEMM_8, &GEMM_16, &GEMM_32, &GEMM_64, &LARGE];
