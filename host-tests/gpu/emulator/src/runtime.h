// The emulated device: threads as fibers, groups of threads that meet, memory that is watched.
//
// One block runs at a time, and of its threads one until it must wait for others: then the next one
// that can go on, those of the same warp first. What a kernel does wrong ends its launch with a
// sentence; nothing hangs and nothing aborts.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulator {

// === Threads ===

// Of the running thread. They do not change within a call, so the compiler may keep them.
__attribute__((const)) uint32_t thread_id();
__attribute__((const)) uint32_t thread_count();
// 0 to 2: x, y and z.
__attribute__((const)) uint32_t block_index(uint32_t axis);
__attribute__((const)) uint32_t grid_size(uint32_t axis);

// Ends the launch; the sentence comes back as its error.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char *format, ...);

// === Groups ===

// Neighbouring threads that wait for each other: a warp, a warpgroup or the block.
struct Group {
    uint32_t first;
    uint32_t size;
    uint32_t arrived;
    // What those that arrived came for.
    const char *purpose;
};

Group &block_group();
Group &warp_group();
// 128 threads: the running thread's four warps.
Group &warpgroup();

// Each thread of a group brings a pointer; the last to come calls `act` with all, in thread order,
// before any goes on. `purpose` names the operation: all must have come for the same.
typedef void (*Act)(void *const *brought, uint32_t count);
void meet(Group &group, const char *purpose, Act act, void *mine);
// The barriers of the block and of the warp; only they put accesses to shared memory in order.
void sync_block();
void sync_warp();

// === Memory ===

uint8_t *dynamic_shared();
uint32_t atomic_add(uint32_t *counter, uint32_t value);
uint32_t atomic_add_shared(uint32_t *counter, uint32_t value);

uint32_t shared_address(const void *pointer);
void copy_async(void *shared, const void *global, bool valid);
void copy_async_commit();
void copy_async_wait(uint32_t pending);
void fence_tensor_reads();

// === Operations of a warp ===

uint32_t shuffle(uint32_t value, uint32_t lane);
uint32_t shuffle_xor(uint32_t value, uint32_t mask);
uint32_t ballot(bool predicate);
void load_matrices(uint32_t *r, const void *row, bool transposed);
void multiply_add(float *d, const uint32_t *a, uint32_t b0, uint32_t b1);

// === Operations of a warpgroup ===

void group_fence();
void group_commit();
void group_wait(uint32_t pending);
void multiply_add_group(float *d, uint32_t columns, const uint32_t *a, uint64_t b);

// === Half precision ===

inline float float_of(uint32_t bits) {
    float value;
    __builtin_memcpy(&value, &bits, 4);
    return value;
}

inline uint32_t bits_of(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, 4);
    return bits;
}

inline float widen(uint16_t half) {
    const uint32_t sign = (half & 0x8000u) << 16, rest = half & 0x7fffu;
    // The exponent's bias differs by 112; a multiplication also puts subnormals right.
    const float scaled = float_of(rest << 13) * 0x1p112f;
    const uint32_t bits = rest >= 0x7c00 ? 0x7f800000u | rest << 13 : bits_of(scaled);
    return float_of(bits | sign);
}

// The nearest f16, of two the even one; too large is infinite.
inline uint16_t narrow(float value) {
    const uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000u;
    uint32_t rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) {
        return 0x7fff;
    }
    if (rest >= 0x47800000u) {
        return sign | 0x7c00u;
    }
    if (rest < 0x38800000u) {
        // Adding 0.5 leaves the subnormal's bits, rounded, at the end of the mantissa.
        return sign | (bits_of(float_of(rest) + 0.5f) - 0x3f000000u);
    }
    rest += 0xfffu + (rest >> 13 & 1);
    return sign | (rest - (112u << 23)) >> 13;
}

// a * b + c, rounded once: the sum is made odd if it is not exact, so that the second rounding
// (to fewer than half its digits) is that of the exact sum. Source: Boldo and Melquiond, "Emulation
// of FMA and correctly rounded sums: proved algorithms using rounding to odd" (2008).
inline uint16_t narrow_sum(float a, float b, float c) {
    const double product = double(a) * double(b), other = c;
    double sum = product + other;
    const double back = sum - product;
    const double rest = (product - (sum - back)) + (other - back);
    uint64_t bits;
    __builtin_memcpy(&bits, &sum, 8);
    if (rest != 0 && rest == rest && !(bits & 1)) {
        bits += (rest > 0) == (sum > 0) ? 1 : -1;
        __builtin_memcpy(&sum, &bits, 8);
    }
    // To float, again to odd; a float has more than twice the digits of an f16.
    float narrowed = float(sum);
    if (double(narrowed) != sum && narrowed == narrowed) {
        uint32_t odd = bits_of(narrowed);
        const double magnitude = sum < 0 ? -sum : sum;
        if (double(float_of(odd & 0x7fffffffu)) > magnitude) {
            odd -= 1;
        }
        narrowed = float_of(odd | 1);
    }
    return narrow(narrowed);
}

} // namespace emulator
