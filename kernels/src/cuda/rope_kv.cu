// What lies between the projection of q, k and v and attention, in one pass: the bias is added,
// heads of q and k turn to their position, q is written for attention, k and v into the cache.
//
// qkv f16 [rows][(heads + 2 * kv_heads) * head_dim], q before k before v; bias f32, one row of it,
// or null; cosines and sines f32 [table_positions][head_dim / 2]; positions and slots u32 [rows];
// q_out f16 [rows][heads][head_dim]. The cache is one layer's, as kv_layout.rs has it: keys and
// values [blocks][kv_heads][block_size][head_dim], f16 or i8; for i8 scales f32
// [blocks][kv_heads][block_size], the largest magnitude over 127, 0 for a head of zeros.
//
// A row whose position is not in the table is left out: nothing is written for it. A row whose slot
// is not in the cache (0xffffffff, say) has its q written and no key and value.
// Source of the rotation: Su et al., "RoFormer" (2021); its two orders: GGML's NORM and NEOX.
//
// A thread has eight dimensions of the first half of a head and their eight of the second: these
// are partners in one order, and neighbours are in the other. head_dim is a multiple of 16.
// Bytes of a row: 2 * (heads + 2 * kv_heads) * head_dim read, as many (fewer for i8) written.
// Operations of an element: 4.
#include "intrinsics.cuh"

