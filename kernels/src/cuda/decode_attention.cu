// Attention of one new token for each sequence over its paged keys and values.
//
//   out[s][h] = softmax(q[s][h] K[s][h / group]^T * scale) V[s][h / group]
//
// q [seqs][heads][dim] f16; tables [seqs][blocks_max] u32; contexts [seqs] u32, tokens that a
// sequence sees; keys and values as kv_layout.rs says; out [seqs][heads * dim] f16. A context of
// zero gives zeros.
//
// Grouped queries: all query heads of a key head are rows of one 16-row product, so keys and
// values are read once. Idea: flash-decoding (Dao et al. 2023) splits the context: keys are counted
// in units, and the units of all sequences and key heads in one sequence are dealt to the blocks
// in equal runs (stream-K, Osama et al. 2023). So the grid does not depend on contexts, which stay
// on the device for a recorded graph, and one long sequence among short ones occupies all
// multiprocessors. A block works on the part of its run that belongs to one key head, a *piece*;
// its warps take turns at the keys, each with its own pipeline of copies, and add up through
// shared memory. Pieces of one key head are merged in order by the last of their blocks to finish.
//
// Bytes: keys and values once, and per block at most two pieces of group * (dim + 2) f32.
// Operations: 4 * heads * dim for each token of context.
#include "online_softmax.cuh"

