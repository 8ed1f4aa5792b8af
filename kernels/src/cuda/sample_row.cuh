// A block reads the logits of its row: the loads, the distribution at temperature 1 in one pass,
// and sums of integers over the block. Part of sample.cu.
#pragma once
#include "intrinsics.cuh"

namespace sample {

const u32 THREADS = 1024;
const u32 WARPS = THREADS / WARP;
// One for each thread.
const u32 BINS = THREADS;
// Tokens that shared memory has room for.
const u32 LIST_MAX = 2048;
// Groups of four logits that a thread has in flight where all logits are always read.
const u32 MANY = 4;

const float LOG2_E = 1.4426950408889634f;
const u32 NO_ID = 0xffffffff;

static_assert(WARPS == WARP, "a lane for each warp");

DEVICE float infinity() { return bits_float(0x7f800000); }
DEVICE float not_a_number() { return bits_float(0x7fc00000); }

// === Sums of integers over the block ===

DEVICE u64 shuffle_wide(u64 value, u32 lane) {
    const u32 low = shuffle((u32)value, lane);
    const u32 high = shuffle((u32)(value >> 32), lane);
    return (u64)high << 32 | low;
}

// The sum of this lane's value and those of the lanes before.
DEVICE u64 warp_scan(u64 value) {
    const u32 lane = thread_id() % WARP;
    for (u32 distance = 1; distance < WARP; distance *= 2) {
        const bool has = lane >= distance;
        const u64 other = shuffle_wide(value, has ? lane - distance : lane);
        value += has ? other : 0;
    }
    return value;
}

// What the threads of a block share.
struct Shared {
    u32 counts[BINS];
    u32 lows[BINS];
    u32 highs[BINS];
    u64 list[LIST_MAX];
    u32 list_len;
    u64 warp_sums[WARPS];
    u32 warp_counts[WARPS];
    float warp_stats[WARPS][5];
    u32 bin;
    u32 bin_count;
    u64 before;
    u64 found;
};

// As warp_scan, over the block; a barrier must come before the next one writes `warp_sums`.
DEVICE u64 block_scan(Shared &shared, u64 value, u64 &total) {
    const u32 lane = thread_id() % WARP;
    const u32 warp = thread_id() / WARP;
    const u64 inclusive = warp_scan(value);
    if (lane == WARP - 1) {
        shared.warp_sums[warp] = inclusive;
    }
    sync_block();
    const u64 sums = warp_scan(shared.warp_sums[lane]);
    total = shuffle_wide(sums, WARP - 1);
    const u64 before = shuffle_wide(sums, warp == 0 ? 0 : warp - 1);
    return inclusive + (warp == 0 ? 0 : before);
}

// === The logits of a row ===

// Groups of four that start at multiples of sixteen bytes; each warp has a segment of them. `lead`
// logits of the first group belong to the row before.
struct Row {
    float *logits;
    u32 vocabulary;
    u32 lead;
    u32 groups;
    u32 segment;
};

DEVICE Row row_of(float *logits, u32 vocabulary) {
    const u64 start = (u64)block_x() * vocabulary;
    Row row;
    row.logits = logits + start;
    row.vocabulary = vocabulary;
    row.lead = (u32)start % 4;
    row.groups = (vocabulary + row.lead + 3) / 4;
    row.segment = (row.groups + WARPS - 1) / WARPS;
    return row;
}

// What lies outside of the row is not a number.
DEVICE void load_group(const Row &row, u32 group, bool has, float (&values)[4]) {
    const u32 at = group * 4;
    if (has && at >= row.lead && at + 4 <= row.vocabulary + row.lead) {
        const Quad quad = *(const Quad *)(row.logits + (at - row.lead));
        values[0] = bits_float(quad.x);
        values[1] = bits_float(quad.y);
        values[2] = bits_float(quad.z);
        values[3] = bits_float(quad.w);
        return;
    }
    for (u32 i = 0; i < 4; i++) {
        // Before the row it wraps around to a large number.
        const u32 id = at + i - row.lead;
        values[i] = has && id < row.vocabulary ? row.logits[id] : not_a_number();
    }
}

// Calls visit(id, logit) for every logit, and for some ids of no meaning with not a number.
template <u32 IN_FLIGHT, class Visit> DEVICE void each_logit(const Row &row, Visit visit) {
    const u32 begin = thread_id() / WARP * row.segment;
    const u32 end = begin + row.segment < row.groups ? begin + row.segment : row.groups;
    for (u32 group = begin + thread_id() % WARP; group < end; group += WARP * IN_FLIGHT) {
        float values[IN_FLIGHT][4];
        for (u32 i = 0; i < IN_FLIGHT; i++) {
            load_group(row, group + i * WARP, group + i * WARP < end, values[i]);
        }
        for (u32 i = 0; i < IN_FLIGHT; i++) {
            for (u32 j = 0; j < 4; j++) {
                visit((group + i * WARP) * 4 + j - row.lead, values[i][j]);
            }
        }
    }
}

// === The first pass: the distribution at temperature 1 ===

// Of the logits seen: the largest, the first that has it, the second largest, the sum of
// e = exp(logit - max) and that of e * (logit - max).
struct Stats {
    float max;
    u32 id;
    float second;
    float sum;
    float weighted;
};

DEVICE void observe(Stats &stats, u32 id, float logit) {
    if (logit > stats.max) {
        const float shift = stats.max - logit;
        const float factor = exp2_fast(shift * LOG2_E);
        // Nothing was seen before if the sum is zero, and the shift is infinite.
        const bool first = stats.sum == 0.0f;
        stats.weighted = first ? 0.0f : factor * (stats.weighted + stats.sum * shift);
        stats.sum = first ? 1.0f : factor * stats.sum + 1.0f;
        stats.second = stats.max;
        stats.max = logit;
        stats.id = id;
    } else if (logit > -infinity()) {
        const float shift = logit - stats.max;
        const float e = exp2_fast(shift * LOG2_E);
        stats.sum += e;
        stats.weighted += e * shift;
        stats.second = logit > stats.second ? logit : stats.second;
    }
}

DEVICE Stats merged(Stats stats, Stats other) {
    if (other.max > stats.max || (other.max == stats.max && other.id < stats.id)) {
        const Stats swapped = stats;
        stats = other;
        other = swapped;
    }
    stats.second = other.max > stats.second ? other.max : stats.second;
    if (other.sum > 0.0f) {
        const float shift = other.max - stats.max;
        const float factor = exp2_fast(shift * LOG2_E);
        stats.weighted += factor * (other.weighted + other.sum * shift);
        stats.sum += factor * other.sum;
    }
    return stats;
}

DEVICE Stats warp_merged(Stats stats) {
    for (u32 mask = WARP / 2; mask > 0; mask /= 2) {
        Stats other;
        other.max = shuffle_xor(stats.max, mask);
        other.id = shuffle_xor(stats.id, mask);
        other.second = shuffle_xor(stats.second, mask);
        other.sum = shuffle_xor(stats.sum, mask);
        other.weighted = shuffle_xor(stats.weighted, mask);
        stats = merged(stats, other);
    }
    return stats;
}

// Those of the row, the same in every thread; `own_max` is the largest that this thread saw.
DEVICE Stats stats_of(Shared &shared, const Row &row, float &own_max) {
    Stats stats = {-infinity(), NO_ID, -infinity(), 0.0f, 0.0f};
    each_logit<MANY>(row, [&](u32 id, float logit) { observe(stats, id, logit); });
    own_max = stats.max;
    stats = warp_merged(stats);
    const u32 lane = thread_id() % WARP;
    if (lane == 0) {
        float *mine = shared.warp_stats[thread_id() / WARP];
        mine[0] = stats.max;
        mine[1] = bits_float(stats.id);
        mine[2] = stats.second;
        mine[3] = stats.sum;
        mine[4] = stats.weighted;
    }
    sync_block();
    const float *of_warp = shared.warp_stats[lane];
    return warp_merged(
        Stats{of_warp[0], float_bits(of_warp[1]), of_warp[2], of_warp[3], of_warp[4]});
}

} // namespace sample
