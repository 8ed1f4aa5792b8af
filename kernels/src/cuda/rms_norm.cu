// RMSNorm with the sum before it: residual += delta; out = residual / sqrt(mean(residual^2) + eps)
// * weight. One block a row, which keeps its values in registers between the sum and the product,
// so everything is read and written once.
//
// residual f32 [rows][cols], changed only with a delta; delta none, f16 or f32 [rows][cols]; weight
// f32 [cols]; out f16 [rows][cols]. cols is a multiple of 4.
// Idea: the fused add and norm of vLLM and FlashInfer. Source: Zhang and Sennrich, "Root Mean
// Square Layer Normalization" (2019).
//
// Bytes of an element: 4 read, 2 or 4 of delta, 4 written back if there is a delta, 2 written.
// Operations of an element: 5.
#include "intrinsics.cuh"

namespace rms_norm {

const u32 DELTA_F16 = 1;
const u32 DELTA_F32 = 2;

DEVICE void unpack(const Quad &quad, float (&values)[4]) {
    values[0] = bits_float(quad.x);
    values[1] = bits_float(quad.y);
    values[2] = bits_float(quad.z);
    values[3] = bits_float(quad.w);
}

DEVICE Quad pack(const float (&values)[4]) {
    return Quad{float_bits(values[0]), float_bits(values[1]), float_bits(values[2]),
                float_bits(values[3])};
}

DEVICE void add_halves(const Pair &pair, float (&values)[4]) {
    values[0] += f16_to_f32((u16)pair.x);
    values[1] += f16_to_f32((u16)(pair.x >> 16));
    values[2] += f16_to_f32((u16)pair.y);
    values[3] += f16_to_f32((u16)(pair.y >> 16));
}

DEVICE void add_floats(const Quad &quad, float (&values)[4]) {
    values[0] += bits_float(quad.x);
    values[1] += bits_float(quad.y);
    values[2] += bits_float(quad.z);
    values[3] += bits_float(quad.w);
}

// The sum over the block, the same in every thread.
DEVICE float block_sum(float value) {
    SHARED float sums[WARP];
    const u32 lane = thread_id() % WARP;
    value = warp_sum(value);
    if (lane == 0) {
        sums[thread_id() / WARP] = value;
    }
    sync_block();
    return warp_sum(lane < thread_count() / WARP ? sums[lane] : 0.0f);
}

// A thread has SLOTS groups of four columns, a block's width apart.
template <u32 SLOTS>
DEVICE void normalise(Quad *residual, const void *delta, u32 delta_kind, const Quad *weight,
                      float eps, Pair *out, u32 cols) {
    const u32 slots = cols / 4;
    const u64 row = (u64)block_x() * slots;
    const Quad none = {0, 0, 0, 0};
    Quad weights[SLOTS];
    release_successor();
    // Nothing else writes the weights, so they need not wait.
    for (u32 i = 0; i < SLOTS; i++) {
        const u32 slot = thread_id() + i * thread_count();
        weights[i] = slot < slots ? weight[slot] : none;
    }
    wait_for_predecessor();
    Quad loaded[SLOTS];
    Quad deltas[SLOTS];
    for (u32 i = 0; i < SLOTS; i++) {
        const u32 slot = thread_id() + i * thread_count();
        const bool inside = slot < slots;
        loaded[i] = inside ? residual[row + slot] : none;
        deltas[i] = none;
        if (inside && delta_kind == DELTA_F16) {
            const Pair halves = ((const Pair *)delta)[row + slot];
            deltas[i].x = halves.x;
            deltas[i].y = halves.y;
        } else if (inside && delta_kind == DELTA_F32) {
            deltas[i] = ((const Quad *)delta)[row + slot];
        }
    }
    float values[SLOTS][4];
    float squares = 0.0f;
    for (u32 i = 0; i < SLOTS; i++) {
        unpack(loaded[i], values[i]);
        if (delta_kind == DELTA_F16) {
            add_halves(Pair{deltas[i].x, deltas[i].y}, values[i]);
        } else if (delta_kind == DELTA_F32) {
            add_floats(deltas[i], values[i]);
        }
        const u32 slot = thread_id() + i * thread_count();
        if (delta_kind != 0 && slot < slots) {
            residual[row + slot] = pack(values[i]);
        }
        for (u32 j = 0; j < 4; j++) {
            squares += values[i][j] * values[i][j];
        }
    }
    const float scale = rsqrt_fast(block_sum(squares) / (float)cols + eps);
    for (u32 i = 0; i < SLOTS; i++) {
        const u32 slot = thread_id() + i * thread_count();
        float factors[4];
        unpack(weights[i], factors);
        if (slot < slots) {
            const u32 low = f32_to_f16x2(values[i][0] * scale * factors[0],
                                         values[i][1] * scale * factors[1]);
            const u32 high = f32_to_f16x2(values[i][2] * scale * factors[2],
                                          values[i][3] * scale * factors[3]);
            out[row + slot] = Pair{low, high};
        }
    }
}

} // namespace rms_norm

// delta_kind: 0 none, 1 f16, 2 f32. The number in the name is that of groups of four a thread has.
#define RMS_NORM_ENTRY(SLOTS)                                                                      \
    KERNEL(1024, 1)                                                                                \
    rms_norm_##SLOTS(Quad *residual, const void *delta, u32 delta_kind, const Quad *weight,        \
                     float eps, Pair *out, u32 cols) {                                             \
        rms_norm::normalise<SLOTS>(residual, delta, delta_kind, weight, eps, out, cols);           \
    }

RMS_NORM_ENTRY(1)
RMS_NORM_ENTRY(2)
RMS_NORM_ENTRY(4)
