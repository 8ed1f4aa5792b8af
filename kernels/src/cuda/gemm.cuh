// The product of packed weights with many tokens, whose warps share the tokens.
//
// A block's eight warps are ROW_WARPS by COL_WARPS by TOKEN_WARPS: a warp has 64 outputs,
// TOKEN_TILES tiles of eight tokens, and every COL_WARPS-th tile of 32 inputs. A unit is
// ROW_WARPS * 64 outputs by TOKEN_WARPS * TOKEN_TILES * 8 tokens, a chunk COL_WARPS tiles of
// inputs; spans.cuh gives each block its share. Stages of shared memory hold a chunk each: tiles
// and scales of every row warp, and the tokens as load_matrices takes them. Weights become f16 in
// the registers of the warp that multiplies them.
#pragma once

#include "spans.cuh"
#include "weights.cuh"

namespace gemm {

const u32 WARPS = 8;
const u32 THREADS = WARPS * WARP;
// A tile of eight tokens by 32 inputs, f16.
const u32 TOKEN_TILE_BYTES = 512;
// Outputs of one token while they are turned to lie in memory order, padded against bank conflicts.
const u32 TURN_STRIDE = weights::TILE_ROWS + 4;
const u32 TURN_BYTES = 8 * TURN_STRIDE * 4;

template <class F, u32 ROWS, u32 COLS, u32 TOKENS, u32 TILES, u32 DEPTH> struct Plan {
    typedef F Format;
    static const u32 ROW_WARPS = ROWS, COL_WARPS = COLS, TOKEN_WARPS = TOKENS;
    static const u32 TOKEN_TILES = TILES, STAGES = DEPTH;
    static const u32 UNIT_ROW_BLOCKS = ROWS;
    static const u32 UNIT_TOKENS = TOKENS * TILES * 8;
    static const u32 QUANT_BYTES = ROWS * COLS * F::TILE_BYTES;
    static const u32 SCALE_BYTES = ROWS * COLS * F::SCALE_BYTES;
    static const u32 STAGE_BYTES =
        QUANT_BYTES + SCALE_BYTES + COLS * TOKENS * TILES * TOKEN_TILE_BYTES;
    // Sums of a lane.
    static const u32 SUMS = weights::QUARTERS * TILES * 4;
    // Shared memory before the stages: to gather sums, then to turn outputs.
    static const u32 GATHER_BYTES = COLS / 2 * ROWS * TOKENS * SUMS * WARP * 4;
    static const u32 BOARD_BYTES =
        GATHER_BYTES > WARPS * TURN_BYTES ? GATHER_BYTES : WARPS * TURN_BYTES;
    static_assert(ROWS * COLS * TOKENS == WARPS, "eight warps");
};

template <class P> struct Sums {
    float values[weights::QUARTERS][P::TOKEN_TILES][4];

    DEVICE void clear() {
        for (u32 quarter = 0; quarter < weights::QUARTERS; quarter++) {
            for (u32 tile = 0; tile < P::TOKEN_TILES; tile++) {
                for (u32 part = 0; part < 4; part++) {
                    values[quarter][tile][part] = 0.0f;
                }
            }
        }
    }

    // Sums lie in memory as lanes hold them: sum after sum, 32 lanes side by side.
    template <class Visit> DEVICE void each(Visit visit) {
#pragma unroll
        for (u32 quarter = 0; quarter < weights::QUARTERS; quarter++) {
#pragma unroll
            for (u32 tile = 0; tile < P::TOKEN_TILES; tile++) {
#pragma unroll
                for (u32 part = 0; part < 4; part++) {
                    visit(values[quarter][tile][part],
                          (quarter * P::TOKEN_TILES + tile) * 4 + part);
                }
            }
        }
    }
};

// Where a warp stands in the block.
template <class P> struct Place {
    u32 row, col, token, lane, warp;

    DEVICE Place() {
        warp = thread_id() / WARP;
        lane = thread_id() % WARP;
        row = warp % P::ROW_WARPS;
        col = warp / P::ROW_WARPS % P::COL_WARPS;
        token = warp / P::ROW_WARPS / P::COL_WARPS;
    }
};

// Fills a stage with a chunk: what lies beyond the matrix or the tokens becomes zero.
template <class P>
DEVICE void fetch(u8 *stage, const weights::Packed &matrix, const u16 *x, u32 tokens,
                  u32 row_block, u32 first_token, u32 first_tile) {
    typedef typename P::Format Format;
    const u32 tile_quads = Format::TILE_BYTES / 16, scale_quads = Format::SCALE_BYTES / 16;
#pragma unroll
    for (u32 quad = thread_id(); quad < P::QUANT_BYTES / 16; quad += THREADS) {
        const u32 row = row_block + quad / (tile_quads * P::COL_WARPS);
        const u32 tile = first_tile + quad / tile_quads % P::COL_WARPS;
        const bool there = row < matrix.row_blocks() && tile < matrix.tiles();
        const u8 *from = there ? matrix.tile<Format>(row, tile) : matrix.quants;
        copy_async(stage + quad * 16, from + quad % tile_quads * 16, there);
    }
    stage += P::QUANT_BYTES;
    for (u32 quad = thread_id(); quad < P::SCALE_BYTES / 16; quad += THREADS) {
        const u32 row = row_block + quad / (scale_quads * P::COL_WARPS);
        const u32 tile = first_tile + quad / scale_quads % P::COL_WARPS;
        const bool there = row < matrix.row_blocks() && tile < matrix.tiles();
        const u8 *from = there ? matrix.scale<Format>(row, tile) : matrix.scales;
        copy_async(stage + quad * 16, from + quad % scale_quads * 16, there);
    }
    stage += P::SCALE_BYTES;
    const u32 token_tiles = P::TOKEN_WARPS * P::TOKEN_TILES;
#pragma unroll
    for (u32 quad = thread_id(); quad < P::COL_WARPS * token_tiles * 32; quad += THREADS) {
        const u32 token = first_token + quad / 32 % token_tiles * 8 + quad % 8;
        const u32 tile = first_tile + quad / 32 / token_tiles;
        const bool there = token < tokens && tile < matrix.tiles();
        const u16 *from =
            x + (there ? (u64)token * matrix.cols + tile * weights::TILE_COLS + quad / 8 % 4 * 8
                       : 0);
        copy_async(stage + quad * 16, from, there);
    }
}

// Adds the products of a warp's tile and its tokens.
template <class P> DEVICE void multiply(const u8 *stage, const Place<P> &place, Sums<P> &sums) {
    typedef typename P::Format Format;
    const u32 index = place.row * P::COL_WARPS + place.col;
    typename Format::Share tile;
    tile.load(stage + index * Format::TILE_BYTES,
              stage + P::QUANT_BYTES + index * Format::SCALE_BYTES, place.lane);
    const u8 *tokens = stage + P::QUANT_BYTES + P::SCALE_BYTES +
                       (place.col * P::TOKEN_WARPS + place.token) * P::TOKEN_TILES *
                           TOKEN_TILE_BYTES;
    u32 b[P::TOKEN_TILES][4];
#pragma unroll
    for (u32 token_tile = 0; token_tile < P::TOKEN_TILES; token_tile++) {
        load_matrices(b[token_tile], tokens + token_tile * TOKEN_TILE_BYTES + place.lane * 16);
    }
#pragma unroll
    for (u32 step = 0; step < weights::STEPS; step++) {
#pragma unroll
        for (u32 quarter = 0; quarter < weights::QUARTERS; quarter++) {
            u32 a[4];
            tile.fragment(quarter, step, a);
#pragma unroll
            for (u32 token_tile = 0; token_tile < P::TOKEN_TILES; token_tile++) {
                multiply_add(sums.values[quarter][token_tile], a, b[token_tile][2 * step],
                             b[token_tile][2 * step + 1]);
            }
        }
    }
}

// Adds up the warps that share outputs, in a fixed order; those of column 0 hold the totals.
template <class P> DEVICE void gather(float *board, const Place<P> &place, Sums<P> &sums) {
    for (u32 half = P::COL_WARPS / 2; half > 0; half /= 2) {
        float *own = board + ((place.token * P::ROW_WARPS + place.row) * half + place.col % half) *
                                 P::SUMS * WARP;
        if (place.col >= half && place.col < 2 * half) {
            sums.each([&](float &sum, u32 at) { own[at * WARP + place.lane] = sum; });
        }
        sync_block();
        if (place.col < half) {
            sums.each([&](float &sum, u32 at) { sum += own[at * WARP + place.lane]; });
        }
        sync_block();
    }
}

// Writes a warp's totals, each token's outputs side by side.
template <class P>
DEVICE void write(float *turn, const Place<P> &place, const Sums<P> &sums, const Output &output,
                  u32 tokens, u32 first_row, u32 first_token) {
    const u32 row = first_row + place.row * weights::TILE_ROWS;
#pragma unroll
    for (u32 token_tile = 0; token_tile < P::TOKEN_TILES; token_tile++) {
        for (u32 quarter = 0; quarter < weights::QUARTERS; quarter++) {
            for (u32 part = 0; part < 4; part++) {
                const u32 token = place.lane % 4 * 2 + part % 2;
                turn[token * TURN_STRIDE + quarter * 16 + place.lane / 4 + part / 2 * 8] =
                    sums.values[quarter][token_tile][part];
            }
        }
        sync_warp();
        const u32 base = first_token + (place.token * P::TOKEN_TILES + token_tile) * 8;
        for (u32 token = 0; token < 8; token++) {
            output.write_pair(base + token, tokens, row + place.lane * 2,
                              turn[token * TURN_STRIDE + place.lane * 2],
                              turn[token * TURN_STRIDE + place.lane * 2 + 1]);
        }
        sync_warp();
    }
}

// What a block knows of its work.
struct Work {
    u32 token_units, unit_chunks;
    Spans spans;

