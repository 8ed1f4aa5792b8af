// The names of intrinsics.cuh, for the emulated device. It is included there, in the place of what
// a card does. The comments of that file say what each means.
#pragma once

#ifdef FARTHING_EMULATOR_LIST
// For the list of entry points that build.rs makes.
#define KERNEL(threads, blocks)                                                                    \
    farthing_kernel_entry(threads) farthing_kernel_name
#else
#define KERNEL(threads, blocks) static void
#endif
#define DEVICE inline
// A section of their own, so that they can be poisoned before every block.
#define SHARED static __attribute__((section("farthing_shared")))
// nvcc takes it after SHARED, g++ only the attribute.
#define alignas(bytes) __attribute__((aligned(bytes)))
#define SHARED_DYNAMIC(name) u8 *const name = emulator::dynamic_shared()

// === Half precision ===

DEVICE float f16_to_f32(u16 bits) { return emulator::widen(bits); }

DEVICE u16 f32_to_f16(float value) {
    value = value > F16_MAX ? F16_MAX : (value < -F16_MAX ? -F16_MAX : value);
    return emulator::narrow(value);
}

DEVICE u32 f32_to_f16x2(float low, float high) {
    return f32_to_f16(low) | (u32)f32_to_f16(high) << 16;
}

DEVICE float f16x2_low(u32 pair) { return emulator::widen(pair & 0xffff); }
DEVICE float f16x2_high(u32 pair) { return emulator::widen(pair >> 16); }
DEVICE u32 f16x2_of(float low, float high) {
    return emulator::narrow(low) | (u32)emulator::narrow(high) << 16;
}

DEVICE u32 f32_to_f16x2_bounded(float low, float high) { return f16x2_of(low, high); }

// In f32 each is exact, or so near that rounding twice is rounding once.
DEVICE u32 f16x2_add(u32 a, u32 b) {
    return f16x2_of(f16x2_low(a) + f16x2_low(b), f16x2_high(a) + f16x2_high(b));
}
DEVICE u32 f16x2_sub(u32 a, u32 b) {
    return f16x2_of(f16x2_low(a) - f16x2_low(b), f16x2_high(a) - f16x2_high(b));
}
DEVICE u32 f16x2_mul(u32 a, u32 b) {
    return f16x2_of(f16x2_low(a) * f16x2_low(b), f16x2_high(a) * f16x2_high(b));
}
DEVICE u32 f16x2_fma(u32 a, u32 b, u32 c) {
    return emulator::narrow_sum(f16x2_low(a), f16x2_low(b), f16x2_low(c)) |
           (u32)emulator::narrow_sum(f16x2_high(a), f16x2_high(b), f16x2_high(c)) << 16;
}

template <u32 MASK, u32 SET> DEVICE u32 and_or(u32 bits) { return (bits & MASK) | SET; }

DEVICE u32 permute_bytes(u32 low, u32 high, u32 selector) {
    const u64 bytes = (u64)high << 32 | low;
    u32 result = 0;
    for (u32 i = 0; i < 4; i++) {
        const u32 nibble = selector >> (4 * i) & 15;
        u32 byte = bytes >> (8 * (nibble & 7)) & 255;
        if (nibble & 8) {
            // The fourth bit asks for the byte's sign, in all eight bits.
            byte = byte & 128 ? 255 : 0;
        }
        result |= byte << (8 * i);
    }
    return result;
}

// === Functions ===

DEVICE float exp2_fast(float x) { return __builtin_exp2f(x); }
DEVICE float log2_fast(float x) { return __builtin_log2f(x); }
DEVICE float rsqrt_fast(float x) { return 1.0f / __builtin_sqrtf(x); }

DEVICE float larger(float a, float b) { return __builtin_fmaxf(a, b); }

DEVICE u32 float_bits(float x) { return emulator::bits_of(x); }
DEVICE float bits_float(u32 x) { return emulator::float_of(x); }

// === Threads ===

DEVICE u32 thread_id() { return emulator::thread_id(); }
DEVICE u32 thread_count() { return emulator::thread_count(); }
DEVICE u32 block_x() { return emulator::block_index(0); }
DEVICE u32 block_y() { return emulator::block_index(1); }
DEVICE u32 block_z() { return emulator::block_index(2); }
DEVICE u32 grid_x() { return emulator::grid_size(0); }
DEVICE u32 grid_y() { return emulator::grid_size(1); }
DEVICE u32 grid_z() { return emulator::grid_size(2); }

DEVICE void sync_block() { emulator::sync_block(); }
DEVICE void sync_warp() { emulator::sync_warp(); }

DEVICE u32 shuffle_xor(u32 value, u32 mask) { return emulator::shuffle_xor(value, mask); }
DEVICE u32 shuffle(u32 value, u32 lane) { return emulator::shuffle(value, lane); }
DEVICE float shuffle_xor(float value, u32 mask) {
    return bits_float(emulator::shuffle_xor(float_bits(value), mask));
}
DEVICE float shuffle(float value, u32 lane) {
    return bits_float(emulator::shuffle(float_bits(value), lane));
}
DEVICE u32 ballot(u32 predicate) { return emulator::ballot(predicate != 0); }
DEVICE u32 count_bits(u32 bits) { return __builtin_popcount(bits); }

// Blocks run one after the other, and a thread until it waits.
DEVICE void fence_device() {}
// Kernels run one after the other here.
DEVICE void release_successor() {}
DEVICE void wait_for_predecessor() {}
DEVICE u32 atomic_add(u32 *counter, u32 value) { return emulator::atomic_add(counter, value); }
DEVICE u32 atomic_add_shared(u32 *counter, u32 value) {
    return emulator::atomic_add_shared(counter, value);
}

// === Memory ===

DEVICE Quad load_once(const void *address) { return *(const Quad *)address; }
DEVICE float load_fresh(const float *address) { return *address; }
DEVICE u32 shared_address(const void *pointer) { return emulator::shared_address(pointer); }

DEVICE void copy_async(void *shared, const void *global, bool valid) {
    emulator::copy_async(shared, global, valid);
}
DEVICE void copy_async_stream(void *shared, const void *global) {
    emulator::copy_async(shared, global, true);
}
DEVICE void copy_async_commit() { emulator::copy_async_commit(); }
template <u32 PENDING> DEVICE void copy_async_wait() { emulator::copy_async_wait(PENDING); }

// === Tensor cores ===

DEVICE void load_matrices(u32 (&r)[4], const void *row) {
    emulator::load_matrices(r, row, false);
}
DEVICE void load_matrices_transposed(u32 (&r)[4], const void *row) {
    emulator::load_matrices(r, row, true);
}
DEVICE void multiply_add(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    emulator::multiply_add(d, a, b0, b1);
}

// === Warp groups ===

DEVICE void fence_tensor_reads() { emulator::fence_tensor_reads(); }
DEVICE void group_fence() { emulator::group_fence(); }
DEVICE void group_commit() { emulator::group_commit(); }
template <u32 PENDING> DEVICE void group_wait() { emulator::group_wait(PENDING); }

DEVICE u64 describe_matrix(const u8 *at) {
    const u64 start = (shared_address(at) & 0x3ffff) >> 4;
    return start | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}

DEVICE void multiply_add_group(float (&d)[64], const u32 (&a)[4], u64 b) {
    emulator::multiply_add_group(d, 128, a, b);
}
DEVICE void multiply_add_group(float (&d)[32], const u32 (&a)[4], u64 b) {
    emulator::multiply_add_group(d, 64, a, b);
}
