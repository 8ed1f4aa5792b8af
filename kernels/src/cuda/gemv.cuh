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
    static const u32 TOKENS = SINGLE ? 1 : 8 * TOKEN_TILES;
    static const u32 STAGE_BYTES = SINGLE ? 64 : 512 * TOKEN_TILES;
};

template <class Format, u32 TOKEN_TILES, u32 STAGES> struct Kernel {
    typedef Shape<TOKEN_TILES> Tokens;
    static const u32 STAGE_BYTES =
        Format::TILE_BYTES + Format::SCALE_BYTES + Tokens::STAGE_BYTES;

    const weights::Packed &matrix;
    const u16 *x;
    u32 tokens;
    u8 *ring;
    u32 warp, lane;

    // Fills a stage with tile `chunk * WARPS + warp` of a row block, if there is one.
    DEVICE void fetch(u32 stage, u32 row_block, u32 chunk) const {
        const u32 tile = chunk * WARPS + warp;
        if (tile < matrix.tiles()) {
            u8 *at = ring + stage * STAGE_BYTES;
            const u8 *quants = matrix.tile<Format>(row_block, tile);
            for (u32 offset = lane * 16; offset < Format::TILE_BYTES; offset += WARP * 16) {
                copy_async_stream(at + offset, quants + offset);
            }
            at += Format::TILE_BYTES;
            if (lane * 16 < Format::SCALE_BYTES) {
                copy_async(at + lane * 16, matrix.scale<Format>(row_block, tile) + lane * 16, true);
            }
            at += Format::SCALE_BYTES;
            fetch_tokens(at, tile);
        }
        copy_async_commit();
    }

    DEVICE void fetch_tokens(u8 *at, u32 tile) const {
        if constexpr (Tokens::SINGLE) {
            if (lane < 4) {
                copy_async(at + lane * 16, x + tile * weights::TILE_COLS + lane * 8, true);
            }
        } else {
            // Four matrices of 8 tokens by 8 inputs, as load_matrices takes them.
            for (u32 tokens_tile = 0; tokens_tile < Tokens::TILES; tokens_tile++) {
                const u32 token = tokens_tile * 8 + lane % 8;
                const bool there = token < tokens;
                const u16 *from = x + (u64)(there ? token : 0) * matrix.cols +
                                  tile * weights::TILE_COLS + lane / 8 * 8;
                copy_async(at + tokens_tile * 512 + lane * 16, from, there);
            }
        }
    }

    // Adds the products of the stage's tile to the sums.
    DEVICE void multiply(u32 stage, float (&sums)[weights::QUARTERS][Tokens::TILES][4]) const {
        const u8 *at = ring + stage * STAGE_BYTES;
        typename Format::Share tile;
        tile.load(at, at + Format::TILE_BYTES, lane);
        const u8 *inputs = at + Format::TILE_BYTES + Format::SCALE_BYTES;
        u32 b[Tokens::TILES][4];
        for (u32 tokens_tile = 0; tokens_tile < Tokens::TILES; tokens_tile++) {
            if constexpr (Tokens::SINGLE) {
                // Only column 0 of the operand is a token, and only lanes 0 to 3 hold parts of it.
                const u32 *words = (const u32 *)inputs;
                for (u32 word = 0; word < 4; word++) {
                    b[0][word] = lane < 4 ? words[word * 4 + lane] : 0;
                }
            } else {
                load_matrices(b[tokens_tile], inputs + tokens_tile * 512 + lane * 16);
            }
        }
#pragma unroll
        for (u32 quarter = 0; quarter < weights::QUARTERS; quarter++) {
#pragma unroll
            for (u32 step = 0; step < weights::STEPS; step++) {
                u32 a[4];
                tile.fragment(quarter, step, a);
#pragma unroll
                for (u32 tokens_tile = 0; tokens_tile < Tokens::TILES; tokens_tile++) {
                    multiply_add(sums[quarter][tokens_tile], a, b[tokens_tile][2 * step],
                                 b[tokens_tile][2 * step + 1]);
                }
            }
        }
    }

    // This warp's sums into its part of `board`.
    DEVICE void post(float *board, const float (&sums)[weights::QUARTERS][Tokens::TILES][4]) const {
        float *own = board + warp * Tokens::TILES * 8 * SUM_STRIDE;
        for (u32 quarter = 0; quarter < weights::QUARTERS; quarter++) {
            for (u32 tokens_tile = 0; tokens_tile < Tokens::TILES; tokens_tile++) {
                const u32 row = quarter * 16 + lane / 4;
                const u32 token = tokens_tile * 8 + lane % 4 * 2;
                for (u32 part = 0; part < 4; part++) {
                    own[(token + part % 2) * SUM_STRIDE + row + part / 2 * 8] =
                        sums[quarter][tokens_tile][part];
                }
            }
        }
    }
};

