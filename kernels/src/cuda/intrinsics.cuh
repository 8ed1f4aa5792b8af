// What a device can do that C++ has no word for: half precision, warps, tensor cores, asynchronous
// copies. One function each, and the only file with inline PTX, so that a kernel reads as C++ and
// the emulator of host-tests/gpu can stand in for the device (it defines the same names).
//
// No header is included: NVRTC compiles this on hosts that have none of CUDA's.
// Half precision is carried as bits: u16 one f16, u32 two of them, the lower one first.
#pragma once

typedef signed char i8;
typedef unsigned char u8;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

static_assert(sizeof(u64) == 8 && sizeof(u32) == 4 && sizeof(u16) == 2, "sizes of the wire");

// Sixteen bytes, the widest access of a thread.
struct alignas(16) Quad {
    u32 x, y, z, w;
};

struct alignas(8) Pair {
    u32 x, y;
};

const u32 WARP = 32;
const float F16_MAX = 65504.0f;

#ifndef FARTHING_EMULATOR

// An entry point: its name is not mangled, a block has so many threads, and so many blocks shall
// fit on a multiprocessor together.
#define KERNEL(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define DEVICE __device__ __forceinline__
// Memory that the threads of a block share: of a size known here, or of the size of the launch.
#define SHARED __shared__
#define SHARED_DYNAMIC(name) extern __shared__ __align__(128) u8 name[]

// === Half precision ===

DEVICE float f16_to_f32(u16 bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

// The nearest f16; what is beyond the largest becomes the largest, what is no number stays none.
DEVICE u16 f32_to_f16(float value) {
    value = value > F16_MAX ? F16_MAX : (value < -F16_MAX ? -F16_MAX : value);
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// Two as above.
DEVICE u32 f32_to_f16x2(float low, float high) {
    low = low > F16_MAX ? F16_MAX : (low < -F16_MAX ? -F16_MAX : low);
    high = high > F16_MAX ? F16_MAX : (high < -F16_MAX ? -F16_MAX : high);
    u32 bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

// Two within what f16 holds: one instruction.
DEVICE u32 f32_to_f16x2_bounded(float low, float high) {
    u32 bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

DEVICE u32 f16x2_add(u32 a, u32 b) {
    u32 sum;
    asm("add.f16x2 %0, %1, %2;" : "=r"(sum) : "r"(a), "r"(b));
    return sum;
}

DEVICE u32 f16x2_sub(u32 a, u32 b) {
    u32 difference;
    asm("sub.f16x2 %0, %1, %2;" : "=r"(difference) : "r"(a), "r"(b));
    return difference;
}

DEVICE u32 f16x2_mul(u32 a, u32 b) {
    u32 product;
    asm("mul.f16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
    return product;
}

// a * b + c, rounded once.
DEVICE u32 f16x2_fma(u32 a, u32 b, u32 c) {
    u32 sum;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
    return sum;
}

// (bits & mask) | set in one instruction.
template <u32 MASK, u32 SET> DEVICE u32 and_or(u32 bits) {
    u32 result;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(bits), "n"(MASK), "n"(SET));
    return result;
}

// Four bytes of the eight in `low` and `high`, chosen by the nibbles of `selector`.
DEVICE u32 permute_bytes(u32 low, u32 high, u32 selector) {
    return __byte_perm(low, high, selector);
}

// === Functions ===

// 2^x, log2(x) and 1/sqrt(x) of the special function unit: relative error about 2^-22.
DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float log2_fast(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float rsqrt_fast(float x) {
    float y;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Of a number and none, the number.
DEVICE float larger(float a, float b) { return fmaxf(a, b); }

DEVICE u32 float_bits(float x) { return __float_as_uint(x); }
DEVICE float bits_float(u32 x) { return __uint_as_float(x); }

// === Threads ===

DEVICE u32 thread_id() { return threadIdx.x; }
DEVICE u32 thread_count() { return blockDim.x; }
DEVICE u32 block_x() { return blockIdx.x; }
DEVICE u32 block_y() { return blockIdx.y; }
DEVICE u32 block_z() { return blockIdx.z; }
DEVICE u32 grid_x() { return gridDim.x; }
DEVICE u32 grid_y() { return gridDim.y; }
DEVICE u32 grid_z() { return gridDim.z; }

// All threads of the block, or of the warp, wait for each other. Every one of them must come.
DEVICE void sync_block() { __syncthreads(); }
DEVICE void sync_warp() { __syncwarp(); }

// Another lane's value. All 32 lanes must call it.
DEVICE float shuffle_xor(float value, u32 mask) { return __shfl_xor_sync(~0u, value, mask); }
DEVICE u32 shuffle_xor(u32 value, u32 mask) { return __shfl_xor_sync(~0u, value, mask); }
DEVICE float shuffle(float value, u32 lane) { return __shfl_sync(~0u, value, lane); }
DEVICE u32 shuffle(u32 value, u32 lane) { return __shfl_sync(~0u, value, lane); }
// One bit a lane.
DEVICE u32 ballot(u32 predicate) { return __ballot_sync(~0u, predicate); }
DEVICE u32 count_bits(u32 bits) { return __popc(bits); }

// What was written before is seen by other blocks before what is written after.
DEVICE void fence_device() { __threadfence(); }
// Adds and answers the value before. Used on counters that blocks share.
DEVICE u32 atomic_add(u32 *counter, u32 value) { return atomicAdd(counter, value); }
// The same on counters in the block's shared memory, and for the sum of floats there.
DEVICE u32 atomic_add_shared(u32 *counter, u32 value) { return atomicAdd(counter, value); }

// Kernels that are started as overlapping (launch.rs) begin while the one before them ends. It lets
// them when all its blocks have called the first of these; they may touch nothing that it or its
// predecessors write, nor write what those read, before they have called the second.
DEVICE void release_successor() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
DEVICE void wait_for_predecessor() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// === Memory ===

// Sixteen bytes that are read once: not kept in L1.
DEVICE Quad load_once(const void *address) {
    Quad q;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(q.x), "=r"(q.y), "=r"(q.z), "=r"(q.w)
                 : "l"(address));
    return q;
}

// A value that another block wrote in this launch: not from L1.
DEVICE float load_fresh(const float *address) { return __ldcg(address); }

DEVICE u32 shared_address(const void *pointer) {
    return (u32)__cvta_generic_to_shared(pointer);
}

// Copies sixteen bytes from global to shared memory in the background; zeros if not `valid`.
DEVICE void copy_async(void *shared, const void *global, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(valid ? 16 : 0)
                 : "memory");
}

// Sixteen bytes that are used once: the L2 is asked to fetch the 128-byte line around them.
DEVICE void copy_async_stream(void *shared, const void *global) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(shared_address(shared)),
                 "l"(global)
                 : "memory");
}

// Closes a group of this thread's copies; waits until at most PENDING groups are not done.
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <u32 PENDING> DEVICE void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// === Tensor cores ===

// Four 8x8 matrices of f16: lane l gives the address of row l % 8 of matrix l / 8 (16 bytes,
// aligned); it gets elements 2*(l % 4) and 2*(l % 4) + 1 of row l / 4 of each.
DEVICE void load_matrices(u32 (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)));
}

