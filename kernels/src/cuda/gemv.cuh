// The product of packed weights with 1 to 16 tokens, which reads weights as fast as memory gives
// them.
//
// A block of eight warps takes a span of chunks (spans.cuh): a chunk is eight neighbouring tiles of
// 64 outputs by 32 inputs, one a warp. Every warp has its own ring of stages in shared memory that
// asynchronous copies fill: tile, scales and the tokens' 32 inputs. A lane reads the quants that it
// copied itself, so warps wait for nobody until the outputs are done; then their eight sums are
// added in the order of the warps. How the sum is cut depends on the shape of the weights and the
// card alone: a token's outputs do not depend on its neighbours.
//
// Weights depend on no other kernel, so their first stages are fetched while the kernel before this
// one ends. Rings are so deep that no third block fits on a multiprocessor: blocks that begin while
// others end would else be spread unevenly.
//
// Bytes: the packed weights once, tokens * (2 cols + 2 to 4 rows). Operations: 2 tokens rows cols,
// done as for 8 or 16 tokens.
#pragma once

#include "spans.cuh"
#include "weights.cuh"

namespace gemv {

const u32 WARPS = 8;
const u32 THREADS = WARPS * WARP;
// Sums of one token, padded so that a warp's stores meet no bank twice.
const u32 SUM_STRIDE = weights::TILE_ROWS + 4;

// How the tokens lie in a stage: one, or full tiles of eight for the tensor core.
template <u32 TOKEN_TILES> struct Shape {
    static const bool SINGLE = TOKEN_TILES == 0;
    static const u32 TILES = SINGLE ? 1 : TOKEN_TILES;
    static const u32 STAGE_BYTES = SINGLE ? 64 : 512 * TOKEN_TILES;
};

template <class F, u32 TOKEN_TILES, u32 DEPTH> struct Plan {
    typedef F Format;
    typedef Shape<TOKEN_TILES> Tokens;
    static const u32 STAGES = DEPTH;
    static const u32 SCALES_AT = F::TILE_BYTES;
    static const u32 TOKENS_AT = SCALES_AT + F::SCALE_BYTES;
    static const u32 STAGE_BYTES = TOKENS_AT + Tokens::STAGE_BYTES;
    static const u32 BOARD_BYTES = WARPS * Tokens::TILES * 8 * SUM_STRIDE * 4;
};

// What a warp fetches next: its tiles of a span, one after the other. Addresses move by additions
// alone, because finding them anew for each tile would take as long as multiplying it.
template <class P> struct WeightFeed {
    typedef typename P::Format Format;
    const u8 *quants, *scales; // the lane's bytes of the next tile; its row block's scales
    u32 tile, tiles, unit_tiles, warp, lane, group_shift;
    i32 unit_step;  // from behind a unit's last chunk to the next unit
    u32 scale_step; // from a row block's scales to the next

    DEVICE WeightFeed(const weights::Packed &matrix, u32 unit, u32 chunk, u32 unit_chunks) {
        warp = thread_id() / WARP;
        lane = thread_id() % WARP;
        tile = chunk * WARPS + warp;
        tiles = matrix.tiles();
        unit_tiles = unit_chunks * WARPS;
        group_shift = matrix.group_shift;
        quants = matrix.tile<Format>(unit, tile) + lane * 16;
        scales = matrix.scale<Format>(unit, 0) + lane * 16;
        unit_step = (i32)(tiles - unit_tiles) * (i32)Format::TILE_BYTES;
        scale_step = matrix.groups() * Format::SCALE_BYTES;
    }

    // Fetches the next tile into a stage, if the chunk has one for this warp.
    DEVICE void fetch(u8 *stage) {
        if (tile < tiles) {
#pragma unroll
            for (u32 offset = 0; offset < Format::TILE_BYTES; offset += WARP * 16) {
                copy_async_stream(stage + lane * 16 + offset, quants + offset);
            }
            if (lane * 16 < Format::SCALE_BYTES) {
                copy_async(stage + P::SCALES_AT + lane * 16,
                           scales + (tile >> group_shift) * Format::SCALE_BYTES, true);
            }
        }
        quants += WARPS * Format::TILE_BYTES;
        tile += WARPS;
        if (tile >= unit_tiles) {
            tile = warp;
            quants += unit_step;
            scales += scale_step;
        }
    }
};

// Where a piece (8 inputs) of a token lies in its tile of eight tokens: as four matrices of 8
// tokens by 8 inputs, each of which load_matrices reads, and so that neither the copies of a
// token's four pieces nor the reading of a piece of eight tokens meet a bank twice.
DEVICE u32 piece_offset(u32 token, u32 piece) { return piece * 128 + (token ^ piece * 2) * 16; }

// The same for the tokens' inputs.
template <class P> struct TokenFeed {
    typedef typename P::Tokens Tokens;
    const u16 *x; // the lane's inputs of the first tile of tokens
    u64 step;     // from a tile of tokens to the next
    u32 tile, tiles, unit_tiles, warp, lane, tokens;

    DEVICE TokenFeed(const weights::Packed &matrix, const u16 *all, u32 count, u32 chunk,
                     u32 unit_chunks) {
        warp = thread_id() / WARP;
        lane = thread_id() % WARP;
        tile = chunk * WARPS + warp;
        tiles = matrix.tiles();
        unit_tiles = unit_chunks * WARPS;
        tokens = count;
        if constexpr (Tokens::SINGLE) {
            x = all + lane * 8;
        } else {
            x = all + lane / 4 * (u64)matrix.cols + lane % 4 * 8;
        }
        step = 8 * (u64)matrix.cols;
    }

    DEVICE void fetch(u8 *stage) {
        if (tile < tiles) {
            u8 *at = stage + P::TOKENS_AT;
            const u16 *from = x + tile * weights::TILE_COLS;
            if constexpr (Tokens::SINGLE) {
                if (lane < 4) {
                    copy_async(at + lane * 16, from, true);
                }
            } else {
                at += piece_offset(lane / 4, lane % 4);
#pragma unroll
                for (u32 token_tile = 0; token_tile < Tokens::TILES; token_tile++) {
                    const bool there = token_tile * 8 + lane / 4 < tokens;
                    copy_async(at + token_tile * 512, there ? from + token_tile * step : x, there);
                }
            }
        }
        copy_async_commit();
        tile += WARPS;
        if (tile >= unit_tiles) {
            tile = warp;
        }
    }
};

template <class P> struct Sums {
    float values[weights::QUARTERS][P::Tokens::TILES][4];

    // Adds the products of a stage's tile.
    DEVICE void multiply(const u8 *stage, u32 lane) {
        typename P::Format::Share tile;
        tile.load(stage, stage + P::SCALES_AT, lane);
        const u8 *inputs = stage + P::TOKENS_AT;
        u32 b[P::Tokens::TILES][4];
        if constexpr (P::Tokens::SINGLE) {
            // Only column 0 of the operand is a token, and only lanes 0 to 3 hold parts of it.
            for (u32 word = 0; word < 4; word++) {
                b[0][word] = lane < 4 ? ((const u32 *)inputs)[word * 4 + lane] : 0;
            }
        } else {
            for (u32 token_tile = 0; token_tile < P::Tokens::TILES; token_tile++) {
                load_matrices(b[token_tile],
                              inputs + token_tile * 512 + piece_offset(lane % 8, lane / 8));
            }
        }
#pragma unroll
        for (u32 quarter = 0; quarter < weights::QUARTERS; quarter++) {
#pragma unroll
            for (u32 step = 0; step < weights::STEPS; step++) {
                u32 a[4];
                tile.fragment(quarter, step, a);
#pragma unroll
                for (u32 token_tile = 0; token_tile < P::Tokens::TILES; token_tile++) {
                    multiply_add(values[quarter][token_tile], a, b[token_tile][2 * step],
                                 b[token_tile][2 * step + 1]);
                }
            }
        }
    }

    // Puts them into the warp's part of `board`.
    DEVICE void post(float *board, u32 warp, u32 lane) const {
        float *own = board + warp * P::Tokens::TILES * 8 * SUM_STRIDE;
#pragma unroll
        for (u32 quarter = 0; quarter < weights::QUARTERS; quarter++) {
#pragma unroll
            for (u32 token_tile = 0; token_tile < P::Tokens::TILES; token_tile++) {
#pragma unroll
                for (u32 part = 0; part < 4; part++) {
                    const u32 row = quarter * 16 + lane / 4 + part / 2 * 8;
                    const u32 token = token_tile * 8 + lane % 4 * 2 + part % 2;
                    own[token * SUM_STRIDE + row] = values[quarter][token_tile][part];
                }
            }
        }
    }
};

// The sum of an output over the warps, in their order.
template <u32 TILES> DEVICE float total_of(const float *board, u32 token, u32 row) {
    float total = 0.0f;
#pragma unroll
    for (u32 warp = 0; warp < WARPS; warp++) {
        total += board[(warp * TILES * 8 + token) * SUM_STRIDE + row];
    }
    return total;
}

// Writes the outputs of a unit, or leaves this block's part of them.
template <u32 TILES>
DEVICE void finish(const Spans &spans, u32 unit, const float *board, u32 tokens, float *workspace,
                   u32 *counters, u32 *flag, const Output &output) {
    const u32 first = spans.first_owner(unit), last = spans.last_owner(unit);
    const u32 unit_sums = TILES * 8 * weights::TILE_ROWS;
    float totals[unit_sums / THREADS];
#pragma unroll
    for (u32 turn = 0; turn < unit_sums / THREADS; turn++) {
        const u32 sum = turn * THREADS + thread_id();
        totals[turn] = total_of<TILES>(board, sum / weights::TILE_ROWS, sum % weights::TILE_ROWS);
    }
    if (first != last) {
        float *part = workspace + (u64)spans.slot(block_x(), unit) * unit_sums + thread_id();
#pragma unroll
        for (u32 turn = 0; turn < unit_sums / THREADS; turn++) {
            part[turn * THREADS] = totals[turn];
            totals[turn] = 0.0f;
        }
        if (!last_to_arrive(counters + unit, last - first + 1, flag)) {
            return;
        }
#pragma unroll 4
        for (u32 owner = first; owner <= last; owner++) {
            part = workspace + (u64)spans.slot(owner, unit) * unit_sums + thread_id();
#pragma unroll
            for (u32 turn = 0; turn < unit_sums / THREADS; turn++) {
                totals[turn] += load_fresh(part + turn * THREADS);
            }
        }
    }
#pragma unroll
    for (u32 turn = 0; turn < unit_sums / THREADS; turn++) {
        const u32 sum = turn * THREADS + thread_id();
        const u32 token = sum / weights::TILE_ROWS;
        const u32 row = unit * weights::TILE_ROWS + sum % weights::TILE_ROWS;
        if (token < tokens && row < output.rows) {
            output.write(token, row, totals[turn]);
        }
    }
}

template <class P>
DEVICE void product(const weights::Packed &matrix, const u16 *x, u32 tokens, float *workspace,
                    u32 *counters, const Output &output, u8 *shared) {
    SHARED u32 flag;
    const u32 warp = thread_id() / WARP, lane = thread_id() % WARP;
    float *board = (float *)shared;
    u8 *ring = shared + P::BOARD_BYTES + warp * P::STAGES * P::STAGE_BYTES;
    const u32 unit_chunks = (matrix.tiles() + WARPS - 1) / WARPS;
    const Spans spans(matrix.row_blocks(), unit_chunks);
    const u32 begin = spans.begin(block_x());
    const u32 count = spans.begin(block_x() + 1) - begin;
    u32 unit = begin / unit_chunks, chunk = begin % unit_chunks;
    WeightFeed<P> weight_feed(matrix, unit, chunk, unit_chunks);
    TokenFeed<P> token_feed(matrix, x, tokens, chunk, unit_chunks);
    for (u32 stage = 0; stage < lesser(count, P::STAGES); stage++) {
        weight_feed.fetch(ring + stage * P::STAGE_BYTES);
    }
    wait_for_predecessor();
    for (u32 stage = 0; stage < P::STAGES; stage++) {
        if (stage < count) {
            token_feed.fetch(ring + stage * P::STAGE_BYTES);
        } else {
            copy_async_commit();
        }
    }
    u8 *stage = ring;
    for (u32 done = 0; done < count;) {
        const u32 end = done + lesser(unit_chunks - chunk, count - done);
        Sums<P> sums = {};
        for (; done < end; done++, chunk++) {
            copy_async_wait<P::STAGES - 1>();
            sync_warp();
            if (chunk * WARPS + warp < matrix.tiles()) {
                sums.multiply(stage, lane);
            }
            sync_warp();
            if (done + P::STAGES < count) {
                weight_feed.fetch(stage);
                token_feed.fetch(stage);
            } else {
                copy_async_commit();
                // Nothing is left to fetch: the next kernel's weights may come.
                release_successor();
            }
            stage += P::STAGE_BYTES;
            stage = stage == ring + P::STAGES * P::STAGE_BYTES ? ring : stage;
        }
        sums.post(board, warp, lane);
        sync_block();
        finish<P::Tokens::TILES>(spans, unit, board, tokens, workspace, counters, &flag, output);
        sync_block();
        chunk = 0;
        unit += 1;
    }
}

} // namespace gemv

// One entry point. `workspace` and `counters` are as product.rs sizes them; the counters are zero
// before and after.
#define GEMV_ENTRY(name, format, token_tiles, stages)                                              \
    KERNEL(gemv::THREADS, 2)                                                                       \
    name(const u8 *quants, const u8 *scales, u32 rows, u32 cols, u32 group_shift, const u16 *x,    \
         u32 tokens, void *out, const float *bias, u32 store, float *workspace, u32 *counters) {   \
        SHARED_DYNAMIC(shared);                                                                    \
        const weights::Packed matrix = {quants, scales, rows, cols, group_shift};                  \
        const Output output = {out, bias, rows, store};                                            \
        gemv::product<gemv::Plan<weights::format, token_tiles, stages>>(                           \
            matrix, x, tokens, workspace, counters, output, shared);                               \
    }
