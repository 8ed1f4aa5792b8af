// A warp's rows of softmax(Q K^T) V, some keys at a time: what decode and prefill have in common.
//
// The softmax is online: rows keep the largest score so far and the sums relative to it, and what
// was summed is scaled down when a larger score comes (Milakov and Gimelshein, "Online normalizer
// calculation for softmax", 2018; Dao, "FlashAttention-2", 2023). Scores are in powers of two.
// Scores and sums are f32; a probability is rounded to f16 for its product with the values, where
// the scale of an i8 value is part of it.
#pragma once
#include "kv_layout.cuh"

namespace attention {

// Below every score, and still a number whose difference from itself is one.
const float LOWEST = -1e30f;
const u32 MINUS_INFINITY = 0xff800000u;

// Probabilities are relative to the largest and times a power of two, which the division by their
// sum takes out again: small ones then keep their digits in f16. With i8 the scale of the values,
// at most 65504 / 127, must fit beside it.
DEVICE float headroom_log2(kv::F16) { return 8.0f; }
DEVICE float headroom_log2(kv::I8) { return 6.0f; }

// 16 rows times TILES. A lane has two rows of each 16, lane / 4 and that + 8, and of those the
// columns that multiply_add gives it.
template <u32 DIM, u32 TILES> struct Rows {
    float largest[TILES][2];
    // Of the lane's columns only; sum_columns adds up the row.
    float sum[TILES][2];
    float out[TILES][DIM / 8][4];
};

// Some keys and values in shared memory.
struct Tile {
    const u8 *keys;
    const u8 *values;
    const float *key_scales;
    const float *value_scales;
    // Those of its keys that exist.
    u32 keys_valid;
};

template <u32 DIM, u32 TILES> DEVICE void start_rows(Rows<DIM, TILES> &rows) {
#pragma unroll
    for (u32 tile = 0; tile < TILES; tile++) {
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            rows.largest[tile][half] = LOWEST;
            rows.sum[tile][half] = 0.0f;
        }
#pragma unroll
        for (u32 n = 0; n < DIM / 8; n++) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                rows.out[tile][n][i] = 0.0f;
            }
        }
    }
}

// The whole rows' sums.
template <u32 DIM, u32 TILES> DEVICE void sum_columns(Rows<DIM, TILES> &rows) {
#pragma unroll
    for (u32 tile = 0; tile < TILES; tile++) {
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            float sum = rows.sum[tile][half];
            sum += shuffle_xor(sum, 1);
            sum += shuffle_xor(sum, 2);
            rows.sum[tile][half] = sum;
        }
    }
}

// Q K^T. `queries(a, step, tile)` loads 16 rows by 16 dimensions as a left operand.
template <u32 DIM, typename KIND, u32 TILES, u32 KEYS, typename QUERIES>
DEVICE void multiply_keys(float (&scores)[TILES][KEYS / 8][4], QUERIES queries, const u8 *keys,
                          u32 lane) {
#pragma unroll
    for (u32 tile = 0; tile < TILES; tile++) {
#pragma unroll
        for (u32 n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                scores[tile][n][i] = 0.0f;
            }
        }
    }
#pragma unroll
    for (u32 dim = 0; dim < DIM; dim += 32) {
        u32 a[2][TILES][4];
#pragma unroll
        for (u32 step = 0; step < 2; step++) {
#pragma unroll
            for (u32 tile = 0; tile < TILES; tile++) {
                queries(a[step][tile], dim / 16 + step, tile);
            }
        }
#pragma unroll
        for (u32 key = 0; key < KEYS; key += 16) {
            u32 b[2][2][2];
            kv::key_fragments<DIM>(KIND(), b, keys, key, dim, lane);
#pragma unroll
            for (u32 step = 0; step < 2; step++) {
#pragma unroll
                for (u32 tile = 0; tile < TILES; tile++) {
                    multiply_add(scores[tile][key / 8], a[step][tile], b[step][0][0],
                                 b[step][0][1]);
                    multiply_add(scores[tile][key / 8 + 1], a[step][tile], b[step][1][0],
                                 b[step][1][1]);
                }
            }
        }
    }
}

// Scores times the keys' own scales.
template <u32 TILES, u32 KEYS>
DEVICE void scale_scores(float (&scores)[TILES][KEYS / 8][4], const float *key_scales, u32 lane) {
#pragma unroll
    for (u32 n = 0; n < KEYS / 8; n++) {
        const float *scales = key_scales + n * 8 + lane % 4 * 2;
#pragma unroll
        for (u32 tile = 0; tile < TILES; tile++) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                scores[tile][n][i] *= scales[i % 2];
            }
        }
    }
}

// Scores of keys that a row does not see become the lowest.
template <u32 TILES, u32 KEYS, typename SEEN>
DEVICE void mask_scores(float (&scores)[TILES][KEYS / 8][4], SEEN seen, u32 lane) {
#pragma unroll
    for (u32 tile = 0; tile < TILES; tile++) {
        const i32 keys[2] = {seen(tile, 0u), seen(tile, 1u)};
#pragma unroll
        for (u32 n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                const i32 key = (i32)(n * 8 + lane % 4 * 2 + i % 2);
                const float score = scores[tile][n][i];
                scores[tile][n][i] = key < keys[i / 2] ? score : bits_float(MINUS_INFINITY);
            }
        }
    }
}

