// Causal attention of many new tokens over paged keys and values, sequences of any lengths packed.
//
//   out[row][h] = softmax(q[row][h] K[0..=position]^T * scale) V[0..=position], K and V of head
//                 h / group of the row's sequence
//
// q [rows][heads][dim] f16, the rows of sequence s being row_starts[s] to row_starts[s + 1];
// contexts [seqs] u32, tokens of each sequence with these rows, which are its last; tables
// [seqs][blocks_max] u32; keys and values, these rows' included, as kv_layout.rs says; out
// [rows][heads * dim] f16.
//
// Idea: FlashAttention-2 (Dao 2023), on tensor cores. A block has some rows of one key head, passes
// over the keys that they see in tiles, of which one is copied while it works on the other. All
// query heads of the key head are rows of the block, (token, head of the group) in that order: a
// block then has few tokens, so little of its last tiles is masked, and a short sequence fills
// it. The blocks with the most keys come first.
//
// Bytes: q and out once, keys and values once per block of rows, from L2 mostly.
// Operations: 4 * heads * dim for each pair of a row and a token that it sees.
#include "online_softmax.cuh"

namespace prefill_attention {

const u32 WARPS = 4;
const u32 THREADS = WARPS * WARP;

// How a block is laid out: a warp has 32 rows, so that a fragment of keys or values is used twice,
// unless its sums would not fit in registers.
template <u32 DIM, typename KIND> struct Plan {
    static const u32 ROW = DIM * KIND::BYTES;
    static const u32 TILES = DIM > 128 ? 1 : 2;
    static const u32 KEYS = DIM > 128 ? 32 : 64;
    static const u32 ROWS = WARPS * TILES * 16;
    static const u32 GRANULES = KEYS / kv::GRANULE;
    static const u32 QUERY_BYTES = ROWS * DIM * 2;
    static const u32 STAGE_BYTES = KEYS * 2 * (ROW + KIND::SCALE);
};

struct Operands {
    kv::Cache cache;
    const u16 *q;
    const u32 *row_starts;
    const u32 *contexts;
    u16 *out;
    u32 rows;
    u32 group;
    float scale;
};

// What a block works on. A *line* is one query head of one token, the row of a product.
struct Share {
    const u32 *table;
    u32 head;
    // Of the sequence: its first row, its rows' query heads of this key head, and its tokens.
    u32 row_start;
    u32 lines;
    u32 context;
    // The position of its first row; negative if there are more rows than tokens, which then see
    // nothing and become zeros.
    i32 position;
    // The first of the block's lines.
    u32 line;
};

DEVICE Share find_share(const Operands &op, u32 lines_of_block) {
    const u32 seq = block_z();
    // Rows that q does not have are not read, whatever row_starts says.
    const u32 end = lesser(op.row_starts[seq + 1], op.rows);
    Share share;
    share.row_start = lesser(op.row_starts[seq], end);
    share.head = block_y();
    share.table = op.cache.tables + (u64)seq * op.cache.blocks_max;
    share.context = kv::clamp_context(op.cache, op.contexts[seq]);
    const u32 rows = end - share.row_start;
    share.lines = rows * op.group;
    share.position = (i32)share.context - (i32)rows;
    share.line = (grid_x() - 1 - block_x()) * lines_of_block;
    return share;
}

// Keys that the line sees.
DEVICE i32 keys_seen(const Operands &op, const Share &share, u32 line) {
    return line < share.lines ? share.position + (i32)(line / op.group) + 1 : 0;
}

// Keys that the last of some lines sees; none if there are no lines.
DEVICE i32 most_seen(const Operands &op, const Share &share, u32 first, u32 lines) {
    if (first >= share.lines) {
        return 0;
    }
    const i32 seen = keys_seen(op, share, lesser(first + lines, share.lines) - 1);
    return seen > 0 ? seen : 0;
}

// Elements of q and of out before a line's.
DEVICE u64 element_of(const Operands &op, const Share &share, u32 line, u32 dim) {
    const u64 row = share.row_start + line / op.group;
    return ((row * op.cache.kv_heads + share.head) * op.group + line % op.group) * dim;
}

// === Into shared memory ===

// Eight dimensions of a query, in the order in which key_fragments takes those of keys.
template <u32 DIM>
DEVICE void store_query(kv::F16, u8 *queries, u32 row, u32 quad, const Quad &eight) {
    *(Quad *)(queries + kv::tile_offset<DIM * 2>(row, quad)) = eight;
}

template <u32 DIM>
DEVICE void store_query(kv::I8, u8 *queries, u32 row, u32 quad, const Quad &eight) {
    const u32 first = quad / 2 * 2, half = quad % 2 * 8;
    *(Pair *)(queries + kv::tile_offset<DIM * 2>(row, first) + half) = {eight.x, eight.z};
    *(Pair *)(queries + kv::tile_offset<DIM * 2>(row, first + 1) + half) = {eight.y, eight.w};
}

template <u32 DIM, typename KIND>
DEVICE void load_queries(const Operands &op, const Share &share, u8 *queries) {
    typedef Plan<DIM, KIND> PLAN;
    const u32 quads = DIM / 8;
#pragma unroll 4
    for (u32 i = thread_id(); i < PLAN::ROWS * quads; i += THREADS) {
        const u32 row = i / quads, quad = i % quads;
        const u32 line = share.line + row;
        Quad eight = {0, 0, 0, 0};
        if (line < share.lines) {
            eight = load_once(op.q + element_of(op, share, line, DIM) + quad * 8);
        }
        store_query<DIM>(KIND(), queries, row, quad, eight);
    }
}

// A warp copies one granule of a tile: its keys and values, or one of the two where the warps are
// twice as many as the granules. Answers the granule's first row in the cache.
template <u32 DIM, typename KIND>
DEVICE u32 find_row(const Operands &op, const Share &share, u32 first_key, u32 keys_end) {
    const u32 granule = thread_id() / WARP % Plan<DIM, KIND>::GRANULES;
    const u32 key = first_key + granule * kv::GRANULE;
    return key < keys_end ? kv::granule_row(op.cache, share.table, share.head, key / kv::GRANULE)
                          : 0;
}

template <u32 DIM, typename KIND> DEVICE attention::Tile tile_at(u8 *stage, u32 keys_valid) {
    typedef Plan<DIM, KIND> PLAN;
    attention::Tile tile;
    tile.keys = stage;
    tile.values = stage + PLAN::KEYS * PLAN::ROW;
    tile.key_scales = (const float *)(tile.values + PLAN::KEYS * PLAN::ROW);
    tile.value_scales = tile.key_scales + PLAN::KEYS;
    tile.keys_valid = keys_valid;
    return tile;
}

template <u32 DIM, typename KIND>
DEVICE void copy_tile(const kv::Cache &cache, u8 *stage, u32 cache_row, u32 first_key,
                      u32 keys_end) {
    typedef Plan<DIM, KIND> PLAN;
    const u32 lane = thread_id() % WARP, warp = thread_id() / WARP;
    const u32 row = warp % PLAN::GRANULES * kv::GRANULE;
    const u32 valid = first_key + row < keys_end ? keys_end - first_key - row : 0;
    const u64 byte = (u64)cache_row * PLAN::ROW;
    u8 *values = stage + PLAN::KEYS * PLAN::ROW;
    float *scales = (float *)(values + PLAN::KEYS * PLAN::ROW);
    if (PLAN::GRANULES == WARPS || warp < PLAN::GRANULES) {
        kv::copy_rows<PLAN::ROW>(stage, row, cache.keys + byte, valid, lane);
        if (KIND::SCALE > 0) {
            kv::copy_scales(scales + row, cache.key_scales + cache_row, valid, lane);
        }
    }
    if (PLAN::GRANULES == WARPS || warp >= PLAN::GRANULES) {
        kv::copy_rows<PLAN::ROW>(values, row, cache.values + byte, valid, lane);
        if (KIND::SCALE > 0) {
            kv::copy_scales(scales + PLAN::KEYS + row, cache.value_scales + cache_row, valid,
                            lane);
        }
    }
}

// === The block ===

// A lane's two elements in each of two neighbouring groups of eight columns.
DEVICE void store_four(kv::F16, u16 *out, u32 n, const float (&four)[4], u32 lane) {
    *(u32 *)(out + kv::dimension_of(kv::F16(), n, 0, lane)) = f32_to_f16x2(four[0], four[1]);
    *(u32 *)(out + kv::dimension_of(kv::F16(), n + 1, 0, lane)) = f32_to_f16x2(four[2], four[3]);
}

// There the four are neighbours: one group has the even dimensions, the other the odd ones.
DEVICE void store_four(kv::I8, u16 *out, u32 n, const float (&four)[4], u32 lane) {
    *(Pair *)(out + kv::dimension_of(kv::I8(), n, 0, lane)) = {f32_to_f16x2(four[0], four[2]),
                                                               f32_to_f16x2(four[1], four[3])};
}

template <u32 DIM, typename KIND>
DEVICE void store_lines(const Operands &op, const Share &share, u32 first,
                        const attention::Rows<DIM, Plan<DIM, KIND>::TILES> &rows) {
    const u32 lane = thread_id() % WARP;
#pragma unroll
    for (u32 tile = 0; tile < Plan<DIM, KIND>::TILES; tile++) {
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 line = first + tile * 16 + half * 8 + lane / 4;
            if (line >= share.lines) {
                continue;
            }
            const float sum = rows.sum[tile][half];
            const float inverse = sum > 0.0f ? 1.0f / sum : 0.0f;
            u16 *out = op.out + element_of(op, share, line, DIM);
#pragma unroll
            for (u32 n = 0; n < DIM / 8; n += 2) {
                const float(&low)[4] = rows.out[tile][n];
                const float(&high)[4] = rows.out[tile][n + 1];
                const float four[4] = {low[half * 2] * inverse, low[half * 2 + 1] * inverse,
                                       high[half * 2] * inverse, high[half * 2 + 1] * inverse};
                store_four(KIND(), out, n, four, lane);
            }
        }
    }
}

