// Packed weights: how a lane finds its share of a tile, and how quants become f16.
//
// The layout is that of weights.rs. A tile is 64 outputs by 32 inputs, four quarters of 16 outputs
// by two steps of 16 inputs; a lane's share of a quarter and a step are the eight weights that the
// tensor core's a operand asks of it (multiply_add in intrinsics.cuh), so nothing is shuffled here.
// Idea: Marlin (Frantar et al. 2024, arXiv 2408.11743), whose offline shuffle does the same.
//
// Quants become f16 by their bits alone: 0x6400 | q is 1024 + q, and 1024 is subtracted exactly.
// One fused multiplication and addition then rounds once, so a weight is the nearest f16 to
// d * q + m.
#pragma once

#include "intrinsics.cuh"

namespace weights {

const u32 TILE_ROWS = 64;
const u32 TILE_COLS = 32;
const u32 QUARTERS = 4;
const u32 STEPS = 2;

const u32 F16X2_1024 = 0x64006400;    // twice 1024
const u32 F16X2_1032 = 0x64086408;    // twice 1024 + 8
const u32 F16X2_1152 = 0x64806480;    // twice 1024 + 128
const u32 F16X2_16TH = 0x2c002c00;    // twice 1/16
const u32 F16X2_MINUS_64 = 0xd400d400; // twice -1024 / 16
const u32 F16X2_MINUS_72 = 0xd480d480; // twice -1024 / 16 - 8

// The low or the high half of a word, twice.
DEVICE u32 twice_low(u32 word) { return permute_bytes(word, 0, 0x1010); }
DEVICE u32 twice_high(u32 word) { return permute_bytes(word, 0, 0x3232); }

DEVICE u32 word_of(const Quad &quad, u32 index) {
    return index == 0 ? quad.x : index == 1 ? quad.y : index == 2 ? quad.z : quad.w;
}

// Eight 4-bit quants of a word as d * q + m; `first` and `second` hold d and m of the two outputs.
DEVICE void nibbles_affine(u32 word, u32 first, u32 second, u32 (&a)[4]) {
    const u32 d0 = twice_low(first), m0 = twice_high(first);
    const u32 d1 = twice_low(second), m1 = twice_high(second);
#pragma unroll
    for (u32 pair = 0; pair < 4; pair += 2) {
        const u32 low = and_or<0x000f000f, F16X2_1024>(word);
        const u32 high = and_or<0x00f000f0, F16X2_1024>(word);
        a[pair] = f16x2_fma(f16x2_sub(low, F16X2_1024), d0, m0);
        a[pair + 1] = f16x2_fma(f16x2_fma(high, F16X2_16TH, F16X2_MINUS_64), d1, m1);
        word >>= 8;
    }
}

// Eight 4-bit quants of a word as d * (q - 8); `scales` holds d of the two outputs.
DEVICE void nibbles_symmetric(u32 word, u32 scales, u32 (&a)[4]) {
    const u32 d0 = twice_low(scales), d1 = twice_high(scales);
#pragma unroll
    for (u32 pair = 0; pair < 4; pair += 2) {
        const u32 low = and_or<0x000f000f, F16X2_1024>(word);
        const u32 high = and_or<0x00f000f0, F16X2_1024>(word);
        a[pair] = f16x2_mul(f16x2_sub(low, F16X2_1032), d0);
        a[pair + 1] = f16x2_mul(f16x2_fma(high, F16X2_16TH, F16X2_MINUS_72), d1);
        word >>= 8;
    }
}

// Eight 8-bit quants of two words as d * (q - 128); `scales` holds d of the two outputs.
DEVICE void bytes_symmetric(u32 first, u32 second, u32 scales, u32 (&a)[4]) {
    const u32 d0 = twice_low(scales), d1 = twice_high(scales);
    const u32 words[2] = {first, second};
#pragma unroll
    for (u32 pair = 0; pair < 4; pair += 2) {
        const u32 word = words[pair / 2];
        const u32 low = permute_bytes(word, F16X2_1024, 0x5150);
        const u32 high = permute_bytes(word, F16X2_1024, 0x5352);
        a[pair] = f16x2_mul(f16x2_sub(low, F16X2_1152), d0);
        a[pair + 1] = f16x2_mul(f16x2_sub(high, F16X2_1152), d1);
    }
}

// A format is how a tile and its scales lie in memory. `Share` is what a lane needs of a whole
// tile, `Quarter` what it needs of one quarter.

// w = d * q + m: Q4_1, Q4_K, AWQ, GPTQ with zero points.
struct NibbleAffine {
    static const u32 TILE_BYTES = 1024;
    static const u32 SCALE_BYTES = 256;

    struct Share {
        Quad quants[2], scales[2];

        DEVICE void load(const u8 *tile, const u8 *scale, u32 lane) {
            for (u32 half = 0; half < 2; half++) {
                quants[half] = *(const Quad *)(tile + half * 512 + lane * 16);
                scales[half] = *(const Quad *)(scale + lane / 4 * 32 + half * 16);
            }
        }

