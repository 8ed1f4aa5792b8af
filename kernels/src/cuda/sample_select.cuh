// Ranks and weights of tokens, and the rank up to which counts or weights sum to so much. Part of
// sample.cu, which says how.
#pragma once
#include "sample_row.cuh"

namespace sample {

const u32 BIN_BITS = 10;
// Where e^x becomes zero in f32: 2^-150.
const float Y_END = 150.0f;
// Of y in a rank, and of a weight as an integer.
const float Y_UNIT = 16777216.0f;
const float WEIGHT_UNIT = 17592186044416.0f;
const u32 NO_KEY = 0xffffffff;

// === Ranks and weights ===

// What makes weights of logits.
struct Scale {
    float max;
    float factor;
};

// y in fixed point.
DEVICE u32 key_of(const Scale &scale, float logit) {
    const float y = (scale.max - logit) * scale.factor;
    // False for what is not a number.
    return y < Y_END ? (u32)(y * Y_UNIT) : NO_KEY;
}

DEVICE u64 rank_of(u32 key, u32 id) { return (u64)key << 32 | id; }

DEVICE u64 weight_of(u64 rank) {
    const float y = (float)(u32)(rank >> 32) * (1.0f / Y_UNIT);
    return (u64)(exp2_fast(-y) * WEIGHT_UNIT);
}

// The tokens that are asked about: those of `list`, or if there are too many, all of the row.
struct Tokens {
    Row row;
    Scale scale;
    bool listed;
    u32 listed_count;
};

template <class Visit>
DEVICE void each_rank(const Shared &shared, const Tokens &tokens, Visit visit) {
    if (tokens.listed) {
        for (u32 i = thread_id(); i < tokens.listed_count; i += THREADS) {
            visit(shared.list[i]);
        }
    } else {
        each_logit<1>(tokens.row, [&](u32 id, float logit) {
            visit(rank_of(key_of(tokens.scale, logit), id));
        });
    }
}

// Count and weights of tokens.
struct Sums {
    u32 count;
    u64 weight;
};

DEVICE Sums block_sums(Shared &shared, Sums mine) {
    const u32 lane = thread_id() % WARP;
    const u32 warp = thread_id() / WARP;
    const u64 weight = warp_scan(mine.weight);
    const u64 count = warp_scan(mine.count);
    // The last readers of an earlier sum have gone on.
    sync_block();
    if (lane == WARP - 1) {
        shared.warp_sums[warp] = weight;
        shared.warp_counts[warp] = (u32)count;
    }
    sync_block();
    Sums sums;
    sums.weight = shuffle_wide(warp_scan(shared.warp_sums[lane]), WARP - 1);
    sums.count = (u32)shuffle_wide(warp_scan(shared.warp_counts[lane]), WARP - 1);
    return sums;
}

// Sums the tokens up to rank `limit`, and puts those up to `bound` into the list if they fit.
// Leaves each warp's sum of weights in `warp_sums`.
DEVICE Sums gather(Shared &shared, Tokens &tokens, u64 limit, u64 bound) {
    sync_block();
    if (thread_id() == 0) {
        shared.list_len = 0;
    }
    sync_block();
    Sums mine = {0, 0};
    each_logit<MANY>(tokens.row, [&](u32 id, float logit) {
        const u64 rank = rank_of(key_of(tokens.scale, logit), id);
        if (rank <= limit) {
            mine.count++;
            mine.weight += weight_of(rank);
            // Once it is full nobody adds to its length any more.
            if (rank <= bound && *(volatile u32 *)&shared.list_len <= LIST_MAX) {
                const u32 at = atomic_add_shared(&shared.list_len, 1);
                if (at < LIST_MAX) {
                    shared.list[at] = rank;
                }
            }
        }
    });
    const Sums sums = block_sums(shared, mine);
    tokens.listed_count = shared.list_len;
    tokens.listed = tokens.listed_count <= LIST_MAX;
    return sums;
}

// The same; what is in the list already is taken from there.
DEVICE Sums sums_up_to(Shared &shared, Tokens &tokens, u64 limit, u64 bound) {
    if (!tokens.listed) {
        return gather(shared, tokens, limit, bound);
    }
    Sums mine = {0, 0};
    for (u32 i = thread_id(); i < tokens.listed_count; i += THREADS) {
        const u64 rank = shared.list[i];
        if (rank <= limit) {
            mine.count++;
            mine.weight += weight_of(rank);
        }
    }
    return block_sums(shared, mine);
}

// === Selection ===

enum class Measure { Count, Weight };

// No thread touches another's bin here, so a barrier is needed only after it.
DEVICE void clear_bins(Shared &shared) {
    shared.counts[thread_id()] = 0;
    shared.lows[thread_id()] = 0;
    shared.highs[thread_id()] = 0;
    sync_block();
}

DEVICE void add_weight(Shared &shared, u32 bin, u64 weight) {
    const u32 low = (u32)weight;
    const u32 before = atomic_add_shared(&shared.lows[bin], low);
    const u32 high = (u32)(weight >> 32) + (before + low < before ? 1 : 0);
    if (high != 0) {
        atomic_add_shared(&shared.highs[bin], high);
    }
}

// Puts the bin in which the running sum reaches `goal`, or the last one if none does, into `bin`,
// its tokens into `bin_count` and the sum of those before it into `before`; answers the total.
DEVICE u64 find_bin(Shared &shared, Measure measure, u64 goal) {
    sync_block();
    const u32 own = thread_id();
    const u64 weight = (u64)shared.highs[own] << 32 | shared.lows[own];
    const u64 value = measure == Measure::Count ? shared.counts[own] : weight;
    u64 total;
    const u64 inclusive = block_scan(shared, value, total);
    goal = goal < total ? goal : total;
    if (inclusive - value < goal && goal <= inclusive) {
        shared.bin = own;
        shared.bin_count = shared.counts[own];
        shared.before = inclusive - value;
    }
    sync_block();
    return total;
}

// The first rank up to which tokens measure at least `goal` (from 1), among those up to `limit`,
// of which there is at least one with a weight.
DEVICE u64 select(Shared &shared, const Tokens &tokens, u64 limit, Measure measure, u64 goal) {
    u64 first = 0;
    u64 last = limit;
    u32 shift = 0;
    while (last >> shift >= BINS) {
        shift++;
    }
    for (;;) {
        clear_bins(shared);
        each_rank(shared, tokens, [&](u64 rank) {
            if (rank >= first && rank <= last) {
                const u32 bin = (u32)((rank - first) >> shift);
                atomic_add_shared(&shared.counts[bin], 1);
                if (measure == Measure::Weight) {
                    add_weight(shared, bin, weight_of(rank));
                }
            }
        });
        const u64 total = find_bin(shared, measure, goal);
        goal = (goal < total ? goal : total) - shared.before;
        first += (u64)shared.bin << shift;
        if (shift == 0) {
            return first;
        }
        const u64 end = first + (((u64)1 << shift) - 1);
        last = end < last ? end : last;
        if (shared.bin_count == 1) {
            break;
        }
        shift = shift > BIN_BITS ? shift - BIN_BITS : 0;
    }
    each_rank(shared, tokens, [&](u64 rank) {
        if (rank >= first && rank <= last) {
            shared.found = rank;
        }
    });
    sync_block();
    return shared.found;
}

} // namespace sample
