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
#include "sample_select.cuh"

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

const float LN_2 = 0.6931471805599453f;
const float TEMPERATURE_MIN = 1e-5f;
// How JSON writes "never".
const float NEVER = -9999.0f;

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
