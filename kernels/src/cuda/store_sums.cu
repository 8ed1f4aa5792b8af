// What a library leaves of a product, put where our own products put theirs:
// out[token][first + col] = sums[token][col], with bias; rounded to f16, as it is, or added to
// what is there.
//
// sums f32 [tokens][cols]; out f16 or f32 [tokens][out_cols], of which the columns from `first` on
// are written; bias f32 [out_cols], or null. A thread has four columns, a block apart, so that a
// warp's accesses lie side by side. cuBLASLt could store by itself, but its f16 become infinite
// where ours become the largest, and a bias that it adds to f16 must be f16.
// Source: our own, the store being that of spans.cuh.
//
// Bytes of an element: 4 read, 2 or 4 written, 4 more read where it is added. Operations: 2.

#include "spans.cuh"

namespace store_sums {

const u32 THREADS = 256;
const u32 COLS_OF_THREAD = 4;

} // namespace store_sums

// `parts` blocks share a token.
KERNEL(store_sums::THREADS, 4) store_sums_f32(const float *sums, void *out, const float *bias,
                                              u32 cols, u32 parts, u32 out_cols, u32 first,
                                              u32 store) {
    const Output output = {out, bias, out_cols, store};
    const u32 token = block_x() / parts;
    const u32 block_cols = store_sums::THREADS * store_sums::COLS_OF_THREAD;
    const u32 begin = block_x() % parts * block_cols + thread_id();
    float values[store_sums::COLS_OF_THREAD];
#pragma unroll
    for (u32 part = 0; part < store_sums::COLS_OF_THREAD; part++) {
        const u32 col = begin + part * store_sums::THREADS;
        values[part] = col < cols ? sums[(u64)token * cols + col] : 0.0f;
    }
#pragma unroll
    for (u32 part = 0; part < store_sums::COLS_OF_THREAD; part++) {
        const u32 col = begin + part * store_sums::THREADS;
        if (col < cols) {
            output.write(token, first + col, values[part]);
        }
    }
}
