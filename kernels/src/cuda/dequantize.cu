// Packed weights as a plain f16 matrix: out[row][col] = w[row][col], for products that cuBLASLt
// does.
//
// The weights lie as weights.rs says; out is f16 [rows][cols]. A warp turns a tile of 64 outputs by
// 32 inputs into f16 as the products do, through shared memory, so that a row's 64 bytes are
// written side by side. Idea: the transposition through padded shared memory of NVIDIA's "An
// Efficient Matrix Transpose in CUDA C/C++" (Harris 2013).
//
// Bytes: rows * cols * 4.5 to 9 bits read, 2 rows * cols written. Operations: 2 rows * cols.

#include "weights.cuh"

namespace dequantize {

const u32 WARPS = 8;
const u32 THREADS = WARPS * WARP;
// Words of a row of a tile, padded against bank conflicts.
const u32 ROW_WORDS = weights::TILE_COLS / 2 + 4;

template <class Format> DEVICE void tiles(const weights::Packed &matrix, u16 *out) {
    SHARED alignas(16) u32 turns[WARPS * 16 * ROW_WORDS];
    const u32 warp = thread_id() / WARP, lane = thread_id() % WARP;
    u32 *turn = turns + warp * 16 * ROW_WORDS;
    const u64 count = (u64)matrix.row_blocks() * matrix.tiles();
    for (u64 index = block_x() * WARPS + warp; index < count; index += grid_x() * WARPS) {
        const u32 row_block = (u32)(index / matrix.tiles());
        const u32 tile = (u32)(index % matrix.tiles());
        typename Format::Share share;
        share.load(matrix.tile<Format>(row_block, tile), matrix.scale<Format>(row_block, tile),
                   lane);
#pragma unroll
        for (u32 quarter = 0; quarter < weights::QUARTERS; quarter++) {
#pragma unroll
            for (u32 step = 0; step < weights::STEPS; step++) {
                u32 a[4];
                share.fragment(quarter, step, a);
                for (u32 part = 0; part < 4; part++) {
                    turn[(lane / 4 + part % 2 * 8) * ROW_WORDS + step * 8 + lane % 4 +
                         part / 2 * 4] = a[part];
                }
            }
            sync_warp();
            for (u32 half = 0; half < 2; half++) {
                const u32 row_in = half * 8 + lane / 4;
                const u32 row = row_block * weights::TILE_ROWS + quarter * 16 + row_in;
                if (row < matrix.rows) {
                    *(Quad *)(out + (u64)row * matrix.cols + tile * weights::TILE_COLS +
                              lane % 4 * 8) =
                        *(const Quad *)(turn + row_in * ROW_WORDS + lane % 4 * 4);
                }
            }
            sync_warp();
        }
    }
}

} // namespace dequantize

#define DEQUANTIZE_ENTRY(name, format)                                                             \
    KERNEL(dequantize::THREADS, 2)                                                                 \
    name(const u8 *quants, const u8 *scales, u32 rows, u32 cols, u32 group_shift, u16 *out) {      \
        const weights::Packed matrix = {quants, scales, rows, cols, group_shift};                  \
        dequantize::tiles<weights::format>(matrix, out);                                           \
    }

DEQUANTIZE_ENTRY(dequantize_nibble_affine, NibbleAffine)
DEQUANTIZE_ENTRY(dequantize_nibble_symmetric, NibbleSymmetric)
DEQUANTIZE_ENTRY(dequantize_byte_symmetric, ByteSymmetric)
DEQUANTIZE_ENTRY(dequantize_byte_half_groups, ByteHalfGroups)
