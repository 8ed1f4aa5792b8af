// Chooses one token for each row of logits, in the order of the CPU's sampler: penalties,
// temperature, min_p, top_k, top_p, one random number. A block does a row.
//
// logits f32 [rows][vocabulary], changed by the penalties; parameters [rows]; the tokens of a row's
// history are history_tokens[starts[row]..starts[row + 1]], each once, with how often they were
// generated. tokens u32 [rows]; scores [rows], of the softmax of the logits after penalties at
// temperature 1. A logit that is not a number is impossible; if all are, token 0 is chosen.
//
// How: with y = (max - logit) * log2(e) / temperature a token's weight is 2^-y. Its rank is one
// integer, y in 8.24 fixed point above the id, so that smaller is likelier and no two are equal.
// top_k, top_p and the draw are one question, asked up to three times: the first rank up to which
// counts or weights sum to so much. It is answered by histograms of ever narrower ranges, ten bits
// at a time, without sorting. Weights are summed as integers in units of 2^-44: any order of adding
// gives the same sum, so the same inputs give the same token. The few tokens that can matter are
// put aside in shared memory by the pass that sums all; if they are too many, the logits are read
// again instead. Where neither top_k nor top_p cut, the draw is over ids in their order, for which
// the warps' sums say where to look.
//
// A token can differ from the CPU's where the random number falls within rounding (about 2^-20 of
// the total) of a boundary, or where two logits differ and their weights do not.
// Idea: radix selection as of Alabi et al., "Fast k-selection algorithms for graphics processing
// units" (2012); the online softmax of Milakov and Gimelshein (2018).
//
// Bytes: 4 * vocabulary * rows once for the likeliest token, twice for a draw, more often if over
// 2,048 tokens matter. Operations of a logit: about 10 in the first pass and 15 in the second.
#include "intrinsics.cuh"

// As SampleParameters of sample.rs.
struct SampleParameters {
    float temperature;
    float top_p;
    float min_p;
    float repetition;
    float presence;
    float frequency;
    u32 top_k;
    u32 reserved;
    double uniform;
};

// As SampleScores of sample.rs.
struct SampleScores {
    float logprob;
    float entropy;
    float margin;
    float max_logprob;
};

