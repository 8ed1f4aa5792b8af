// Many tokens times packed weights, for prompts: out[token][row] = sum over col of w[row][col] *
// x[token][col], on the tensor cores that every card since sm_80 has.
//
// x is f16 [tokens][cols]; out f16 or f32 [tokens][rows], with bias or added to what is there. The
// method is that of gemm.cuh with two warps of outputs by four of tokens: 128 outputs by 256 tokens
// a block. Each weight becomes f16 four times, once a token warp, in registers; that fills issue
// slots which the tensor cores leave idle, and saves the trip through shared memory. Idea: the
// multistage pipeline of CUTLASS, with Marlin's weights in registers.
//
// Bytes: rows * cols * 4.5 to 9 bits a pass over the weights, tokens * (2 cols + 2 to 4 rows).
// Operations: 2 tokens rows cols, which is the limit.

#include "gemm.cuh"

GEMM_ENTRY(gemm_large_nibble_affine, NibbleAffine, 2, 1, 4, 8, 4, 1)
GEMM_ENTRY(gemm_large_nibble_symmetric, NibbleSymmetric, 2, 1, 4, 8, 4, 1)
GEMM_ENTRY(gemm_large_byte_symmetric, ByteSymmetric, 2, 1, 4, 8, 4, 1)
GEMM_ENTRY(gemm_large_byte_half_groups, ByteHalfGroups, 2, 1, 4, 8, 4, 1)
