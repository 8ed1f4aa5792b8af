// Many tokens times packed weights on Hopper, whose tensor cores serve four warps at once:
// out[token][row] = sum over col of w[row][col] * x[token][col].
//
// x is f16 [tokens][cols]; out f16 or f32 [tokens][rows], with bias or added to what is there. A
// block is two groups of four warps; a group has 128 outputs, the block 256 of them by 64 or 128
// tokens. The weights are the operand in registers: each becomes f16 once a block, while the tensor
// cores work on the step before, and the tokens are the one in shared memory, swizzled. Tall blocks
// pay because weights are a quarter of the tokens' bytes. spans.cuh shares out the work. Idea:
// Machete (vLLM) and CUTLASS's mixed-input kernels.
//
// Bytes: rows * cols * 4.5 to 9 bits a pass over the weights, tokens * (2 cols + 2 to 4 rows).
// Operations: 2 tokens rows cols, which is the limit.

#include "spans.cuh"
#include "weights.cuh"

namespace hopper {

const u32 WARPS = 8;
const u32 THREADS = WARPS * WARP;
// Outputs of a block, in blocks of 64 rows, two a group.
const u32 ROW_BLOCKS = 4;
const u32 GROUP_ROW_BLOCKS = 2;
// Inputs of a chunk: two tiles, which are a swizzled row of 128 bytes, and four steps of 16.
const u32 CHUNK_TILES = 2;
const u32 ROW_BYTES = 128;
// Outputs of one token of a warp while they are turned to lie in memory order.
const u32 TURN_STRIDE = 16 + 4;
const u32 TURN_BYTES = 8 * TURN_STRIDE * 4;

template <class F, u32 UNIT_TOKENS, u32 DEPTH> struct Plan {
    typedef F Format;
    static const u32 TOKENS = UNIT_TOKENS, STAGES = DEPTH;
    static const u32 TOKEN_BYTES = TOKENS * ROW_BYTES;
    static const u32 QUANT_BYTES = ROW_BLOCKS * CHUNK_TILES * F::TILE_BYTES;
    static const u32 SCALE_BYTES = ROW_BLOCKS * CHUNK_TILES * F::SCALE_BYTES;
    static const u32 STAGE_BYTES = TOKEN_BYTES + QUANT_BYTES + SCALE_BYTES;
    // Sums of a lane in one row block.
    static const u32 SUMS = TOKENS / 2;
    static_assert(STAGE_BYTES % 1024 == 0, "stages start where swizzled rows may");
};

#if defined(HOPPER) || defined(FARTHING_EMULATOR)

// Fills a stage with a chunk: what lies beyond the matrix or the tokens becomes zero.
template <class P>
DEVICE void fetch(u8 *stage, const weights::Packed &matrix, const u16 *x, u32 tokens,
                  u32 row_block, u32 first_token, u32 first_tile) {
    typedef typename P::Format Format;
    const u32 tile_quads = Format::TILE_BYTES / 16, scale_quads = Format::SCALE_BYTES / 16;
#pragma unroll
    for (u32 quad = thread_id(); quad < P::TOKEN_BYTES / 16; quad += THREADS) {
        const u32 row = quad / 8, piece = quad % 8;
        const u32 token = first_token + row, col = first_tile * weights::TILE_COLS + piece * 8;
        const bool there = token < tokens && col < matrix.cols;
        const u16 *from = x + (there ? (u64)token * matrix.cols + col : 0);
        copy_async(stage + row * ROW_BYTES + (piece ^ row % 8) * 16, from, there);
    }
    stage += P::TOKEN_BYTES;
#pragma unroll
    for (u32 quad = thread_id(); quad < P::QUANT_BYTES / 16; quad += THREADS) {
        const u32 row = row_block + quad / (tile_quads * CHUNK_TILES);
        const u32 tile = first_tile + quad / tile_quads % CHUNK_TILES;
        const bool there = row < matrix.row_blocks() && tile < matrix.tiles();
        const u8 *from = there ? matrix.tile<Format>(row, tile) : matrix.quants;
        copy_async(stage + quad * 16, from + quad % tile_quads * 16, there);
    }
    stage += P::QUANT_BYTES;
    for (u32 quad = thread_id(); quad < P::SCALE_BYTES / 16; quad += THREADS) {
        const u32 row = row_block + quad / (scale_quads * CHUNK_TILES);
        const u32 tile = first_tile + quad / scale_quads % CHUNK_TILES;
        const bool there = row < matrix.row_blocks() && tile < matrix.tiles();
        const u8 *from = there ? matrix.scale<Format>(row, tile) : matrix.scales;
        copy_async(stage + quad * 16, from + quad % scale_quads * 16, there);
    }
}

template <class P> struct Sums {
    float values[GROUP_ROW_BLOCKS][P::SUMS];

    DEVICE void clear() {
        each([](float &sum, u32) { sum = 0.0f; });
    }

    template <class Visit> DEVICE void each(Visit visit) {
#pragma unroll
        for (u32 block = 0; block < GROUP_ROW_BLOCKS; block++) {
#pragma unroll
            for (u32 sum = 0; sum < P::SUMS; sum++) {
                visit(values[block][sum], block * P::SUMS + sum);
            }
        }
    }
};

// Starts the products of a chunk. At most one step's are under way when it returns.
template <class P> DEVICE void multiply(const u8 *stage, Sums<P> &sums) {
    typedef typename P::Format Format;
    const u32 warp = thread_id() / WARP, lane = thread_id() % WARP;
    typename Format::Quarter tiles[GROUP_ROW_BLOCKS][CHUNK_TILES];
    const u8 *quants = stage + P::TOKEN_BYTES, *scales = quants + P::QUANT_BYTES;
#pragma unroll
    for (u32 block = 0; block < GROUP_ROW_BLOCKS; block++) {
#pragma unroll
        for (u32 tile = 0; tile < CHUNK_TILES; tile++) {
            const u32 index = (warp / 4 * GROUP_ROW_BLOCKS + block) * CHUNK_TILES + tile;
            tiles[block][tile].load(quants + index * Format::TILE_BYTES,
                                    scales + index * Format::SCALE_BYTES, warp % 4, lane);
        }
    }
    u32 a[2][GROUP_ROW_BLOCKS][4];
#pragma unroll
    for (u32 step = 0; step < CHUNK_TILES * weights::STEPS; step++) {
        // The products of the step before the last have read their weights.
        group_wait<1>();
#pragma unroll
        for (u32 block = 0; block < GROUP_ROW_BLOCKS; block++) {
            tiles[block][step / weights::STEPS].fragment(step % weights::STEPS,
                                                         a[step % 2][block]);
        }
        group_fence();
        const u64 tokens = describe_matrix(stage + step * 32);
#pragma unroll
        for (u32 block = 0; block < GROUP_ROW_BLOCKS; block++) {
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
    for (u32 block = 0; block < GROUP_ROW_BLOCKS; block++) {
        const u32 row_block = warp / 4 * GROUP_ROW_BLOCKS + block;
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
    const u32 unit_sums = THREADS * GROUP_ROW_BLOCKS * P::SUMS;
    bool whole = true;
    if (first != last) {
        float *part = workspace + (u64)spans.slot(block_x(), unit) * unit_sums + thread_id();
        sums.each([&](float &sum, u32 index) { part[index * THREADS] = sum; });
        whole = last_to_arrive(counters + unit, last - first + 1, flag);
        if (whole) {
            sums.clear();
            for (u32 owner = first; owner <= last; owner++) {
                const float *other =
                    workspace + (u64)spans.slot(owner, unit) * unit_sums + thread_id();
                sums.each([&](float &sum, u32 index) { sum += load_fresh(other + index * THREADS); });
            }
        }
    }
    if (whole) {
        write(turn, sums, output, tokens,
              unit / token_units * ROW_BLOCKS * weights::TILE_ROWS, unit % token_units * P::TOKENS);
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
    const u32 row_units = (matrix.row_blocks() + ROW_BLOCKS - 1) / ROW_BLOCKS;
    const u32 unit_chunks = (matrix.tiles() + CHUNK_TILES - 1) / CHUNK_TILES;
    const Spans spans = {(u64)row_units * token_units * unit_chunks, unit_chunks, grid_x()};
    const u64 begin = spans.begin(block_x());
    const u32 count = (u32)(spans.begin(block_x() + 1) - begin);
    u32 unit = (u32)(begin / unit_chunks), chunk = (u32)(begin % unit_chunks);
    u32 next_unit = unit, next_chunk = chunk, fetched = 0;
    const auto fetch_next = [&]() {
        if (fetched < count) {
            fetch<P>(stages + fetched % P::STAGES * P::STAGE_BYTES, matrix, x, tokens,
                     next_unit / token_units * ROW_BLOCKS, next_unit % token_units * P::TOKENS,
                     next_chunk * CHUNK_TILES);
            next_chunk += 1;
            if (next_chunk == unit_chunks) {
                next_chunk = 0;
                next_unit += 1;
            }
        }
        copy_async_commit();
        fetched += 1;
    };
    // The products of a chunk are under way when the next begins, so its stage is refilled a chunk
    // later than elsewhere.
    for (u32 stage = 0; stage + 2 < P::STAGES; stage++) {
        fetch_next();
    }
    for (u32 done = 0; done < count;) {
        const u32 end = done + lesser(unit_chunks - chunk, count - done);
        Sums<P> sums;
        sums.clear();
        for (; done < end; done++) {
            copy_async_wait<P::STAGES - 3>();
            fence_tensor_reads();
            sync_block();
            fetch_next();
            multiply<P>(stages + done % P::STAGES * P::STAGE_BYTES, sums);
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
// `counters` are as spans.rs sizes them; the counters are zero before and after.
#if defined(HOPPER) || defined(FARTHING_EMULATOR)
#define HOPPER_PRODUCT(plan)                                                                       \
    SHARED_DYNAMIC(shared);                                                                        \
    const weights::Packed matrix = {quants, scales, rows, cols, group_shift};                      \
    const Output output = {out, bias, rows, store};                                                \
    hopper::product<plan>(matrix, x, tokens, workspace, counters, output, shared);
#else
#define HOPPER_PRODUCT(plan)
#endif

#define HOPPER_ENTRY(name, format, unit_tokens, stages)                                            \
    KERNEL(hopper::THREADS, 1)                                                                     \
    name(const u8 *quants, const u8 *scales, u32 rows, u32 cols, u32 group_shift, const u16 *x,    \
         u32 tokens, void *out, const float *bias, u32 store, float *workspace, u32 *counters) {   \
        typedef hopper::Plan<weights::format, unit_tokens, stages> P;                              \
        HOPPER_PRODUCT(P)                                                                          \
    }

HOPPER_ENTRY(gemm_hopper64_nibble_affine, NibbleAffine, 64, 6)
HOPPER_ENTRY(gemm_hopper64_nibble_symmetric, NibbleSymmetric, 64, 6)
HOPPER_ENTRY(gemm_hopper64_byte_symmetric, ByteSymmetric, 64, 6)
HOPPER_ENTRY(gemm_hopper64_byte_half_groups, ByteHalfGroups, 64, 6)

HOPPER_ENTRY(gemm_hopper128_nibble_affine, NibbleAffine, 128, 6)
HOPPER_ENTRY(gemm_hopper128_nibble_symmetric, NibbleSymmetric, 128, 6)
HOPPER_ENTRY(gemm_hopper128_byte_symmetric, ByteSymmetric, 128, 5)
HOPPER_ENTRY(gemm_hopper128_byte_half_groups, ByteHalfGroups, 128, 5)
