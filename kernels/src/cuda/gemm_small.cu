// 2 to 64 tokens times packed weights: out[token][row] = sum over col of w[row][col] *
// x[token][col], on tensor cores.
//
// x is f16 [tokens][cols]; out f16 or f32 [tokens][rows], with bias or added to what is there. Up
// to 16 tokens, gemv.cuh: every warp has tokens of its own. From 17 to 64, gemm.cuh: warps share
// them, because re-reading them for every 64 outputs would cost more than the weights. Idea: Marlin
// (Frantar et al. 2024, arXiv 2408.11743).
//
// Bytes: rows * cols * 4.5 to 9 bits, tokens * (2 cols + 2 to 4 rows). Operations: 2 tokens rows
// cols. On a card with 300 operations a byte, memory is the limit up to about 90 tokens of 4 bits.

#include "gemm.cuh"
#include "gemv.cuh"

GEMV_ENTRY(gemm8_nibble_affine, NibbleAffine, 1, 5)
GEMV_ENTRY(gemm8_nibble_symmetric, NibbleSymmetric, 1, 5)
GEMV_ENTRY(gemm8_byte_symmetric, ByteSymmetric, 1, 3)
GEMV_ENTRY(gemm8_byte_half_groups, ByteHalfGroups, 1, 3)

GEMV_ENTRY(gemm16_nibble_affine, NibbleAffine, 2, 3)
GEMV_ENTRY(gemm16_nibble_symmetric, NibbleSymmetric, 2, 3)
GEMV_ENTRY(gemm16_byte_symmetric, ByteSymmetric, 2, 2)
GEMV_ENTRY(gemm16_byte_half_groups, ByteHalfGroups, 2, 2)

// Two warps of outputs, four of inputs, one of tokens.
GEMM_ENTRY(gemm32_nibble_affine, NibbleAffine, 2, 4, 1, 4, 3, 2)
GEMM_ENTRY(gemm32_nibble_symmetric, NibbleSymmetric, 2, 4, 1, 4, 3, 2)
GEMM_ENTRY(gemm32_byte_symmetric, ByteSymmetric, 2, 4, 1, 4, 2, 2)
GEMM_ENTRY(gemm32_byte_half_groups, ByteHalfGroups, 2, 4, 1, 4, 2, 2)

GEMM_ENTRY(gemm64_nibble_affine, NibbleAffine, 2, 4, 1, 8, 3, 1)
GEMM_ENTRY(gemm64_nibble_symmetric, NibbleSymmetric, 2, 4, 1, 8, 3, 1)
GEMM_ENTRY(gemm64_byte_symmetric, ByteSymmetric, 2, 4, 1, 8, 2, 1)
GEMM_ENTRY(gemm64_byte_half_groups, ByteHalfGroups, 2, 4, 1, 8, 2, 1)
