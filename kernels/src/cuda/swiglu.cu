// The gate of a feed-forward layer: out = gate / (1 + e^-gate) * up, in f32.
//
// gate_up f16 [rows][2 * cols], a row's gates before its ups; out f16 [rows][cols]. cols is a
// multiple of 8: a thread makes eight neighbours of out.
// Source: Shazeer, "GLU Variants Improve Transformer" (2020).
//
// Bytes of an element of out: 4 read, 2 written. Operations: 6.
#include "intrinsics.cuh"

namespace swiglu {

const float LOG2_E = 1.4426950408889634f;

DEVICE float silu(float gate) {
    // 1 + e^-gate is at least 1, or infinite: then the root is 0 and so is the quotient.
    const float root = rsqrt_fast(1.0f + exp2_fast(-gate * LOG2_E));
    return gate * root * root;
}

DEVICE u32 gated(u32 gates, u32 ups) {
    const float low = silu(f16_to_f32((u16)gates)) * f16_to_f32((u16)ups);
    const float high = silu(f16_to_f32((u16)(gates >> 16))) * f16_to_f32((u16)(ups >> 16));
    return f32_to_f16x2(low, high);
}

} // namespace swiglu

// `parts` blocks share a row.
KERNEL(256, 4) swiglu_f16(const Quad *gate_up, Quad *out, u32 cols, u32 parts) {
    release_successor();
    wait_for_predecessor();
    const u32 vectors = cols / 8;
    const u64 row = block_x() / parts;
    const u32 vector = block_x() % parts * thread_count() + thread_id();
    if (vector >= vectors) {
        return;
    }
    const Quad gates = load_once(gate_up + row * 2 * vectors + vector);
    const Quad ups = load_once(gate_up + (row * 2 + 1) * vectors + vector);
    out[row * vectors + vector] =
        Quad{swiglu::gated(gates.x, ups.x), swiglu::gated(gates.y, ups.y),
             swiglu::gated(gates.z, ups.z), swiglu::gated(gates.w, ups.w)};
}