namespace decode_attention {

const u32 ROWS = 16;

// How a block is laid out. About 8 KiB are copied at a time, and two such steps are on their way
// while a warp works on the third: 48 to 64 KiB a block, where some 25 KiB a multiprocessor keep
// an H100's memory busy.
template <u32 DIM, typename KIND> struct Plan {
    static const u32 ROW = DIM * KIND::BYTES;
    static const u32 KEYS = ROW >= 192 ? 16 : 32;
    static const u32 STAGES = 3;
    static const u32 WARPS = ROW >= 512 ? 2 : 4;
    static const u32 THREADS = WARPS * WARP;
    // Keys that blocks are dealt by: one step of each warp.
    static const u32 UNIT = KEYS * WARPS;
    static const u32 STAGE_BYTES = KEYS * 2 * (ROW + KIND::SCALE);
    // Rows of sums in shared memory are this many f32 apart: in other banks.
    static const u32 SUMS_STRIDE = DIM + 8;
};

struct Operands {
    kv::Cache cache;
    const u16 *q;
    const u32 *contexts;
    u16 *out;
    // Finished pieces of each key head of each sequence: zero between launches.
    u32 *arrivals;
    float *pieces;
    u32 seqs;
    u32 group;
    float scale;
};

// What a block does at a time: keys from `begin` to `end` of one key head.
struct Piece {
    u32 seq;
    u32 head;
    u32 begin;
    u32 end;
};

// === Dealing units to blocks ===

template <u32 UNIT> DEVICE u32 units_of(const Operands &op, u32 seq) {
    const u32 context = kv::clamp_context(op.cache, op.contexts[seq]);
    // An empty one has a unit too, whose block writes the zeros.
    return context == 0 ? 1 : (context + UNIT - 1) / UNIT;
}

// Equal runs of `total` units: the first `longer` blocks have one more than the others.
struct Deal {
    u32 blocks;
    u32 each;
    u32 longer;
};

DEVICE Deal deal_units(u32 total, u32 blocks) {
    Deal deal;
    deal.blocks = lesser(total, blocks);
    deal.each = total / deal.blocks;
    deal.longer = total % deal.blocks;
    return deal;
}

DEVICE u32 first_unit(const Deal &deal, u32 block) {
    return block * deal.each + lesser(block, deal.longer);
}

DEVICE u32 block_of(const Deal &deal, u32 unit) {
    const u32 in_longer = deal.longer * (deal.each + 1);
    return unit < in_longer ? unit / (deal.each + 1)
                            : deal.longer + (unit - in_longer) / deal.each;
}

// Where a block starts: a sequence, and a unit counted from that sequence's first.
struct Start {
    Deal deal;
    u32 seq;
    u32 unit;
};

// Every thread counts the units of some neighbouring sequences; the one among whose the block's
// first unit is looks for it. `scratch` is shared memory.
template <typename PLAN> DEVICE Start find_start(const Operands &op, u32 *scratch) {
    const u32 lane = thread_id() % WARP, warp = thread_id() / WARP;
    const u32 each = (op.seqs + PLAN::THREADS - 1) / PLAN::THREADS;
    const u32 first = lesser(thread_id() * each, op.seqs);
    const u32 end = lesser(first + each, op.seqs);
    u32 own = 0;
    for (u32 seq = first; seq < end; seq++) {
        own += units_of<PLAN::UNIT>(op, seq) * op.cache.kv_heads;
    }
    u32 before = own;
    for (u32 distance = 1; distance < WARP; distance *= 2) {
        const u32 other = shuffle(before, lane >= distance ? lane - distance : lane);
        before += lane >= distance ? other : 0;
    }
    if (lane == WARP - 1) {
        scratch[warp] = before;
    }
    sync_block();
    u32 total = 0;
    for (u32 other = 0; other < PLAN::WARPS; other++) {
        before += other < warp ? scratch[other] : 0;
        total += scratch[other];
    }
    before -= own;
    Start start;
    start.deal = deal_units(total, grid_x());
    u32 unit = first_unit(start.deal, lesser(block_x(), start.deal.blocks));
    if (unit >= before && unit < before + own) {
        unit -= before;
        u32 seq = first;
        u32 units = units_of<PLAN::UNIT>(op, seq) * op.cache.kv_heads;
        while (unit >= units) {
            unit -= units;
            seq++;
            units = units_of<PLAN::UNIT>(op, seq) * op.cache.kv_heads;
        }
        scratch[PLAN::WARPS] = seq;
        scratch[PLAN::WARPS + 1] = unit;
    }
    sync_block();
    start.seq = scratch[PLAN::WARPS];
    start.unit = scratch[PLAN::WARPS + 1];
    sync_block();
    return start;
}

// === Keys and values into shared memory ===

// One warp's steps through a piece: KEYS keys each, the warps taking turns.
template <u32 DIM, typename KIND> struct Steps {
    typedef Plan<DIM, KIND> PLAN;
    static const u32 GRANULES = PLAN::KEYS / kv::GRANULE;

    u8 *stages;
    const u32 *table;
    u32 head;
    // The next step to be copied: its first key, its stage, and where its granules are.
    u32 key;
    u32 stage;
    u32 rows[GRANULES];
};

template <u32 DIM, typename KIND>
DEVICE void find_rows(Steps<DIM, KIND> &steps, const kv::Cache &cache, u32 end) {
#pragma unroll
    for (u32 i = 0; i < Steps<DIM, KIND>::GRANULES; i++) {
        const u32 token = steps.key + i * kv::GRANULE;
        steps.rows[i] =
            token < end ? kv::granule_row(cache, steps.table, steps.head, token / kv::GRANULE) : 0;
    }
}

// Starts the copies of the next step, if there is one, and looks up the rows of the one after it,
// so that these wait for no load.
template <u32 DIM, typename KIND>
DEVICE void copy_step(Steps<DIM, KIND> &steps, const kv::Cache &cache, u32 end, u32 lane) {
    typedef Plan<DIM, KIND> PLAN;
    if (steps.key < end) {
        u8 *keys = steps.stages + steps.stage * PLAN::STAGE_BYTES;
        u8 *values = keys + PLAN::KEYS * PLAN::ROW;
        float *key_scales = (float *)(values + PLAN::KEYS * PLAN::ROW);
        float *value_scales = key_scales + PLAN::KEYS;
#pragma unroll
        for (u32 i = 0; i < Steps<DIM, KIND>::GRANULES; i++) {
            const u32 token = steps.key + i * kv::GRANULE;
            const u32 valid = token < end ? end - token : 0;
            const u64 byte = (u64)steps.rows[i] * PLAN::ROW;
            const u32 row = i * kv::GRANULE;
            kv::copy_rows<PLAN::ROW>(keys, row, cache.keys + byte, valid, lane);
            kv::copy_rows<PLAN::ROW>(values, row, cache.values + byte, valid, lane);
            if (KIND::SCALE > 0) {
                kv::copy_scales(key_scales + row, cache.key_scales + steps.rows[i], valid, lane);
                kv::copy_scales(value_scales + row, cache.value_scales + steps.rows[i], valid,
                                lane);
            }
        }
        steps.key += PLAN::UNIT;
        steps.stage = steps.stage + 1 == PLAN::STAGES ? 0 : steps.stage + 1;
        find_rows(steps, cache, end);
    }
    copy_async_commit();
}

template <u32 DIM, typename KIND>
DEVICE attention::Tile tile_at(u8 *stage, u32 keys_valid) {
    typedef Plan<DIM, KIND> PLAN;
    attention::Tile tile;
    tile.keys = stage;
    tile.values = stage + PLAN::KEYS * PLAN::ROW;
    tile.key_scales = (const float *)(tile.values + PLAN::KEYS * PLAN::ROW);
    tile.value_scales = tile.key_scales + PLAN::KEYS;
    tile.keys_valid = keys_valid;
    return tile;
}

// === One piece ===

// The queries of a key head as left operands, in the order in which key_fragments takes
// dimensions; rows beyond the group are zeros.
template <u32 DIM>
DEVICE void load_queries(kv::F16, u32 (&q)[DIM / 16][4], const u16 *head, u32 group, u32 lane) {
#pragma unroll
    for (u32 step = 0; step < DIM / 16; step++) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const u32 row = lane / 4 + i % 2 * 8;
            const u16 *at = head + row * DIM + step * 16 + i / 2 * 8 + lane % 4 * 2;
            q[step][i] = row < group ? *(const u32 *)at : 0;
        }
    }
}

