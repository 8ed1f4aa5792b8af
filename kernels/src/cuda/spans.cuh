// How a product is cut so that every block works equally long, and how the pieces become one.
//
// The outputs are cut into units, each unit's inputs into chunks. All chunks stand in one row, unit
// after unit, and each block takes an equal span of it; where a span ends inside a unit, its blocks
// leave partial sums, and the last of them to finish adds all up in the order of the blocks. The
// sum so does not depend on who is last. Idea: stream-K (Osama et al. 2023, arXiv 2301.03598) and
// Marlin's stripes. spans.rs has the same arithmetic, which its tests cover.
#pragma once

#include "intrinsics.cuh"

struct Spans {
    u32 unit_chunks; // of one unit
    u32 base, extra; // chunks of every block, and how many blocks have one more

    DEVICE Spans(u32 units, u32 chunks) {
        unit_chunks = chunks;
        base = units * chunks / grid_x();
        extra = units * chunks % grid_x();
    }

    DEVICE u32 begin(u32 block) const { return block * base + lesser(block, extra); }

    // The block that has this chunk.
    DEVICE u32 owner(u32 chunk) const {
        const u32 longer = extra * (base + 1);
        return chunk < longer ? chunk / (base + 1) : extra + (chunk - longer) / base;
    }

    DEVICE u32 first_owner(u32 unit) const { return owner(unit * unit_chunks); }
    DEVICE u32 last_owner(u32 unit) const { return owner((unit + 1) * unit_chunks - 1); }

    // Where a block leaves its part of a unit. A block shares two units at most: the one that it
    // begins in, and the one that it ends in, of which it then is the first owner.
    DEVICE u32 slot(u32 block, u32 unit) const {
        return 2 * block + (begin(block) < unit * unit_chunks ? 1 : 0);
    }
};

// Whether this block is the last of `owners` to leave its part of a unit. What they left is visible
// to it then. All threads must call it; the counter is zero again afterwards.
DEVICE bool last_to_arrive(u32 *counter, u32 owners, u32 *shared_flag) {
    sync_block();
    if (thread_id() == 0) {
        // What the other threads wrote before the barrier is fenced too.
        fence_device();
        const u32 before = atomic_add(counter, 1);
        *shared_flag = before == owners - 1;
        if (before == owners - 1) {
            *counter = 0;
            fence_device();
        }
    }
    sync_block();
    return *shared_flag != 0;
}

// What becomes of a sum.
enum Store : u32 {
    STORE_F16 = 0,  // rounded to f16
    STORE_F32 = 1,  // as it is
    STORE_ADD = 2,  // added to the f32 that is there
};

struct Output {
    void *out;         // [tokens][rows], f16 or f32
    const float *bias; // [rows], or null
    u32 rows;
    u32 store;

    DEVICE void write(u32 token, u32 row, float value) const {
        if (bias) {
            value += bias[row];
        }
        const u64 at = (u64)token * rows + row;
        if (store == STORE_F16) {
            ((u16 *)out)[at] = f32_to_f16(value);
        } else if (store == STORE_F32) {
            ((float *)out)[at] = value;
        } else {
            ((float *)out)[at] += value;
        }
    }

    // Two neighbouring outputs of a token, of which the first is even, where both exist.
    DEVICE void write_pair(u32 token, u32 tokens, u32 row, float low, float high) const {
        if (token >= tokens || row >= rows) {
            return;
        }
        if (store == STORE_F16 && rows % 2 == 0) {
            if (bias) {
                low += bias[row];
                high += bias[row + 1];
            }
            *(u32 *)((u16 *)out + (u64)token * rows + row) = f32_to_f16x2(low, high);
            return;
        }
        write(token, row, low);
        if (row + 1 < rows) {
            write(token, row + 1, high);
        }
    }
};
