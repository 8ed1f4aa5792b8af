// Keys and values as attention reads them: from the paged cache into shared memory, and from there
// into the fragments of tensor-core multiplications. kv_layout.rs describes the layout.
//
// A *granule* is the 16 neighbouring tokens of one head that start at a multiple of 16. A block has
// 16 or 32 tokens, so a granule lies in one block and is contiguous. A warp copies granules whole.
//
// In shared memory a row keeps its length; its 16-byte quads change places so that eight rows' same
// quads lie in different banks: the XOR that CUTLASS uses, here for rows of any length.
//
// i8 elements become f16 in registers, exactly: a byte x + 128 under the f16 bits of 1024 is
// 1152 + x, from which 1152 is subtracted (Kim et al., "Who Says Elephants Can't Run", 2022).
// The multiplication sums over pairs of elements in any order as long as both operands agree, and
// its columns can be any dimensions, so the four bytes of a lane need no exchange with others.
#pragma once
#include "intrinsics.cuh"

namespace kv {

const u32 GRANULE = 16;

// How elements are stored; `SCALE` bytes more for each row.
struct F16 {
    static const u32 BYTES = 2;
    static const u32 SCALE = 0;
};
struct I8 {
    static const u32 BYTES = 1;
    static const u32 SCALE = 4;
};

// One layer's cache and the tables of its sequences.
struct Cache {
    const u8 *keys;
    const u8 *values;
    const float *key_scales;
    const float *value_scales;
    const u32 *tables;
    u32 blocks_max;
    u32 blocks;
    u32 block_size;
    u32 kv_heads;
};

// The tokens of a sequence that its table has room for.
DEVICE u32 clamp_context(const Cache &cache, u32 context) {
    const u32 room = cache.blocks_max * cache.block_size;
    return context < room ? context : room;
}

// Row of the granule's first token: which 16 rows of keys, values and scales it is. `table` is the
// sequence's. A block that the cache does not have becomes its last.
DEVICE u32 granule_row(const Cache &cache, const u32 *table, u32 head, u32 granule) {
    const u32 token = granule * GRANULE;
    // 16 or 32: a shift, not a division.
    const u32 shift = cache.block_size == 32 ? 5 : 4;
    u32 block = table[token >> shift];
    block = block < cache.blocks ? block : cache.blocks - 1;
    return ((block * cache.kv_heads + head) << shift) + (token & (cache.block_size - 1));
}

// === Shared memory ===

// Rows of every eight whose same quads would meet in a bank if they kept their places.
template <u32 ROW_BYTES> DEVICE u32 meeting_rows() {
    const u32 quads = ROW_BYTES / 16;
    return quads % 8 == 0 ? 8 : (quads % 4 == 0 ? 4 : 2);
}

// By what a row's quads are moved.
template <u32 ROW_BYTES> DEVICE u32 move_of(u32 row) {
    return row % 8 / (8 / meeting_rows<ROW_BYTES>());
}

// Where a quad of a row lies in a tile.
template <u32 ROW_BYTES> DEVICE u32 tile_offset(u32 row, u32 quad) {
    return row * ROW_BYTES + (quad ^ move_of<ROW_BYTES>(row)) * 16;
}

// The same for the row `row` + `lane_row` and the quad `quad` + `lane_quad`, of which `row` (a
// multiple of 16) and `quad` (even) are known to the compiler and `lane_quad` is 0 or 1: one XOR
// for each quad, as all rows share the rest.
template <u32 ROW_BYTES>
DEVICE u32 tile_offset(u32 row, u32 lane_row, u32 quad, u32 lane_quad) {
    const u32 quads = ROW_BYTES / 16;
    if ((quads & (quads - 1)) == 0) {
        return (tile_offset<ROW_BYTES>(lane_row, lane_quad) ^ (quad * 16)) + row * ROW_BYTES;
    }
    return tile_offset<ROW_BYTES>(row + lane_row, quad + lane_quad);
}

// Starts the copy of 16 rows to the tile's rows from `first_row` on, a multiple of 16; those from
// `valid` on become zeros. All lanes of a warp call it.
template <u32 ROW_BYTES>
DEVICE void copy_rows(u8 *tile, u32 first_row, const u8 *source, u32 valid, u32 lane) {
    const u32 quads = ROW_BYTES / 16;
    // Where a row's quads are a power of two, a copy of the warp is some whole rows.
    const bool whole = (quads & (quads - 1)) == 0 && quads <= WARP;
    const u32 lane_offset = tile_offset<ROW_BYTES>(first_row + lane / quads, lane % quads);
    const u8 *lane_source = source + lane * 16;
#pragma unroll
    for (u32 copy = 0; copy < GRANULE * quads / WARP; copy++) {
        const u32 ahead = copy * WARP / quads;
        u32 row = ahead + lane / quads;
        u32 offset = (lane_offset ^ (move_of<ROW_BYTES>(ahead) * 16)) + ahead * ROW_BYTES;
        if (!whole) {
            const u32 quad = copy * WARP + lane;
            row = quad / quads;
            offset = tile_offset<ROW_BYTES>(first_row + row, quad % quads);
        }
        copy_async(tile + offset, lane_source + copy * WARP * 16, row < valid);
    }
}

// Starts the copy of 16 scales, four at a time while the first of the four is before `valid`.
DEVICE void copy_scales(float *tile, const float *source, u32 valid, u32 lane) {
    if (lane < GRANULE / 4) {
        copy_async(tile + lane * 4, source + lane * 4, lane * 4 < valid);
    }
}

// === Fragments ===

// Four signed bytes as f16: the lower two and the higher two.
DEVICE void widen_in_order(u32 (&halves)[2], u32 bytes) {
    const u32 biased = bytes ^ 0x80808080u;
    halves[0] = f16x2_sub(permute_bytes(biased, 0x64646464u, 0x4140u), 0x64806480u);
    halves[1] = f16x2_sub(permute_bytes(biased, 0x64646464u, 0x4342u), 0x64806480u);
}

// The even ones and the odd ones.
DEVICE void widen_even_odd(u32 (&halves)[2], u32 bytes) {
    const u32 biased = bytes ^ 0x80808080u;
    halves[0] = f16x2_sub(permute_bytes(biased, 0x64646464u, 0x4240u), 0x64806480u);
    halves[1] = f16x2_sub(permute_bytes(biased, 0x64646464u, 0x4341u), 0x64806480u);
}

// 16 keys by 32 dimensions as right operands of a product with the queries: [16 dimensions][8
// keys]. Each 16 dimensions are taken in the order of `dimension_of`.
template <u32 DIM>
DEVICE void key_fragments(F16, u32 (&b)[2][2][2], const u8 *tile, u32 key, u32 dim, u32 lane) {
    const u32 row = lane % 8 + lane / 16 * 8;
#pragma unroll
    for (u32 step = 0; step < 2; step++) {
        u32 r[4];
        load_matrices(r, tile + tile_offset<DIM * 2>(key, row, dim / 8 + step * 2, lane / 8 % 2));
        b[step][0][0] = r[0];
        b[step][0][1] = r[1];
        b[step][1][0] = r[2];
        b[step][1][1] = r[3];
    }
}

template <u32 DIM>
DEVICE void key_fragments(I8, u32 (&b)[2][2][2], const u8 *tile, u32 key, u32 dim, u32 lane) {
    const u32 row = lane % 8 + lane / 16 * 8;
    u32 r[4];
    load_matrices(r, tile + tile_offset<DIM>(key, row, dim / 16, lane / 8 % 2));
    widen_in_order(b[0][0], r[0]);
    widen_in_order(b[1][0], r[1]);
    widen_in_order(b[0][1], r[2]);
    widen_in_order(b[1][1], r[3]);
}

// 16 keys by 32 dimensions of the values as right operands of a product with the probabilities:
// [8 dimensions]. `dimension_of` says which dimensions a lane's columns are.
template <u32 DIM>
DEVICE void value_fragments(F16, u32 (&b)[4][2], const u8 *tile, u32 key, u32 dim, u32 lane) {
    const u32 row = lane % 16;
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        u32 r[4];
        const u32 quad = dim / 8 + half * 2;
        load_matrices_transposed(r, tile + tile_offset<DIM * 2>(key, row, quad, lane / 16));
        b[half * 2][0] = r[0];
        b[half * 2][1] = r[1];
        b[half * 2 + 1][0] = r[2];
        b[half * 2 + 1][1] = r[3];
    }
}

template <u32 DIM>
DEVICE void value_fragments(I8, u32 (&b)[4][2], const u8 *tile, u32 key, u32 dim, u32 lane) {
    const u32 row = lane % 16;
    u32 r[4];
    load_matrices_transposed(r, tile + tile_offset<DIM>(key, row, dim / 16, lane / 16));
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        u32 first[2], second[2];
        widen_even_odd(first, r[half * 2]);
        widen_even_odd(second, r[half * 2 + 1]);
        b[half * 2][0] = first[0];
        b[half * 2][1] = second[0];
        b[half * 2 + 1][0] = first[1];
        b[half * 2 + 1][1] = second[1];
    }
}

// The dimension of a lane's element 0 or 1 in the 8 columns number `n` of the values.
DEVICE u32 dimension_of(F16, u32 n, u32 element, u32 lane) {
    return n * 8 + lane % 4 * 2 + element;
}

DEVICE u32 dimension_of(I8, u32 n, u32 element, u32 lane) {
    return n / 2 * 16 + lane % 4 * 4 + element * 2 + n % 2;
}

} // namespace kv