// Scores become probabilities relative to the largest so far; sums follow it. `scale`, positive,
// is applied in the same operation that subtracts the largest.
template <u32 DIM, typename KIND, u32 TILES, u32 KEYS>
DEVICE void soften(Rows<DIM, TILES> &rows, float (&scores)[TILES][KEYS / 8][4], float scale) {
    float shrink[TILES][2];
    bool grown = false;
#pragma unroll
    for (u32 tile = 0; tile < TILES; tile++) {
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            float largest = bits_float(MINUS_INFINITY);
#pragma unroll
            for (u32 n = 0; n < KEYS / 8; n++) {
                largest = larger(largest, scores[tile][n][half * 2]);
                largest = larger(largest, scores[tile][n][half * 2 + 1]);
            }
            largest = larger(largest, shuffle_xor(largest, 1));
            largest = larger(largest, shuffle_xor(largest, 2));
            largest = larger(rows.largest[tile][half], largest * scale);
            grown = grown || largest != rows.largest[tile][half];
            shrink[tile][half] = exp2_fast(rows.largest[tile][half] - largest);
            rows.largest[tile][half] = largest;
            const float zero = largest - headroom_log2(KIND());
            float sum = 0.0f;
#pragma unroll
            for (u32 n = 0; n < KEYS / 8; n++) {
#pragma unroll
                for (u32 i = half * 2; i < half * 2 + 2; i++) {
                    scores[tile][n][i] = exp2_fast(scores[tile][n][i] * scale - zero);
                    sum += scores[tile][n][i];
                }
            }
            rows.sum[tile][half] = rows.sum[tile][half] * shrink[tile][half] + sum;
        }
    }
    // After the first keys the largest score seldom changes.
    if (ballot(grown ? 1u : 0u)) {
#pragma unroll
        for (u32 tile = 0; tile < TILES; tile++) {
#pragma unroll
            for (u32 n = 0; n < DIM / 8; n++) {
#pragma unroll
                for (u32 i = 0; i < 4; i++) {
                    rows.out[tile][n][i] *= shrink[tile][i / 2];
                }
            }
        }
    }
}

// out += P V.
template <u32 DIM, typename KIND, u32 TILES, u32 KEYS>
DEVICE void multiply_values(Rows<DIM, TILES> &rows, const float (&p)[TILES][KEYS / 8][4],
                            const Tile &tile, u32 lane) {
#pragma unroll
    for (u32 key = 0; key < KEYS; key += 16) {
        u32 a[TILES][4];
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            float scales[2] = {1.0f, 1.0f};
            if (KIND::SCALE > 0) {
#pragma unroll
                for (u32 i = 0; i < 2; i++) {
                    // What lies beyond the last key may be no number, and zero times it neither.
                    const u32 column = key + half * 8 + lane % 4 * 2 + i;
                    scales[i] = column < tile.keys_valid ? tile.value_scales[column] : 0.0f;
                }
            }
#pragma unroll
            for (u32 t = 0; t < TILES; t++) {
                const float(&s)[4] = p[t][key / 8 + half];
                a[t][half * 2] = f32_to_f16x2_bounded(s[0] * scales[0], s[1] * scales[1]);
                a[t][half * 2 + 1] = f32_to_f16x2_bounded(s[2] * scales[0], s[3] * scales[1]);
            }
        }
#pragma unroll
        for (u32 dim = 0; dim < DIM; dim += 32) {
            u32 b[4][2];
            kv::value_fragments<DIM>(KIND(), b, tile.values, key, dim, lane);
#pragma unroll
            for (u32 t = 0; t < TILES; t++) {
#pragma unroll
                for (u32 n = 0; n < 4; n++) {
                    multiply_add(rows.out[t][dim / 8 + n], a[t], b[n][0], b[n][1]);
                }
            }
        }
    }
}

// Attends to the keys of a tile. A lane's rows, 0 and 1 of each 16, see the first `seen(tile, row)`
// of them; `masked`, the same for the whole warp, says whether that is fewer than all for any row.
// Scores are times `scale`, positive, then taken as exponents of two. All lanes of a warp call it.
template <u32 DIM, typename KIND, u32 TILES, u32 KEYS, typename QUERIES, typename SEEN>
DEVICE void attend(Rows<DIM, TILES> &rows, QUERIES queries, const Tile &tile, SEEN seen,
                   bool masked, float scale, u32 lane) {
    float scores[TILES][KEYS / 8][4];
    multiply_keys<DIM, KIND, TILES, KEYS>(scores, queries, tile.keys, lane);
    if (KIND::SCALE > 0) {
        scale_scores<TILES, KEYS>(scores, tile.key_scales, lane);
    }
    if (masked) {
        mask_scores<TILES, KEYS>(scores, seen, lane);
    }
    soften<DIM, KIND, TILES, KEYS>(rows, scores, scale);
    multiply_values<DIM, KIND, TILES, KEYS>(rows, scores, tile, lane);
}

} // namespace attention