        DEVICE void fragment(u32 quarter, u32 step, u32 (&a)[4]) const {
            const Quad &pairs = scales[quarter / 2];
            nibbles_affine(word_of(quants[quarter / 2], quarter % 2 * 2 + step),
                           word_of(pairs, quarter % 2 * 2), word_of(pairs, quarter % 2 * 2 + 1), a);
        }
    };

    struct Quarter {
        Pair quants, scales;

        DEVICE void load(const u8 *tile, const u8 *scale, u32 quarter, u32 lane) {
            quants = *(const Pair *)(tile + quarter / 2 * 512 + lane * 16 + quarter % 2 * 8);
            scales = *(const Pair *)(scale + lane / 4 * 32 + quarter * 8);
        }

        DEVICE void fragment(u32 step, u32 (&a)[4]) const {
            nibbles_affine(step == 0 ? quants.x : quants.y, scales.x, scales.y, a);
        }
    };
};

// w = d * (q - 8): Q4_0, GPTQ without zero points.
struct NibbleSymmetric {
    static const u32 TILE_BYTES = 1024;
    static const u32 SCALE_BYTES = 128;

    struct Share {
        Quad quants[2], scales;

        DEVICE void load(const u8 *tile, const u8 *scale, u32 lane) {
            for (u32 half = 0; half < 2; half++) {
                quants[half] = *(const Quad *)(tile + half * 512 + lane * 16);
            }
            scales = *(const Quad *)(scale + lane / 4 * 16);
        }

        DEVICE void fragment(u32 quarter, u32 step, u32 (&a)[4]) const {
            nibbles_symmetric(word_of(quants[quarter / 2], quarter % 2 * 2 + step),
                              word_of(scales, quarter), a);
        }
    };

    struct Quarter {
        Pair quants;
        u32 scales;

        DEVICE void load(const u8 *tile, const u8 *scale, u32 quarter, u32 lane) {
            quants = *(const Pair *)(tile + quarter / 2 * 512 + lane * 16 + quarter % 2 * 8);
            scales = *(const u32 *)(scale + lane / 4 * 16 + quarter * 4);
        }

        DEVICE void fragment(u32 step, u32 (&a)[4]) const {
            nibbles_symmetric(step == 0 ? quants.x : quants.y, scales, a);
        }
    };
};

// w = d * (q - 128), with GROUPS scales for each 32 inputs: one for Q8_0, Q5_0 and INT8, two for
// Q6_K.
template <u32 GROUPS> struct Bytes {
    static const u32 TILE_BYTES = 2048;
    static const u32 SCALE_BYTES = 128 * GROUPS;

    struct Share {
        Quad quants[QUARTERS], scales[GROUPS];

        DEVICE void load(const u8 *tile, const u8 *scale, u32 lane) {
            for (u32 quarter = 0; quarter < QUARTERS; quarter++) {
                quants[quarter] = *(const Quad *)(tile + quarter * 512 + lane * 16);
            }
            for (u32 group = 0; group < GROUPS; group++) {
                scales[group] = *(const Quad *)(scale + group * 128 + lane / 4 * 16);
            }
        }

        DEVICE void fragment(u32 quarter, u32 step, u32 (&a)[4]) const {
            const Quad &quad = quants[quarter];
            bytes_symmetric(step == 0 ? quad.x : quad.z, step == 0 ? quad.y : quad.w,
                            word_of(scales[step * GROUPS / STEPS], quarter), a);
        }
    };

    struct Quarter {
        Quad quants;
        u32 scales[GROUPS];

        DEVICE void load(const u8 *tile, const u8 *scale, u32 quarter, u32 lane) {
            quants = *(const Quad *)(tile + quarter * 512 + lane * 16);
            for (u32 group = 0; group < GROUPS; group++) {
                scales[group] =
                    *(const u32 *)(scale + group * 128 + lane / 4 * 16 + quarter * 4);
            }
        }

        DEVICE void fragment(u32 step, u32 (&a)[4]) const {
            bytes_symmetric(step == 0 ? quants.x : quants.z, step == 0 ? quants.y : quants.w,
                            scales[step * GROUPS / STEPS], a);
        }
    };
};

typedef Bytes<1> ByteSymmetric;
typedef Bytes<2> ByteHalfGroups;

// A packed matrix: tiles along the inputs, then the next 64 outputs.
struct Packed {
    const u8 *quants;
    const u8 *scales;
    u32 rows;        // outputs
    u32 cols;        // inputs, a multiple of 32
    u32 group_shift; // a scale serves 32 << group_shift inputs

    DEVICE u32 tiles() const { return cols / TILE_COLS; }
    DEVICE u32 row_blocks() const { return (rows + TILE_ROWS - 1) / TILE_ROWS; }

    template <class Format> DEVICE const u8 *tile(u32 row_block, u32 tile) const {
        return quants + ((u64)row_block * tiles() + tile) * Format::TILE_BYTES;
    }

    // Groups of inputs that share scales.
    DEVICE u32 groups() const { return (tiles() + (1u << group_shift) - 1) >> group_shift; }

    template <class Format> DEVICE const u8 *scale(u32 row_block, u32 tile) const {
        return scales + ((u64)row_block * groups() + (tile >> group_shift)) * Format::SCALE_BYTES;
    }
};

} // namespace weights