template <u32 DIM>
DEVICE void load_queries(kv::I8, u32 (&q)[DIM / 16][4], const u16 *head, u32 group, u32 lane) {
#pragma unroll
    for (u32 step = 0; step < DIM / 16; step++) {
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 row = lane / 4 + half * 8;
            Pair four = {0, 0};
            if (row < group) {
                four = *(const Pair *)(head + row * DIM + step * 16 + lane % 4 * 4);
            }
            q[step][half] = four.x;
            q[step][half + 2] = four.y;
        }
    }
}

// A warp's share of a piece.
template <u32 DIM, typename KIND>
DEVICE void attend_piece(const Operands &op, const Piece &piece,
                         attention::Rows<DIM, 1> &rows, u8 *stages) {
    typedef Plan<DIM, KIND> PLAN;
    const u32 lane = thread_id() % WARP, warp = thread_id() / WARP;
    Steps<DIM, KIND> steps;
    steps.stages = stages + warp * PLAN::STAGES * PLAN::STAGE_BYTES;
    steps.table = op.cache.tables + (u64)piece.seq * op.cache.blocks_max;
    steps.head = piece.head;
    steps.key = piece.begin + warp * PLAN::KEYS;
    steps.stage = 0;
    find_rows(steps, op.cache, piece.end);
#pragma unroll
    for (u32 i = 0; i + 1 < PLAN::STAGES; i++) {
        copy_step(steps, op.cache, piece.end, lane);
    }
    u32 q[DIM / 16][4];
    const u64 head = (u64)piece.seq * op.cache.kv_heads + piece.head;
    load_queries<DIM>(KIND(), q, op.q + head * op.group * DIM, op.group, lane);
    const auto queries = [&](u32(&a)[4], u32 step, u32) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            a[i] = q[step][i];
        }
    };
    u32 stage = 0;
    for (u32 key = piece.begin + warp * PLAN::KEYS; key < piece.end; key += PLAN::UNIT) {
        copy_async_wait<PLAN::STAGES - 2>();
        // All lanes' copies are there, and all lanes are done with the stage that is copied to.
        sync_warp();
        copy_step(steps, op.cache, piece.end, lane);
        const u32 valid = lesser(piece.end - key, PLAN::KEYS);
        const auto seen = [=](u32, u32) { return (i32)valid; };
        attention::attend<DIM, KIND, 1, PLAN::KEYS>(
            rows, queries, tile_at<DIM, KIND>(steps.stages + stage * PLAN::STAGE_BYTES, valid),
            seen, valid < PLAN::KEYS, op.scale, lane);
        stage = stage + 1 == PLAN::STAGES ? 0 : stage + 1;
    }
    copy_async_wait<0>();
    attention::sum_columns(rows);
}

// A warp's rows in shared memory: [ROWS] largest, [ROWS] sums, [group][SUMS_STRIDE] out.
template <u32 DIM, typename KIND> DEVICE float *warp_sums(u8 *shared, u32 group, u32 warp) {
    return (float *)shared + warp * (2 * ROWS + group * Plan<DIM, KIND>::SUMS_STRIDE);
}

template <u32 DIM, typename KIND>
DEVICE void store_rows(const attention::Rows<DIM, 1> &rows, u8 *shared, u32 group) {
    const u32 lane = thread_id() % WARP, warp = thread_id() / WARP;
    float *sums = warp_sums<DIM, KIND>(shared, group, warp);
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        const u32 row = lane / 4 + half * 8;
        if (row < group) {
            float *out = sums + 2 * ROWS + row * Plan<DIM, KIND>::SUMS_STRIDE;
            if (lane % 4 == 0) {
                sums[row] = rows.largest[0][half];
                sums[ROWS + row] = rows.sum[0][half];
            }
#pragma unroll
            for (u32 n = 0; n < DIM / 8; n++) {
                out[kv::dimension_of(KIND(), n, 0, lane)] = rows.out[0][n][half * 2];
                out[kv::dimension_of(KIND(), n, 1, lane)] = rows.out[0][n][half * 2 + 1];
            }
        }
    }
}