template <u32 DIM, typename KIND>
DEVICE void prefill(const Operands &op, const Share &share, u8 *shared) {
    typedef Plan<DIM, KIND> PLAN;
    const u32 lane = thread_id() % WARP, warp = thread_id() / WARP;
    u8 *queries = shared;
    u8 *stages = shared + PLAN::QUERY_BYTES;
    const u32 first = share.line + warp * PLAN::TILES * 16;
    // Of the warp's lines the first sees the fewest keys and the last the most.
    const i32 fewest = keys_seen(op, share, first);
    const i32 most = most_seen(op, share, first, PLAN::TILES * 16);
    const u32 keys_end = most_seen(op, share, share.line, PLAN::ROWS);

    u32 cache_row = find_row<DIM, KIND>(op, share, 0, keys_end);
    copy_tile<DIM, KIND>(op.cache, stages, cache_row, 0, keys_end);
    copy_async_commit();
    cache_row = find_row<DIM, KIND>(op, share, PLAN::KEYS, keys_end);
    load_queries<DIM, KIND>(op, share, queries);

    attention::Rows<DIM, PLAN::TILES> rows;
    attention::start_rows(rows);
    const u8 *own = queries + warp * PLAN::TILES * 16 * DIM * 2;
    const auto load = [&](u32(&a)[4], u32 step, u32 tile) {
        load_matrices(a, own + kv::tile_offset<DIM * 2>(tile * 16, lane % 16, step * 2, lane / 16));
    };
    u8 *stage = stages;
    u8 *next = stages + PLAN::STAGE_BYTES;
    for (u32 key = 0; key < keys_end; key += PLAN::KEYS) {
        copy_async_wait<0>();
        // The tile is there, and all warps are done with the one before, where the next goes.
        sync_block();
        if (key + PLAN::KEYS < keys_end) {
            copy_tile<DIM, KIND>(op.cache, next, cache_row, key + PLAN::KEYS, keys_end);
            cache_row = find_row<DIM, KIND>(op, share, key + PLAN::KEYS * 2, keys_end);
        }
        copy_async_commit();
        if ((i32)key < most) {
            const auto seen = [&](u32 tile, u32 half) {
                return keys_seen(op, share, first + tile * 16 + half * 8 + lane / 4) - (i32)key;
            };
            attention::attend<DIM, KIND, PLAN::TILES, PLAN::KEYS>(
                rows, load, tile_at<DIM, KIND>(stage, keys_end - key), seen,
                fewest < (i32)(key + PLAN::KEYS), op.scale, lane);
        }
        u8 *const done = stage;
        stage = next;
        next = done;
    }
    copy_async_wait<0>();
    attention::sum_columns(rows);
    store_lines<DIM, KIND>(op, share, first, rows);
}

} // namespace prefill_attention

