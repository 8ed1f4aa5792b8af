//! Many tokens times packed weights on Hopper (`gemm_hopper.cu`; the reference is
//! [`super::product::reference`]).

use super::gemm_small::{GEMM_8, GEMM_16};
use super::gemv::GEMV;
use super::product::Family;

/// Stages start on a multiple of this, which costs up to as much.
const ALIGNMENT: usize = 1024;

/// The kernels whose units have 128 tokens.
pub const HOPPER_128: Family = Family {
    kernels: [
        "gemm_hopper128_nibble_affine",
        "gemm_hopper128_nibble_symmetric",
        "gemm_hopper128_byte_symmetric",
        "gemm_hopper128_byte_half_groups",
    ],
    tokens_max: usize::MAX,
    unit_row_blocks: 4,
    unit_tokens: 128,
    chunk_tiles: 2,
    blocks: 1,
    board_bytes: ALIGNMENT,
    stages: [6, 6, 5, 5],
    stage_token_rows: 2 * 128,
    stage_tiles: 4 * 2,
    rings: 1,
    stage_alignment: ALIGNMENT,
};

/// The kernels whose units have 64 tokens.
pub const HOPPER_64: Family = Family {
    kernels: [
        "gemm_hopper64_nibble_affine",
        "gemm_hopper64_nibble_symmetric",
        "gemm_hopper64_byte_symmetric",
        "gemm_hopper64_byte_half_groups",
    ],
    tokens_max: 64,
    unit_row_blocks: 2,
    unit_tokens: 64,
    blocks: 2,
    stages: [6, 6, 5, 5],
    stage_token_rows: 2 * 64,
    stage_tiles: 2 * 2,
    ..HOPPER_128
};

/// What serves how many tokens, fewest first.
pub const FAMILIES: [&Family; 5] = [&GEMV, &GEMM_8, &GEMM_16, &HOPPER_64, &HOPPER_128];