// === Adding up ===

// What is divided by the sum; a row that saw no key is zeros.
DEVICE float inverse_sum(float sum) { return sum > 0.0f ? 1.0f / sum : 0.0f; }

// The warps' rows added up: to `out` divided by their sums if the piece is a whole key head, else
// to `partial`: [ROWS] largest, [ROWS] sums, [group][DIM].
template <u32 DIM, typename KIND>
DEVICE void add_warps(u8 *shared, u32 group, u16 *out, float *partial) {
    typedef Plan<DIM, KIND> PLAN;
    for (u32 i = thread_id(); i < group * DIM; i += PLAN::THREADS) {
        const u32 row = i / DIM, dim = i % DIM;
        float largest = attention::LOWEST;
#pragma unroll
        for (u32 warp = 0; warp < PLAN::WARPS; warp++) {
            largest = larger(largest, warp_sums<DIM, KIND>(shared, group, warp)[row]);
        }
        float sum = 0.0f, value = 0.0f;
#pragma unroll
        for (u32 warp = 0; warp < PLAN::WARPS; warp++) {
            const float *sums = warp_sums<DIM, KIND>(shared, group, warp);
            const float weight = exp2_fast(sums[row] - largest);
            sum += weight * sums[ROWS + row];
            value += weight * sums[2 * ROWS + row * PLAN::SUMS_STRIDE + dim];
        }
        if (out) {
            out[i] = f32_to_f16(value * inverse_sum(sum));
        } else {
            partial[2 * ROWS + i] = value;
            if (dim == 0) {
                partial[row] = largest;
                partial[ROWS + row] = sum;
            }
        }
    }
}

// Where a block leaves a piece. It has at most two that are not whole: its first, which then does
// not start a key head, and its last, which does.
template <u32 DIM> DEVICE float *piece_at(const Operands &op, u32 block, u32 starts) {
    const u64 len = 2 * ROWS + op.group * DIM;
    return op.pieces + ((u64)block * 2 + starts) * len;
}

// The pieces of one key head added up, in order. `weights` is [pieces][ROWS] in shared memory.
template <u32 DIM, typename KIND>
DEVICE void add_pieces(const Operands &op, u32 first_block, u32 pieces, float *weights, u16 *out) {
    typedef Plan<DIM, KIND> PLAN;
    const u32 lane = thread_id() % WARP, warp = thread_id() / WARP;
    for (u32 row = warp; row < op.group; row += PLAN::WARPS) {
        float largest = attention::LOWEST;
        for (u32 i = lane; i < pieces; i += WARP) {
            const float of_piece = load_fresh(piece_at<DIM>(op, first_block + i, i == 0) + row);
            weights[i * ROWS + row] = of_piece;
            largest = larger(largest, of_piece);
        }
        largest = warp_max(largest);
        float sum = 0.0f;
        for (u32 i = lane; i < pieces; i += WARP) {
            const float weight = exp2_fast(weights[i * ROWS + row] - largest);
            weights[i * ROWS + row] = weight;
            const float *piece = piece_at<DIM>(op, first_block + i, i == 0);
            sum += weight * load_fresh(piece + ROWS + row);
        }
        const float inverse = inverse_sum(warp_sum(sum));
        for (u32 i = lane; i < pieces; i += WARP) {
            weights[i * ROWS + row] *= inverse;
        }
    }
    sync_block();
    for (u32 i = thread_id(); i < op.group * DIM; i += PLAN::THREADS) {
        const u32 row = i / DIM;
        float value = 0.0f;
#pragma unroll 8
        for (u32 piece = 0; piece < pieces; piece++) {
            const float *at = piece_at<DIM>(op, first_block + piece, piece == 0);
            value += weights[piece * ROWS + row] * load_fresh(at + 2 * ROWS + i);
        }
        out[i] = f32_to_f16(value);
    }
}