// Grid: blocks of lines of the longest sequence, key heads, sequences.
#define PREFILL_ATTENTION(name, dim, kind)                                                         \
    KERNEL(128, 2)                                                                                 \
    name(const u16 *q, const u8 *keys, const u8 *values, const float *key_scales,                  \
         const float *value_scales, const u32 *tables, const u32 *row_starts,                      \
         const u32 *contexts, u16 *out, u32 rows, u32 group, u32 kv_heads, u32 blocks,             \
         u32 blocks_max, u32 block_size, float scale_log2) {                                       \
        SHARED_DYNAMIC(shared);                                                                    \
        prefill_attention::Operands op;                                                            \
        op.cache = {keys,       values, key_scales, value_scales, tables,                          \
                    blocks_max, blocks, block_size, kv_heads};                                     \
        op.q = q;                                                                                  \
        op.row_starts = row_starts;                                                                \
        op.contexts = contexts;                                                                    \
        op.out = out;                                                                              \
        op.rows = rows;                                                                            \
        op.group = group;                                                                          \
        op.scale = scale_log2;                                                                     \
        const u32 lines = prefill_attention::Plan<dim, kind>::ROWS;                                \
        const prefill_attention::Share share = prefill_attention::find_share(op, lines);           \
        if (share.line < share.lines) {                                                            \
            prefill_attention::prefill<dim, kind>(op, share, shared);                              \
        }                                                                                          \
    }

PREFILL_ATTENTION(prefill_attention_f16_64, 64, kv::F16)
PREFILL_ATTENTION(prefill_attention_f16_96, 96, kv::F16)
PREFILL_ATTENTION(prefill_attention_f16_128, 128, kv::F16)
PREFILL_ATTENTION(prefill_attention_f16_256, 256, kv::F16)
PREFILL_ATTENTION(prefill_attention_i8_64, 64, kv::I8)
PREFILL_ATTENTION(prefill_attention_i8_96, 96, kv::I8)
PREFILL_ATTENTION(prefill_attention_i8_128, 128, kv::I8)
PREFILL_ATTENTION(prefill_attention_i8_256, 256, kv::I8)