    template <class P>
    DEVICE Work(const weights::Packed &matrix, u32 tokens, P *)
        : spans(0, 1) {
        token_units = (tokens + P::UNIT_TOKENS - 1) / P::UNIT_TOKENS;
        unit_chunks = (matrix.tiles() + P::COL_WARPS - 1) / P::COL_WARPS;
        const u32 row_units =
            (matrix.row_blocks() + P::UNIT_ROW_BLOCKS - 1) / P::UNIT_ROW_BLOCKS;
        spans = Spans(row_units * token_units, unit_chunks);
    }
};

// Finishes a unit: adds up warps and blocks, writes what is whole.
template <class P>
DEVICE void finish(const Work &work, u32 unit, u8 *shared, const Place<P> &place, Sums<P> &sums,
                   u32 tokens, float *workspace, u32 *counters, u32 *flag, const Output &output) {
    const u32 first = work.spans.first_owner(unit), last = work.spans.last_owner(unit);
    float *board = (float *)shared;
    gather(board, place, sums);
    const u32 part_warp = place.token * P::ROW_WARPS + place.row;
    const u32 unit_sums = P::ROW_WARPS * P::TOKEN_WARPS * P::SUMS * WARP;
    bool whole = true;
    if (first != last) {
        const u64 at = part_warp * P::SUMS * WARP + place.lane;
        if (place.col == 0) {
            float *part = workspace + (u64)work.spans.slot(block_x(), unit) * unit_sums + at;
            sums.each([&](float &sum, u32 index) { part[index * WARP] = sum; });
        }
        whole = last_to_arrive(counters + unit, last - first + 1, flag);
        if (whole && place.col == 0) {
            sums.clear();
            for (u32 owner = first; owner <= last; owner++) {
                const float *part =
                    workspace + (u64)work.spans.slot(owner, unit) * unit_sums + at;
                sums.each([&](float &sum, u32 index) { sum += load_fresh(part + index * WARP); });
            }
        }
    }
    if (whole && place.col == 0) {
        write(board + place.warp * TURN_BYTES / 4, place, sums, output, tokens,
              unit / work.token_units * P::UNIT_ROW_BLOCKS * weights::TILE_ROWS,
              unit % work.token_units * P::UNIT_TOKENS);
    }
    sync_block();
}

template <class P>
DEVICE void product(const weights::Packed &matrix, const u16 *x, u32 tokens, float *workspace,
                    u32 *counters, const Output &output, u8 *shared) {
    SHARED u32 flag;
    release_successor();
    wait_for_predecessor();
    const Place<P> place;
    const Work work(matrix, tokens, (P *)nullptr);
    u8 *stages = shared + P::BOARD_BYTES;
    const u32 begin = work.spans.begin(block_x());
    const u32 count = work.spans.begin(block_x() + 1) - begin;
    u32 unit = begin / work.unit_chunks, chunk = begin % work.unit_chunks;
    u32 next_unit = unit, next_chunk = chunk, fetched = 0;
    const auto fetch_next = [&]() {
        if (fetched < count) {
            fetch<P>(stages + fetched % P::STAGES * P::STAGE_BYTES, matrix, x, tokens,
                     next_unit / work.token_units * P::UNIT_ROW_BLOCKS,
                     next_unit % work.token_units * P::UNIT_TOKENS, next_chunk * P::COL_WARPS);
            next_chunk += 1;
            if (next_chunk == work.unit_chunks) {
                next_chunk = 0;
                next_unit += 1;
            }
        }
        copy_async_commit();
        fetched += 1;
    };
    for (u32 stage = 0; stage + 1 < P::STAGES; stage++) {
        fetch_next();
    }
    for (u32 done = 0; done < count;) {
        const u32 end = done + lesser(work.unit_chunks - chunk, count - done);
        Sums<P> sums;
        sums.clear();
        for (; done < end; done++) {
            copy_async_wait<P::STAGES - 2>();
            // Everybody's copies have arrived, and everybody is done with the stage that is
            // refilled.
            sync_block();
            fetch_next();
            multiply(stages + done % P::STAGES * P::STAGE_BYTES, place, sums);
        }
        finish(work, unit, shared, place, sums, tokens, workspace, counters, &flag, output);
        chunk = 0;
        unit += 1;
    }
}

} // namespace gemm

// One entry point. `workspace` and `counters` are as product.rs sizes them; the counters are zero
// before and after.
#define GEMM_ENTRY(name, format, row_warps, col_warps, token_warps, token_tiles, stages, blocks)   \
    KERNEL(gemm::THREADS, blocks)                                                                  \
    name(const u8 *quants, const u8 *scales, u32 rows, u32 cols, u32 group_shift, const u16 *x,    \
         u32 tokens, void *out, const float *bias, u32 store, float *workspace, u32 *counters) {   \
        typedef gemm::Plan<weights::format, row_warps, col_warps, token_warps, token_tiles,        \
                           stages>                                                                 \
            P;                                                                                     \
        SHARED_DYNAMIC(shared);                                                                    \
        const weights::Packed matrix = {quants, scales, rows, cols, group_shift};                  \
        const Output output = {out, bias, rows, store};                                            \
        gemm::product<P>(matrix, x, tokens, workspace, counters, output, shared);                  \
    }