// The sum of an output over the warps, in their order.
template <u32 TILES> DEVICE float total_of(const float *board, u32 token, u32 row) {
    float total = 0.0f;
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
    if (first != last) {
        float *part = workspace + (u64)spans.slot(block_x(), unit) * unit_sums;
        for (u32 sum = thread_id(); sum < unit_sums; sum += THREADS) {
            part[sum] =
                total_of<TILES>(board, sum / weights::TILE_ROWS, sum % weights::TILE_ROWS);
        }
        if (!last_to_arrive(counters + unit, last - first + 1, flag)) {
            return;
        }
    }
    for (u32 sum = thread_id(); sum < unit_sums; sum += THREADS) {
        const u32 token = sum / weights::TILE_ROWS;
        const u32 row = unit * weights::TILE_ROWS + sum % weights::TILE_ROWS;
        float total = 0.0f;
        if (first == last) {
            total = total_of<TILES>(board, token, sum % weights::TILE_ROWS);
        } else {
            for (u32 owner = first; owner <= last; owner++) {
                total += load_fresh(workspace + (u64)spans.slot(owner, unit) * unit_sums + sum);
            }
        }
        if (token < tokens && row < output.rows) {
            output.write(token, row, total);
        }
    }
}

template <class Format, u32 TOKEN_TILES, u32 STAGES>
DEVICE void product(const weights::Packed &matrix, const u16 *x, u32 tokens, float *workspace,
                    u32 *counters, const Output &output, u8 *shared) {
    typedef Kernel<Format, TOKEN_TILES, STAGES> K;
    SHARED u32 flag;
    const u32 warp = thread_id() / WARP, lane = thread_id() % WARP;
    float *board = (float *)shared;
    u8 *rings = shared + WARPS * K::Tokens::TILES * 8 * SUM_STRIDE * 4;
    const K kernel = {matrix, x, tokens, rings + warp * STAGES * K::STAGE_BYTES, warp, lane};

    const u32 unit_chunks = (matrix.tiles() + WARPS - 1) / WARPS;
    const Spans spans = {(u64)matrix.row_blocks() * unit_chunks, unit_chunks, grid_x()};
    const u64 begin = spans.begin(block_x());
    const u32 count = (u32)(spans.begin(block_x() + 1) - begin);
    u32 unit = (u32)(begin / unit_chunks), chunk = (u32)(begin % unit_chunks);
    u32 next_unit = unit, next_chunk = chunk, fetched = 0;
    const auto fetch_next = [&]() {
        if (fetched < count) {
            kernel.fetch(fetched % STAGES, next_unit, next_chunk);
            next_chunk += 1;
            if (next_chunk == unit_chunks) {
                next_chunk = 0;
                next_unit += 1;
            }
        } else {
            copy_async_commit();
        }
        fetched += 1;
    };
    for (u32 stage = 0; stage < STAGES; stage++) {
        fetch_next();
    }
    for (u32 done = 0; done < count;) {
        const u32 end = done + lesser(unit_chunks - chunk, count - done);
        float sums[weights::QUARTERS][K::Tokens::TILES][4] = {};
        for (; done < end; done++, chunk++) {
            copy_async_wait<STAGES - 1>();
            sync_warp();
            if (chunk * WARPS + warp < matrix.tiles()) {
                kernel.multiply(done % STAGES, sums);
            }
            sync_warp();
            fetch_next();
        }
        kernel.post(board, sums);
        sync_block();
        finish<K::Tokens::TILES>(spans, unit, board, tokens, workspace, counters, &flag, output);
        sync_block();
        chunk = 0;
        unit += 1;
    }
}

} // namespace gemv

// One entry point. `workspace` and `counters` are as gemv.rs sizes them; the counters are zero
// before and after.
#define GEMV_ENTRY(name, format, token_tiles, stages)                                              \
    KERNEL(gemv::THREADS, 2)                                                                       \
    name(const u8 *quants, const u8 *scales, u32 rows, u32 cols, u32 group_shift, const u16 *x,    \
         u32 tokens, void *out, const float *bias, u32 store, float *workspace, u32 *counters) {   \
        SHARED_DYNAMIC(shared);                                                                    \
        const weights::Packed matrix = {quants, scales, rows, cols, group_shift};                  \
        const Output output = {out, bias, rows, store};                                            \
        gemv::product<weights::format, token_tiles, stages>(matrix, x, tokens, workspace,          \
                                                            counters, output, shared);             \
    }
