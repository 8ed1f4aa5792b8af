// Small kernels that do one thing each, right or wrong, for the emulator's own tests.

#include "intrinsics.cuh"

KERNEL(1024, 1) selftest_sum(const float *in, float *out, u32 count) {
    SHARED float parts[WARP];
    float sum = 0;
    for (u32 i = thread_id(); i < count; i += thread_count()) {
        sum += in[i];
    }
    sum = warp_sum(sum);
    if (thread_id() % WARP == 0) {
        parts[thread_id() / WARP] = sum;
    }
    sync_block();
    if (thread_id() < WARP) {
        sum = warp_sum(thread_id() < thread_count() / WARP ? parts[thread_id()] : 0.0f);
        if (thread_id() == 0) {
            out[block_x()] = sum;
        }
    }
}

// For every lane: the value of lane + 1, of lane ^ 5, and who is odd.
KERNEL(32, 1) selftest_lanes(const u32 *in, u32 *out) {
    const u32 lane = thread_id();
    out[lane] = shuffle(in[lane], lane + 1);
    out[WARP + lane] = shuffle_xor(in[lane], 5);
    out[2 * WARP + lane] = ballot(in[lane] & 1);
}

// d = a * b of one 16x8x16 tile; a row-major [16][16], b column-major [8][16], d [16][8].
KERNEL(32, 1) selftest_multiply(const u16 *a, const u16 *b, float *d, u32 load) {
    SHARED alignas(16) u16 tile[256];
    const u32 lane = thread_id(), g = lane / 4, t = lane % 4;
    for (u32 i = lane; i < 256; i += WARP) {
        tile[i] = a[i];
    }
    sync_warp();
    u32 fragment[4];
    if (load) {
        load_matrices(fragment, &tile[lane % 16 * 16 + lane / 16 * 8]);
    } else {
        for (u32 i = 0; i < 4; i++) {
            fragment[i] = *(const u32 *)&a[(g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8];
        }
    }
    const u32 b0 = *(const u32 *)&b[g * 16 + 2 * t], b1 = *(const u32 *)&b[g * 16 + 2 * t + 8];
    float sums[4] = {};
    multiply_add(sums, fragment, b0, b1);
    for (u32 i = 0; i < 4; i++) {
        d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
    }
}

// Four 8x8 matrices one after the other, each transposed.
KERNEL(32, 1) selftest_transpose(const u16 *in, u32 *out) {
    SHARED alignas(16) u16 tile[256];
    const u32 lane = thread_id();
    for (u32 i = lane; i < 256; i += WARP) {
        tile[i] = in[i];
    }
    sync_warp();
    u32 fragment[4];
    load_matrices_transposed(fragment, &tile[lane * 8]);
    for (u32 i = 0; i < 4; i++) {
        out[i * WARP + lane] = fragment[i];
    }
}

// Two groups of copies, the second with zeros for odd threads; waits for `waits` groups.
KERNEL(64, 1) selftest_copy(const Quad *in, Quad *out, u32 waits) {
    SHARED_DYNAMIC(shared);
    Quad *tile = (Quad *)shared;
    const u32 id = thread_id(), count = thread_count();
    copy_async_stream(&tile[id], &in[id]);
    copy_async_commit();
    const bool valid = id % 2 == 0;
    copy_async(&tile[count + id], valid ? &in[count + id] : in, valid);
    copy_async_commit();
    if (waits == 1) {
        copy_async_wait<1>();
    }
    if (waits == 2) {
        copy_async_wait<0>();
    }
    sync_block();
    out[id] = tile[count - 1 - id];
    out[count + id] = tile[2 * count - 1 - id];
}

KERNEL(256, 1) selftest_half(const u32 *a, const u32 *b, const u32 *c, u32 *out, u32 count) {
    const u32 i = block_x() * thread_count() + thread_id();
    if (i < count) {
        out[i] = f16x2_add(a[i], b[i]);
        out[count + i] = f16x2_sub(a[i], b[i]);
        out[2 * count + i] = f16x2_mul(a[i], b[i]);
        out[3 * count + i] = f16x2_fma(a[i], b[i], c[i]);
        out[4 * count + i] = f32_to_f16(bits_float(a[i]));
        out[5 * count + i] = float_bits(f16_to_f32(a[i] & 0xffff));
        out[6 * count + i] = permute_bytes(a[i], b[i], c[i]);
    }
}

KERNEL(64, 1) selftest_divergent_block() {
    if (thread_id() != 7) {
        sync_block();
    }
}

KERNEL(64, 1) selftest_divergent_warp(u32 *out) {
    if (thread_id() % 2 == 0) {
        out[0] = shuffle(1u, 0);
    } else {
        out[0] = ballot(1);
    }
}

KERNEL(64, 1) selftest_early_return(u32 *out) {
    if (thread_id() >= 40) {
        return;
    }
    out[thread_id()] = shuffle_xor(thread_id(), 1);
}

// Lane l reads what lane l + `by` wrote, after the barrier that is asked for, and writes again.
KERNEL(64, 1) selftest_race(u32 *out, u32 by, u32 barrier, u32 again) {
    SHARED u16 values[64];
    const u32 id = thread_id();
    values[id] = id;
    const auto wait = [&]() {
        if (barrier == 1) {
            sync_warp();
        } else if (barrier == 2) {
            sync_block();
        }
    };
    wait();
    out[id] = values[(id + by) % 64];
    if (again >= 1) {
        if (again == 2) {
            wait();
        }
        values[id] = 0;
    }
}

// Waits for what nobody writes.
KERNEL(32, 1) selftest_endless(const u32 *flag, u32 *out) {
    while (*(volatile const u32 *)flag == 0) {
    }
    out[0] = 1;
}

// Writes one element at an offset, which may lie outside.
KERNEL(32, 1) selftest_write(u32 *out, u64 offset) {
    if (thread_id() == 3) {
        out[offset] = 1;
    }
}

KERNEL(32, 1) selftest_shared_write(u32 *out, u32 offset) {
    SHARED_DYNAMIC(shared);
    if (thread_id() == 3) {
        ((u32 *)shared)[offset] = 1;
        out[0] = ((u32 *)shared)[offset];
    }
}

// Reads sixteen bytes from byte `offset`.
KERNEL(32, 1) selftest_quad(const u8 *in, Quad *out, u32 offset, u32 way) {
    SHARED_DYNAMIC(shared);
    if (way == 0) {
        out[thread_id()] = *(const Quad *)(in + offset);
    } else if (way == 1) {
        out[thread_id()] = load_once(in + offset);
    } else {
        copy_async(shared + 16 * thread_id(), in + offset, true);
        copy_async_commit();
        copy_async_wait<0>();
        out[thread_id()] = *(const Quad *)(shared + 16 * thread_id());
    }
}

// The last block to finish sums what the others wrote.
KERNEL(32, 1) selftest_last_block(u32 *parts, u32 *counter, u32 *out) {
    SHARED u32 last;
    if (thread_id() == 0) {
        parts[block_x()] = block_x() + 1;
        fence_device();
        last = atomic_add(counter, 1) == grid_x() - 1;
    }
    sync_block();
    if (last && thread_id() == 0) {
        for (u32 i = 0; i < grid_x(); i++) {
            *out += parts[i];
        }
    }
}

// d = a * b of one 64x16 tile by 16 x `columns`; a row-major [64][16], b one row of 16 a column,
// [columns][16], d [64][columns]. It skips the fences that are asked for.
template <u32 COLUMNS> DEVICE void selftest_group(const u16 *a, const u16 *b, float *d, u32 skip) {
    SHARED_DYNAMIC(shared);
    const u32 lane = thread_id() % WARP, g = lane / 4, t = lane % 4;
    u8 *matrix = shared + (1024 - shared_address(shared) % 1024) % 1024;
    for (u32 quad = thread_id(); quad < COLUMNS * 2; quad += thread_count()) {
        // The second sixteen of the row's 64 columns.
        const u32 row = quad / 2, piece = 2 + quad % 2;
        copy_async(matrix + row * 128 + (piece ^ row % 8) * 16, b + quad * 8, true);
    }
    copy_async_commit();
    copy_async_wait<0>();
    if (skip != 1) {
        fence_tensor_reads();
    }
    sync_block();
    u32 fragment[4];
    const u16 *own = a + thread_id() / WARP * 16 * 16;
    for (u32 i = 0; i < 4; i++) {
        fragment[i] = *(const u32 *)&own[(g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8];
    }
    float sums[COLUMNS / 2] = {};
    if (skip != 2) {
        group_fence();
    }
    multiply_add_group(sums, fragment, describe_matrix(matrix + 32));
    group_commit();
    if (skip == 3) {
        group_wait<1>();
    } else {
        group_wait<0>();
    }
    for (u32 i = 0; i < COLUMNS / 2; i++) {
        const u32 row = thread_id() / WARP * 16 + g + i % 4 / 2 * 8;
        d[row * COLUMNS + i / 4 * 8 + 2 * t + i % 2] = sums[i];
    }
}

KERNEL(128, 1) selftest_group128(const u16 *a, const u16 *b, float *d, u32 skip) {
    selftest_group<128>(a, b, d, skip);
}

KERNEL(128, 1) selftest_group64(const u16 *a, const u16 *b, float *d, u32 skip) {
    selftest_group<64>(a, b, d, skip);
}