namespace rope_kv {

const u32 EIGHT = 8;
// Below it a head counts as zeros: 127 over it is still a number.
const float MAGNITUDE_MIN = 1e-30f;
// 1.5 * 2^23: what is added to it is rounded to an integer, ties to even, in the low bits.
const float ROUNDER = 12582912.0f;

struct Cache {
    void *keys;
    void *values;
    float *key_scales;
    float *value_scales;
    u32 kv_heads;
    u32 block_size;
    u32 slots;
};

DEVICE void unpack(const Quad &quad, float (&values)[EIGHT]) {
    const u32 words[4] = {quad.x, quad.y, quad.z, quad.w};
    for (u32 i = 0; i < 4; i++) {
        values[2 * i] = f16_to_f32((u16)words[i]);
        values[2 * i + 1] = f16_to_f32((u16)(words[i] >> 16));
    }
}

DEVICE Quad pack(const float (&values)[EIGHT]) {
    return Quad{f32_to_f16x2(values[0], values[1]), f32_to_f16x2(values[2], values[3]),
                f32_to_f16x2(values[4], values[5]), f32_to_f16x2(values[6], values[7])};
}

DEVICE void load_four(const float *from, float *values) {
    const Quad quad = *(const Quad *)from;
    values[0] = bits_float(quad.x);
    values[1] = bits_float(quad.y);
    values[2] = bits_float(quad.z);
    values[3] = bits_float(quad.w);
}

DEVICE void add_bias(const float *bias, float (&values)[EIGHT]) {
    float terms[EIGHT];
    load_four(bias, terms);
    load_four(bias + 4, terms + 4);
    for (u32 i = 0; i < EIGHT; i++) {
        values[i] += terms[i];
    }
}

DEVICE void turn(float &x, float &y, float cos, float sin) {
    const float turned = x * cos - y * sin;
    y = x * sin + y * cos;
    x = turned;
}

// `cosines` and `sines` are those of the position; `lane` is the thread's number within the head.
template <bool HALVES>
DEVICE void turn_all(float (&low)[EIGHT], float (&high)[EIGHT], const float *cosines,
                     const float *sines, u32 pairs, u32 lane) {
    const u32 first = HALVES ? lane * EIGHT : lane * 4;
    const u32 second = HALVES ? first + 4 : pairs / 2 + first;
    float cos[EIGHT];
    float sin[EIGHT];
    load_four(cosines + first, cos);
    load_four(cosines + second, cos + 4);
    load_four(sines + first, sin);
    load_four(sines + second, sin + 4);
    if (HALVES) {
        for (u32 i = 0; i < EIGHT; i++) {
            turn(low[i], high[i], cos[i], sin[i]);
        }
    } else {
        for (u32 i = 0; i < 4; i++) {
            turn(low[2 * i], low[2 * i + 1], cos[i], sin[i]);
            turn(high[2 * i], high[2 * i + 1], cos[4 + i], sin[4 + i]);
        }
    }
}

// The largest magnitude in `group` neighbouring lanes, by its bits: no number is above all others,
// so it comes out and makes the scale none, too.
DEVICE float largest_magnitude(const float (&low)[EIGHT], const float (&high)[EIGHT], u32 group) {
    u32 largest = 0;
    for (u32 i = 0; i < EIGHT; i++) {
        const u32 a = float_bits(low[i]) & 0x7fffffff;
        const u32 b = float_bits(high[i]) & 0x7fffffff;
        const u32 larger = a > b ? a : b;
        largest = larger > largest ? larger : largest;
    }
    for (u32 mask = WARP / 2; mask > 0; mask /= 2) {
        const u32 other = shuffle_xor(largest, mask);
        largest = mask < group && other > largest ? other : largest;
    }
    return bits_float(largest);
}

DEVICE u32 four_integers(const float *values, float inverse) {
    u32 word = 0;
    for (u32 i = 0; i < 4; i++) {
        word |= (float_bits(values[i] * inverse + ROUNDER) & 0xff) << (8 * i);
    }
    return word;
}

// Every lane of a warp comes here; those that are not `active` store nothing.
template <bool BYTES>
DEVICE void store_in_cache(const Cache &cache, u32 slot, u32 kv_head, bool of_value, bool active,
                           const float (&low)[EIGHT], const float (&high)[EIGHT], u32 head_dim,
                           u32 lane, u32 group) {
    const u64 page = (u64)(slot / cache.block_size) * cache.kv_heads + kv_head;
    const u64 row = page * cache.block_size + slot % cache.block_size;
    const u64 first = row * head_dim + lane * EIGHT;
    void *elements = of_value ? cache.values : cache.keys;
    if (BYTES) {
        const float largest = largest_magnitude(low, high, group);
        const bool zeros = largest < MAGNITUDE_MIN;
        const float inverse = zeros ? 0.0f : 127.0f / largest;
        if (active) {
            Pair *target = (Pair *)((u8 *)elements + first);
            target[0] = Pair{four_integers(low, inverse), four_integers(low + 4, inverse)};
            target[head_dim / 16] =
                Pair{four_integers(high, inverse), four_integers(high + 4, inverse)};
            if (lane == 0) {
                (of_value ? cache.value_scales : cache.key_scales)[row] =
                    zeros ? 0.0f : largest / 127.0f;
            }
        }
    } else if (active) {
        Quad *target = (Quad *)((u16 *)elements + first);
        target[0] = pack(low);
        target[head_dim / 16] = pack(high);
    }
}

// One block does a row; `group` lanes, a power of two, do a head.
template <bool HALVES, bool BYTES>
DEVICE void do_row(const u16 *qkv, const float *bias, const u32 *positions, const u32 *slots,
                   const float *cosines, const float *sines, u32 table_positions, u16 *q_out,
                   const Cache &cache, u32 heads, u32 head_dim, u32 group) {
    release_successor();
    wait_for_predecessor();
    const u64 row = block_x();
    const u32 position = positions[row];
    const u32 slot = slots[row];
    if (position >= table_positions) {
        return;
    }
    const u32 pairs = head_dim / 2;
    const u32 all_heads = heads + 2 * cache.kv_heads;
    const u32 lane = thread_id() % group;
    cosines += (u64)position * pairs;
    sines += (u64)position * pairs;
    // As many rounds for every thread, so that warps stay together.
    for (u32 round = 0; round < all_heads; round += thread_count() / group) {
        const u32 head = round + thread_id() / group;
        const bool active = head < all_heads && lane < head_dim / 16;
        const u32 column = head * head_dim + lane * EIGHT;
        float low[EIGHT] = {};
        float high[EIGHT] = {};
        if (active) {
            const u16 *from = qkv + row * all_heads * head_dim + column;
            unpack(*(const Quad *)from, low);
            unpack(*(const Quad *)(from + pairs), high);
            if (bias != nullptr) {
                add_bias(bias + column, low);
                add_bias(bias + column + pairs, high);
            }
            if (head < heads + cache.kv_heads) {
                turn_all<HALVES>(low, high, cosines, sines, pairs, lane);
            }
        }
        if (active && head < heads) {
            u16 *to = q_out + row * heads * head_dim + column;
            *(Quad *)to = pack(low);
            *(Quad *)(to + pairs) = pack(high);
        }
        const bool of_value = head >= heads + cache.kv_heads;
        const u32 kv_head = head - heads - (of_value ? cache.kv_heads : 0);
        const bool cached = active && head >= heads && slot < cache.slots;
        store_in_cache<BYTES>(cache, slot, kv_head, of_value, cached, low, high, head_dim, lane,
                              group);
    }
}

} // namespace rope_kv

// slots of the cache: blocks * block_size.
#define ROPE_KV_ENTRY(NAME, HALVES, BYTES)                                                         \
    KERNEL(512, 2)                                                                                 \
    rope_kv_##NAME(const u16 *qkv, const float *bias, const u32 *positions, const u32 *slots,      \
                   const float *cosines, const float *sines, u32 table_positions, u16 *q_out,      \
                   void *keys, void *values, float *key_scales, float *value_scales, u32 heads,    \
                   u32 kv_heads, u32 head_dim, u32 block_size, u32 cache_slots, u32 group) {       \
        const rope_kv::Cache cache = {keys,     values,     key_scales, value_scales,              \
                                      kv_heads, block_size, cache_slots};                          \
        rope_kv::do_row<HALVES, BYTES>(qkv, bias, positions, slots, cosines, sines,                \
                                       table_positions, q_out, cache, heads, head_dim, group);     \
    }

ROPE_KV_ENTRY(interleaved_f16, false, false)
ROPE_KV_ENTRY(halves_f16, true, false)
ROPE_KV_ENTRY(interleaved_i8, false, true)
ROPE_KV_ENTRY(halves_i8, true, true)
