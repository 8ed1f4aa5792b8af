// A plain copy of global memory: how fast a kernel can move bytes, which every other is measured
// against.
//
// Both buffers are bytes in fours of words. Each thread has four loads of sixteen bytes under way
// before it stores the first. Source: the copy of STREAM (McCalpin 1995).
//
// Bytes: each once read and once written. Operations: none.

#include "intrinsics.cuh"

namespace copy {

const u32 THREADS = 512;
const u32 LOADS = 4;

} // namespace copy

KERNEL(copy::THREADS, 2) copy_bytes(const Quad *from, Quad *to, u64 quads) {
    const u64 step = (u64)grid_x() * copy::THREADS * copy::LOADS;
    u64 first = (u64)block_x() * copy::THREADS * copy::LOADS + thread_id();
    for (; first < quads; first += step) {
        Quad loaded[copy::LOADS];
#pragma unroll
        for (u32 load = 0; load < copy::LOADS; load++) {
            const u64 at = first + load * copy::THREADS;
            if (at < quads) {
                loaded[load] = load_once(from + at);
            }
        }
#pragma unroll
        for (u32 load = 0; load < copy::LOADS; load++) {
            const u64 at = first + load * copy::THREADS;
            if (at < quads) {
                to[at] = loaded[load];
            }
        }
    }
}