namespace sample {

const u32 THREADS = 1024;
const u32 WARPS = THREADS / WARP;
// One for each thread.
const u32 BINS = THREADS;
const u32 BIN_BITS = 10;
// Tokens that shared memory has room for.
const u32 LIST_MAX = 2048;
// Groups of four logits that a thread has in flight where all logits are always read.
const u32 MANY = 4;

const float LOG2_E = 1.4426950408889634f;
const float LN_2 = 0.6931471805599453f;
const float TEMPERATURE_MIN = 1e-5f;
// Where e^x becomes zero in f32: 2^-150.
const float Y_END = 150.0f;
// Of y in a rank, and of a weight as an integer.
const float Y_UNIT = 16777216.0f;
const float WEIGHT_UNIT = 17592186044416.0f;
const u32 NO_KEY = 0xffffffff;
// How JSON writes "never".
const float NEVER = -9999.0f;

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

DEVICE void penalise(const Row &row, const SampleParameters &parameters, const u32 *tokens,
                     const u32 *counts, u32 begin, u32 end) {
    for (u32 i = begin + thread_id(); i < end; i += THREADS) {
        const u32 token = tokens[i];
        if (token < row.vocabulary) {
            float logit = row.logits[token];
            logit = logit > 0.0f ? logit / parameters.repetition : logit * parameters.repetition;
            if (counts[i] > 0) {
                logit -= parameters.presence + parameters.frequency * (float)counts[i];
            }
            row.logits[token] = logit;
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
    Stats stats = {-infinity(), NO_KEY, -infinity(), 0.0f, 0.0f};
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

DEVICE SampleScores scores_of(const Stats &stats, float chosen) {
    const float largest = 3.4028235e38f;
    if (!(stats.max <= largest && stats.max >= -largest)) {
        return SampleScores{NEVER, 0.0f, 0.0f, NEVER};
    }
    const float log_sum = log2_fast(stats.sum) * LN_2;
    const float logprob = chosen - stats.max - log_sum;
    const float entropy = log_sum - stats.weighted / stats.sum;
    const float second = exp2_fast((stats.second - stats.max) * LOG2_E);
    SampleScores scores;
    scores.logprob = logprob >= -largest ? logprob : NEVER;
    scores.entropy = entropy > 0.0f ? entropy : 0.0f;
    scores.margin = (1.0f - second) / stats.sum;
    scores.max_logprob = -log_sum;
    return scores;
}

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

// A rank that all tokens that can matter are up to. Not so tight that it must be exact.
DEVICE u64 bound_of(Shared &shared, const Scale &scale, const SampleParameters &parameters,
                    u32 top_k, u64 limit, u32 vocabulary, float own_max) {
    if (top_k > 0 && top_k <= THREADS) {
        // Of the threads' largest the k-th is no larger than the k-th of all.
        clear_bins(shared);
        const u32 key = key_of(scale, own_max);
        if (rank_of(key, 0) <= limit) {
            atomic_add_shared(&shared.counts[key >> (32 - BIN_BITS)], 1);
        }
        const u64 seen = find_bin(shared, Measure::Count, top_k);
        const u64 bound = ((u64)(shared.bin + 1) << (64 - BIN_BITS)) - 1;
        return seen >= top_k && bound < limit ? bound : limit;
    }
    if (top_k == 0 && parameters.top_p < 1.0f) {
        // The total is at least 1, so all tokens of less than (1 - top_p) / vocabulary together
        // have less of it than top_p leaves out.
        const float y = log2_fast((float)vocabulary / (1.0f - parameters.top_p)) + 0.01f;
        const u64 bound = rank_of(y < Y_END ? (u32)(y * Y_UNIT) : NO_KEY, NO_KEY);
        return bound < limit ? bound : limit;
    }
    return top_k > 0 ? limit : 0;
}

// === The draw ===

DEVICE u64 share_of(u64 total, float top_p) {
    const double share = top_p > 0.0f ? (double)top_p * (double)total : 0.0;
    const u64 whole = (u64)share;
    const u64 goal = (double)whole < share ? whole + 1 : whole;
    return goal > 1 ? goal : 1;
}

// The smallest sum that exceeds the drawn part.
DEVICE u64 drawn_of(u64 total, double uniform) {
    const u64 part = (u64)(uniform * (double)total);
    return (part < total ? part : total - 1) + 1;
}

// The token whose weights, summed in the order of the ids, first exceed the drawn part: the warps'
// sums name the segment, then each thread sums a few neighbours of it.
DEVICE u32 draw_in_order(Shared &shared, const Tokens &tokens, u64 limit, u64 goal) {
    const Row &row = tokens.row;
    const u64 sums = warp_scan(shared.warp_sums[thread_id() % WARP]);
    const u32 reached = ballot(sums >= goal ? 1u : 0u);
    const u32 segment = count_bits((reached & (0 - reached)) - 1);
    const u64 before = shuffle_wide(sums, segment == 0 ? 0 : segment - 1);
    goal -= segment == 0 ? 0 : before;
    const u32 skipped = segment * row.segment * 4;
    const u32 begin = skipped > row.lead ? skipped - row.lead : 0;
    const u32 stop = skipped + row.segment * 4 - row.lead;
    const u32 end = stop < row.vocabulary ? stop : row.vocabulary;
    const u32 each = (end - begin + THREADS - 1) / THREADS;
    const u32 first = begin + thread_id() * each;
    const u32 last = first + each < end ? first + each : end;
    auto weight_at = [&](u32 id) -> u64 {
        const u64 rank = rank_of(key_of(tokens.scale, row.logits[id]), id);
        return rank <= limit ? weight_of(rank) : 0;
    };
    u64 own = 0;
    for (u32 id = first; id < last; id++) {
        own += weight_at(id);
    }
    sync_block();
    u64 total;
    u64 sum = block_scan(shared, own, total) - own;
    for (u32 id = first; id < last; id++) {
        const u64 next = sum + weight_at(id);
        if (sum < goal && goal <= next) {
            shared.found = id;
        }
        sum = next;
    }
    sync_block();
    return (u32)shared.found;
}

DEVICE u32 draw(Shared &shared, const Row &row, const SampleParameters &parameters, float max,
                float own_max) {
    const Scale scale = {max, LOG2_E / parameters.temperature};
    Tokens tokens = {row, scale, false, 0};
    const u32 top_k = parameters.top_k < row.vocabulary ? parameters.top_k : 0;
    float y_end = Y_END;
    if (parameters.min_p > 0.0f) {
        const float y = -log2_fast(parameters.min_p);
        y_end = y < y_end ? y : y_end;
    }
    if (!(y_end >= 0.0f)) {
        return 0;
    }
    u64 limit = rank_of((u32)(y_end * Y_UNIT), NO_KEY);
    u64 bound = bound_of(shared, scale, parameters, top_k, limit, row.vocabulary, own_max);
    bool by_share = parameters.top_p < 1.0f;
    bool ordered_by_id = true;
    for (;;) {
        const Sums sums = sums_up_to(shared, tokens, limit, bound);
        if (sums.count == 0) {
            return 0;
        }
        Measure measure = Measure::Weight;
        bool last = false;
        u64 goal;
        if (top_k > 0 && top_k < sums.count) {
            measure = Measure::Count;
            goal = top_k;
        } else if (by_share) {
            goal = share_of(sums.weight, parameters.top_p);
            by_share = false;
        } else {
            goal = drawn_of(sums.weight, parameters.uniform);
            last = true;
            if (ordered_by_id) {
                return draw_in_order(shared, tokens, limit, goal);
            }
        }
        limit = select(shared, tokens, limit, measure, goal);
        if (last) {
            return (u32)limit;
        }
        bound = limit;
        ordered_by_id = false;
    }
}

} // namespace sample

// `history_len` is the length of history_tokens and history_counts; starts may be null for none.
KERNEL(1024, 1) sample_tokens(float *logits, const SampleParameters *parameters,
                              const u32 *history_starts, const u32 *history_tokens,
                              const u32 *history_counts, u32 history_len, u32 vocabulary,
                              u32 *tokens, SampleScores *scores) {
    SHARED sample::Shared shared;
    const sample::Row row = sample::row_of(logits, vocabulary);
    const SampleParameters mine = parameters[block_x()];
    if (history_starts != nullptr) {
        const u32 end = history_starts[block_x() + 1];
        sample::penalise(row, mine, history_tokens, history_counts, history_starts[block_x()],
                         end < history_len ? end : history_len);
        sync_block();
    }
    float own_max;
    const sample::Stats stats = sample::stats_of(shared, row, own_max);
    u32 token = stats.sum > 0.0f ? stats.id : 0;
    const bool finite = stats.max < sample::infinity() && stats.max > -sample::infinity();
    if (finite && !(mine.temperature < sample::TEMPERATURE_MIN)) {
        token = sample::draw(shared, row, mine, stats.max, own_max);
    }
    if (thread_id() == 0) {
        tokens[block_x()] = token;
        scores[block_x()] = sample::scores_of(stats, row.logits[token]);
    }
}