// Writes what a piece gives: the output if it is a whole key head, otherwise the piece, and the
// output by the block that finds all others' pieces there. `unit` is the key head's first.
template <u32 DIM, typename KIND>
DEVICE void finish_piece(const Operands &op, const Piece &piece, const Deal &deal, u32 unit,
                         u32 units, u8 *shared) {
    typedef Plan<DIM, KIND> PLAN;
    const u64 head = (u64)piece.seq * op.cache.kv_heads + piece.head;
    u16 *out = op.out + head * op.group * DIM;
    const u32 first_block = block_of(deal, unit);
    const u32 pieces = block_of(deal, unit + units - 1) - first_block + 1;
    if (pieces == 1) {
        add_warps<DIM, KIND>(shared, op.group, out, 0);
        return;
    }
    float *partial = piece_at<DIM>(op, block_x(), block_x() == first_block);
    add_warps<DIM, KIND>(shared, op.group, 0, partial);
    fence_device();
    sync_block();
    u32 *last = (u32 *)shared;
    if (thread_id() == 0) {
        *last = atomic_add(op.arrivals + head, 1) == pieces - 1;
    }
    sync_block();
    if (*last) {
        fence_device();
        if (thread_id() == 0) {
            op.arrivals[head] = 0;
        }
        add_pieces<DIM, KIND>(op, first_block, pieces, (float *)(shared + 16), out);
    }
}

template <u32 DIM, typename KIND> DEVICE void decode(const Operands &op, u8 *shared) {
    typedef Plan<DIM, KIND> PLAN;
    const Start start = find_start<PLAN>(op, (u32 *)shared);
    if (block_x() >= start.deal.blocks) {
        return;
    }
    u32 unit = first_unit(start.deal, block_x());
    const u32 end = first_unit(start.deal, block_x() + 1);
    u32 seq = start.seq;
    u32 within = start.unit;
    while (unit < end) {
        const u32 units = units_of<PLAN::UNIT>(op, seq);
        const u32 context = kv::clamp_context(op.cache, op.contexts[seq]);
        const u32 skipped = within % units;
        const u32 taken = lesser(units - skipped, end - unit);
        Piece piece;
        piece.seq = seq;
        piece.head = within / units;
        piece.begin = skipped * PLAN::UNIT;
        piece.end = lesser((skipped + taken) * PLAN::UNIT, context);
        attention::Rows<DIM, 1> rows;
        attention::start_rows(rows);
        attend_piece<DIM, KIND>(op, piece, rows, shared);
        // The stages become room for sums once all warps have left them.
        sync_block();
        store_rows<DIM, KIND>(rows, shared, op.group);
        sync_block();
        finish_piece<DIM, KIND>(op, piece, start.deal, unit - skipped, units, shared);
        sync_block();
        unit += taken;
        within += taken;
        if (within == units * op.cache.kv_heads) {
            seq++;
            within = 0;
        }
    }
}

} // namespace decode_attention

// `workspace` is u32 arrivals [seqs * kv_heads], padded to a multiple of 4, then the pieces of
// each block; its arrivals are zero before and after.
#define DECODE_ATTENTION(name, dim, kind)                                                          \
    KERNEL((decode_attention::Plan<dim, kind>::THREADS), 2)                                        \
    name(const u16 *q, const u8 *keys, const u8 *values, const float *key_scales,                  \
         const float *value_scales, const u32 *tables, const u32 *contexts, u16 *out,              \
         u32 *workspace, u32 seqs, u32 group, u32 kv_heads, u32 blocks, u32 blocks_max,            \
         u32 block_size, float scale_log2) {                                                       \
        SHARED_DYNAMIC(shared);                                                                    \
        decode_attention::Operands op;                                                             \
        op.cache = {keys,       values, key_scales, value_scales, tables,                          \
                    blocks_max, blocks, block_size, kv_heads};                                     \
        op.q = q;                                                                                  \
        op.contexts = contexts;                                                                    \
        op.out = out;                                                                              \
        op.arrivals = workspace;                                                                   \
        op.pieces = (float *)(workspace + (seqs * kv_heads + 3) / 4 * 4);                          \
        op.seqs = seqs;                                                                            \
        op.group = group;                                                                          \
        op.scale = scale_log2;                                                                     \
        decode_attention::decode<dim, kind>(op, shared);                                           \
    }

DECODE_ATTENTION(decode_attention_f16_64, 64, kv::F16)
DECODE_ATTENTION(decode_attention_f16_96, 96, kv::F16)
DECODE_ATTENTION(decode_attention_f16_128, 128, kv::F16)
DECODE_ATTENTION(decode_attention_f16_256, 256, kv::F16)
DECODE_ATTENTION(decode_attention_i8_64, 64, kv::I8)
DECODE_ATTENTION(decode_attention_i8_96, 96, kv::I8)
DECODE_ATTENTION(decode_attention_i8_128, 128, kv::I8)
DECODE_ATTENTION(decode_attention_i8_256, 256, kv::I8)