// As above, each matrix transposed: elements of rows 2*(l % 4) and + 1 in column l / 4.
DEVICE void load_matrices_transposed(u32 (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)));
}

// d += a * b for a 16x16 (row-major), b 16x8 (column-major), both f16, and d 16x8 in f32. With
// g = lane / 4 and t = lane % 4 a lane holds: a[0] row g columns 2t, 2t+1; a[1] row g+8; a[2] row g
// columns 2t+8, 2t+9; a[3] row g+8, those; b[0] rows 2t, 2t+1 of column g; b[1] rows 2t+8, 2t+9;
// d[0], d[1] row g columns 2t, 2t+1; d[2], d[3] row g+8.
// Source: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type".
DEVICE void multiply_add(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// === Warp groups: Hopper (sm_90a) only ===

// Whether this is compiled for a card that has them.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define HOPPER 1

// What ordinary stores and copies wrote to shared memory is seen by tensor cores that read it by
// descriptor, after the next barrier.
DEVICE void fence_tensor_reads() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// The registers of products are ready to be used by the tensor cores.
DEVICE void group_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// Closes a group of products; waits until at most PENDING groups are not done.
DEVICE void group_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <u32 PENDING> DEVICE void group_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// Describes a matrix in shared memory for multiply_add_group: rows of 64 f16 (128 bytes), eight
// rows to 1024 bytes that start on a multiple of 1024, whose sixteen-byte piece p lies at
// p ^ (row % 8). `at` is the first row plus 32 bytes for each 16 columns to skip.
// Source: PTX ISA, "Matrix descriptor"; 128-byte swizzling, 1024 bytes from eight rows to the next.
DEVICE u64 describe_matrix(const u8 *at) {
    const u64 start = (shared_address(at) & 0x3ffff) >> 4;
    return start | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}

// d += a * b in the background, by the four warps of a group together: a is 64x16, of which warp w
// holds rows 16w to 16w + 15 as in multiply_add, b is 16 columns of the matrix described, a row of
// which is a column of the product; d[4 i + p] is sum p of columns 8i to 8i + 7.
DEVICE void multiply_add_group(float (&d)[64], const u32 (&a)[4], u64 b) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
                 "}, {%64, %65, %66, %67}, %68, p, 1, 1, 0;\n}"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]),
                   "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
                   "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]),
                   "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
                   "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),
                   "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
                   "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]),
                   "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
                   "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]),
                   "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
                   "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]),
                   "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
                   "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]),
                   "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
                   "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]),
                   "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
}

DEVICE void multiply_add_group(float (&d)[32], const u32 (&a)[4], u64 b) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
                 "}, {%32, %33, %34, %35}, %36, p, 1, 1, 0;\n}"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]),
                   "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
                   "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]),
                   "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
                   "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),
                   "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
                   "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]),
                   "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
}

#endif // __CUDA_ARCH_FEAT_SM90_ALL

#else
#include "emulator.h"
#endif // FARTHING_EMULATOR

DEVICE u32 lesser(u32 a, u32 b) { return a < b ? a : b; }

// === Sums over a warp ===

DEVICE float warp_sum(float value) {
    for (u32 mask = WARP / 2; mask > 0; mask /= 2) {
        value += shuffle_xor(value, mask);
    }
    return value;
}

DEVICE float warp_max(float value) {
    for (u32 mask = WARP / 2; mask > 0; mask /= 2) {
        const float other = shuffle_xor(value, mask);
        value = other > value ? other : value;
    }
    return value;
}
