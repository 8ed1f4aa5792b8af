// Many tokens times packed weights on Hopper, whose tensor cores serve four warps at once:
// out[token][row] = sum over col of w[row][col] * x[token][col].
//
// x is f16 [tokens][cols]; out f16 or f32 [tokens][rows], with bias or added to what is there. A
// block is two groups of four warps; a group has 64 outputs by 64 tokens, or 128 by 128. The
// weights are the operand in registers: each becomes f16 once a block, while the tensor cores work
// on the step before. The tokens are the operand in shared memory, swizzled. Tall blocks pay
// because weights are a quarter of the tokens' bytes. spans.cuh shares out the work. Idea: Machete
// (vLLM) and CUTLASS's mixed-input kernels.
//
// Bytes: rows * cols * 4.5 to 9 bits a pass over the weights, tokens * (2 cols + 2 to 4 rows).
// Operations: 2 tokens rows cols, which is the limit.

#include "spans.cuh"
#include "weights.cuh"

namespace hopper {

const u32 WARPS = 8;
const u32 THREADS = WARPS * WARP;
const u32 GROUPS = 2;
// Inputs of a chunk: two tiles, which are a swizzled row of 128 bytes, and four steps of 16.
const u32 CHUNK_TILES = 2;
const u32 ROW_BYTES = 128;
// Outputs of one token of a warp while they are turned to lie in memory order.
const u32 TURN_STRIDE = 16 + 4;
const u32 TURN_BYTES = 8 * TURN_STRIDE * 4;

// BLOCKS is the number of row blocks, 64 outputs each, of a group.
template <class F, u32 BLOCKS, u32 UNIT_TOKENS, u32 DEPTH> struct Plan {
    typedef F Format;
    static const u32 GROUP_ROW_BLOCKS = BLOCKS, ROW_BLOCKS = GROUPS * BLOCKS;
    static const u32 TOKENS = UNIT_TOKENS, STAGES = DEPTH;
    static const u32 TOKEN_BYTES = TOKENS * ROW_BYTES;
    static const u32 QUANT_BYTES = ROW_BLOCKS * CHUNK_TILES * F::TILE_BYTES;
    static const u32 SCALE_BYTES = ROW_BLOCKS * CHUNK_TILES * F::SCALE_BYTES;
    // Rounded up, for swizzled rows start on a multiple of 1024.
    static const u32 STAGE_BYTES =
        (TOKEN_BYTES + QUANT_BYTES + SCALE_BYTES + 1023) / 1024 * 1024;
    // Sums of a lane in one row block.
    static const u32 SUMS = TOKENS / 2;
};

#if defined(HOPPER) || defined(FARTHING_EMULATOR)

// What a thread fetches next. Addresses move by additions alone, because finding them anew for
// each chunk would take as long as multiplying it. What lies beyond the matrix or the tokens
// becomes zero.
template <class P> struct Feed {
    typedef typename P::Format Format;
    // A row block's pieces of sixteen bytes in a chunk, and how many row blocks threads cover.
    static const u32 QUANT_PIECES = CHUNK_TILES * Format::TILE_BYTES / 16;
    static const u32 QUANT_STEP = THREADS / QUANT_PIECES;
    static const u32 SCALE_PIECES = Format::SCALE_BYTES / 16;
    static const u32 TOKEN_STEP = THREADS / 8;

    const weights::Packed &matrix;
    const u16 *inputs;
    u32 tokens, token_units, unit_chunks;
    // Of the next chunk whose weights, and whose tokens, are fetched.
    u32 weight_unit, weight_chunk, token_unit, token_chunk;
    const u8 *quants, *scales;
    const u16 *x;
    u32 row_block, first_token;

    DEVICE void find_weights() {
        const u32 first = weight_unit / token_units * P::ROW_BLOCKS;
        row_block = first + thread_id() / QUANT_PIECES;
        quants = matrix.tile<Format>(row_block, weight_chunk * CHUNK_TILES) +
                 thread_id() % QUANT_PIECES * 16;
        scales = matrix.scale<Format>(first + thread_id() / SCALE_PIECES / CHUNK_TILES, 0) +
                 thread_id() % SCALE_PIECES * 16;
    }

    DEVICE void find_tokens() {
        first_token = token_unit % token_units * P::TOKENS + thread_id() / 8;
        x = inputs + (u64)first_token * matrix.cols + thread_id() % 8 * 8;
    }

    DEVICE void fetch_weights(u8 *stage) {
        const u32 first_tile = weight_chunk * CHUNK_TILES;
        u8 *at = stage + P::TOKEN_BYTES + thread_id() * 16;
        const u32 tile = first_tile + thread_id() % QUANT_PIECES / (Format::TILE_BYTES / 16);
        const u64 step = (u64)QUANT_STEP * matrix.tiles() * Format::TILE_BYTES;
#pragma unroll
        for (u32 turn = 0; turn < P::ROW_BLOCKS / QUANT_STEP; turn++) {
            const bool there =
                tile < matrix.tiles() && row_block + turn * QUANT_STEP < matrix.row_blocks();
            copy_async(at + turn * THREADS * 16, there ? quants + turn * step : matrix.quants,
                       there);
        }
        if (thread_id() < P::SCALE_BYTES / 16) {
            const u32 scale_tile = first_tile + thread_id() / SCALE_PIECES % CHUNK_TILES;
            const u32 scale_row = weight_unit / token_units * P::ROW_BLOCKS +
                                  thread_id() / SCALE_PIECES / CHUNK_TILES;
            const bool there = scale_tile < matrix.tiles() && scale_row < matrix.row_blocks();
            const u8 *from = scales + (scale_tile >> matrix.group_shift) * Format::SCALE_BYTES;
            copy_async(at + P::QUANT_BYTES, there ? from : matrix.scales, there);
        }
        quants += CHUNK_TILES * Format::TILE_BYTES;
        weight_chunk += 1;
        if (weight_chunk == unit_chunks) {
            weight_chunk = 0;
            weight_unit += 1;
            find_weights();
        }
    }

    DEVICE void fetch_tokens(u8 *stage) {
        const u32 row = thread_id() / 8, piece = thread_id() % 8;
        u8 *at = stage + row * ROW_BYTES + (piece ^ row % 8) * 16;
        const u32 col = token_chunk * CHUNK_TILES * weights::TILE_COLS;
        const u64 step = (u64)TOKEN_STEP * matrix.cols;
#pragma unroll
        for (u32 turn = 0; turn < P::TOKENS / TOKEN_STEP; turn++) {
            const bool there =
                col + piece * 8 < matrix.cols && first_token + turn * TOKEN_STEP < tokens;
            copy_async(at + turn * TOKEN_STEP * ROW_BYTES, there ? x + col + turn * step : inputs,
                       there);
        }
        copy_async_commit();
        token_chunk += 1;
        if (token_chunk == unit_chunks) {
            token_chunk = 0;
            token_unit += 1;
            find_tokens();
        }
    }
};

template <class P> struct Sums {
    float values[P::GROUP_ROW_BLOCKS][P::SUMS];

    DEVICE void clear() {
        each([](float &sum, u32) { sum = 0.0f; });
    }

    template <class Visit> DEVICE void each(Visit visit) {
#pragma unroll
        for (u32 block = 0; block < P::GROUP_ROW_BLOCKS; block++) {
#pragma unroll
            for (u32 sum = 0; sum < P::SUMS; sum++) {
                visit(values[block][sum], block * P::SUMS + sum);
            }
        }
    }
};

// Starts the products of a chunk. At most two steps' are under way when it returns.
template <class P> DEVICE void multiply(const u8 *stage, Sums<P> &sums) {
    typedef typename P::Format Format;
    const u32 warp = thread_id() / WARP, lane = thread_id() % WARP;
    typename Format::Quarter tiles[P::GROUP_ROW_BLOCKS][CHUNK_TILES];
    const u8 *quants = stage + P::TOKEN_BYTES, *scales = quants + P::QUANT_BYTES;
#pragma unroll
    for (u32 block = 0; block < P::GROUP_ROW_BLOCKS; block++) {
#pragma unroll
        for (u32 tile = 0; tile < CHUNK_TILES; tile++) {
            const u32 index = (warp / 4 * P::GROUP_ROW_BLOCKS + block) * CHUNK_TILES + tile;
            tiles[block][tile].load(quants + index * Format::TILE_BYTES,
                                    scales + index * Format::SCALE_BYTES, warp % 4, lane);
        }
    }
    u32 a[2][P::GROUP_ROW_BLOCKS][4];
#pragma unroll
    for (u32 step = 0; step < CHUNK_TILES * weights::STEPS; step++) {
        // The products of the step before the last have read their weights.
        group_wait<1>();
#pragma unroll
        for (u32 block = 0; block < P::GROUP_ROW_BLOCKS; block++) {
            tiles[block][step / weights::STEPS].fragment(step % weights::STEPS,
                                                         a[step % 2][block]);
        }
        group_fence();
        const u64 tokens = describe_matrix(stage + step * 32);
#pragma unroll
        for (u32 block = 0; block < P::GROUP_ROW_BLOCKS; block++) {
            multiply_add_group(sums.values[block], a[step % 2][block], tokens);
        }
        group_commit();
    }
}

// Writes a warp's totals: of each token sixteen outputs side by side.
template <class P>
DEVICE void write(float *turn, const Sums<P> &sums, const Output &output, u32 tokens,
                  u32 first_row, u32 first_token) {
    const u32 warp = thread_id() / WARP, lane = thread_id() % WARP;
#pragma unroll
    for (u32 block = 0; block < P::GROUP_ROW_BLOCKS; block++) {
        const u32 row_block = warp / 4 * P::GROUP_ROW_BLOCKS + block;
        const u32 row = first_row + row_block * weights::TILE_ROWS + warp % 4 * 16;
#pragma unroll
        for (u32 tile = 0; tile < P::TOKENS / 8; tile++) {
            for (u32 part = 0; part < 4; part++) {
                const u32 token = lane % 4 * 2 + part % 2;
                turn[token * TURN_STRIDE + lane / 4 + part / 2 * 8] =
                    sums.values[block][tile * 4 + part];
            }
            sync_warp();
            const float *own = turn + lane / 4 * TURN_STRIDE + lane % 4 * 4;
            const u32 token = first_token + tile * 8 + lane / 4;
            output.write_pair(token, tokens, row + lane % 4 * 4, own[0], own[1]);
            output.write_pair(token, tokens, row + lane % 4 * 4 + 2, own[2], own[3]);
            sync_warp();
        }
    }
}

// Finishes a unit: adds up blocks, writes what is whole.
template <class P>
DEVICE void finish(const Spans &spans, u32 unit, u32 token_units, float *turn, Sums<P> &sums,
                   u32 tokens, float *workspace, u32 *counters, u32 *flag, const Output &output) {
    const u32 first = spans.first_owner(unit), last = spans.last_owner(unit);
    const u32 unit_sums = THREADS * P::GROUP_ROW_BLOCKS * P::SUMS;
    bool whole = true;
    if (first != last) {
        float *part = workspace + (u64)spans.slot(block_x(), unit) * unit_sums + thread_id();
        sums.each([&](float &sum, u32 index) { part[index * THREADS] = sum; });
        whole = last_to_arrive(counters + unit, last - first + 1, flag);
        if (whole) {
            sums.clear();
            // Two at once where registers allow it: the way to the cache is long.
#pragma unroll(P::GROUP_ROW_BLOCKS == 1 ? 2 : 1)
            for (u32 owner = first; owner <= last; owner++) {
                const float *other =
                    workspace + (u64)spans.slot(owner, unit) * unit_sums + thread_id();
                sums.each(
                    [&](float &sum, u32 index) { sum += load_fresh(other + index * THREADS); });
            }
        }
    }
    if (whole) {
        write(turn, sums, output, tokens,
              unit / token_units * P::ROW_BLOCKS * weights::TILE_ROWS,
              unit % token_units * P::TOKENS);
    }
}

template <class P>
DEVICE void product(const weights::Packed &matrix, const u16 *x, u32 tokens, float *workspace,
                    u32 *counters, const Output &output, u8 *shared) {
    SHARED u32 flag;
    SHARED alignas(16) float turns[WARPS * TURN_BYTES / 4];
    u8 *stages = shared + (1024 - shared_address(shared) % 1024) % 1024;
    float *turn = turns + thread_id() / WARP * (TURN_BYTES / 4);
    const u32 token_units = (tokens + P::TOKENS - 1) / P::TOKENS;
    const u32 row_units = (matrix.row_blocks() + P::ROW_BLOCKS - 1) / P::ROW_BLOCKS;
    const u32 unit_chunks = (matrix.tiles() + CHUNK_TILES - 1) / CHUNK_TILES;
    const Spans spans(row_units * token_units, unit_chunks);
    const u32 begin = spans.begin(block_x());
    const u32 count = spans.begin(block_x() + 1) - begin;
    u32 unit = begin / unit_chunks, chunk = begin % unit_chunks;
    Feed<P> feed = {matrix, x,    tokens,  token_units, unit_chunks, unit, chunk,
                    unit,   chunk, nullptr, nullptr,     nullptr,     0,    0};
    feed.find_weights();
    feed.find_tokens();
    // The products of a chunk are under way when the next begins, so its stage is refilled a chunk
    // later than elsewhere. Weights depend on no other kernel.
    const u32 ahead = P::STAGES - 2;
    for (u32 stage = 0; stage < lesser(count, ahead); stage++) {
        feed.fetch_weights(stages + stage * P::STAGE_BYTES);
    }
    wait_for_predecessor();
    for (u32 stage = 0; stage < ahead; stage++) {
        if (stage < count) {
            feed.fetch_tokens(stages + stage * P::STAGE_BYTES);
        } else {
            copy_async_commit();
        }
    }
    for (u32 done = 0; done < count;) {
        const u32 end = done + lesser(unit_chunks - chunk, count - done);
        Sums<P> sums;
        sums.clear();
        for (; done < end; done++) {
            copy_async_wait<P::STAGES - 3>();
            fence_tensor_reads();
            sync_block();
            multiply<P>(stages + done % P::STAGES * P::STAGE_BYTES, sums);
            if (done + ahead < count) {
                u8 *refilled = stages + (done + ahead) % P::STAGES * P::STAGE_BYTES;
                feed.fetch_weights(refilled);
                feed.fetch_tokens(refilled);
            } else {
                copy_async_commit();
                // Nothing is left to fetch: the next kernel's weights may come.
                release_successor();
            }
        }
        group_wait<0>();
        finish<P>(spans, unit, token_units, turn, sums, tokens, workspace, counters, &flag,
                  output);
        chunk = 0;
        unit += 1;
    }
}

#endif // HOPPER

} // namespace hopper

