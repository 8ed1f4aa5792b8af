// One token times packed weights: out[row] = sum over col of w[row][col] * x[col].
//
// x is f16 [cols]; out f16 or f32 [rows], with bias or added to what is there. The method is that
// of gemv.cuh; of the tensor core's eight columns one is used, which costs nothing where memory is
// the limit. Idea: Marlin's layout and pipeline, without its shared tokens.
//
// Bytes: rows * cols * 4.5 to 9 bits, 2 cols, 2 to 4 rows. Operations: 2 rows cols.

#include "gemv.cuh"

GEMV_ENTRY(gemv_nibble_affine, NibbleAffine, 0, 6)
GEMV_ENTRY(gemv_nibble_symmetric, NibbleSymmetric, 0, 7)
GEMV_ENTRY(gemv_byte_symmetric, ByteSymmetric, 0, 4)
GEMV_ENTRY(gemv_byte_half_groups, ByteHalfGroups, 0, 4)