// One entry point; elsewhere than on Hopper it does nothing and is never started. `workspace` and
// `counters` are as product.rs sizes them; the counters are zero before and after.
#if defined(HOPPER) || defined(FARTHING_EMULATOR)
#define HOPPER_PRODUCT(plan)                                                                       \
    SHARED_DYNAMIC(shared);                                                                        \
    const weights::Packed matrix = {quants, scales, rows, cols, group_shift};                      \
    const Output output = {out, bias, rows, store};                                                \
    hopper::product<plan>(matrix, x, tokens, workspace, counters, output, shared);
#else
#define HOPPER_PRODUCT(plan)
#endif

#define HOPPER_ENTRY(name, format, row_blocks, unit_tokens, stages, blocks)                        \
    KERNEL(hopper::THREADS, blocks)                                                                \
    name(const u8 *quants, const u8 *scales, u32 rows, u32 cols, u32 group_shift, const u16 *x,    \
         u32 tokens, void *out, const float *bias, u32 store, float *workspace, u32 *counters) {   \
        typedef hopper::Plan<weights::format, row_blocks, unit_tokens, stages> P;                  \
        HOPPER_PRODUCT(P)                                                                          \
    }

HOPPER_ENTRY(gemm_hopper64_nibble_affine, NibbleAffine, 1, 64, 6, 2)
HOPPER_ENTRY(gemm_hopper64_nibble_symmetric, NibbleSymmetric, 1, 64, 6, 2)
HOPPER_ENTRY(gemm_hopper64_byte_symmetric, ByteSymmetric, 1, 64, 5, 2)
HOPPER_ENTRY(gemm_hopper64_byte_half_groups, ByteHalfGroups, 1, 64, 5, 2)

HOPPER_ENTRY(gemm_hopper128_nibble_affine, NibbleAffine, 2, 128, 6, 1)
HOPPER_ENTRY(gemm_hopper128_nibble_symmetric, NibbleSymmetric, 2, 128, 6, 1)
HOPPER_ENTRY(gemm_hopper128_byte_symmetric, ByteSymmetric, 2, 128, 5, 1)
HOPPER_ENTRY(gemm_hopper128_byte_half_groups, ByteHalfGroups, 2, 128, 5, 1)
