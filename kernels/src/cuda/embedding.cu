// Rows of an embedding table, gathered by token id and widened to f32: out[r] = table[ids[r]].
//
// ids u32 [rows]; table [vocabulary][cols] as a GGUF file has it, so a row may begin at any even
// byte; out f32 [rows][cols]. A thread makes four neighbours of out. An id outside the vocabulary
// gives zeros. Products and sums are those of GGML, bit for bit: a quant times its scale fits f32.
// Source: `ggml-common.h` (block structs) and `ggml-quants.c` (`dequantize_row_*`).
//
// Bytes of an element: 4 written, 0.56 to 4 read. Operations: 2.
#include "intrinsics.cuh"

namespace embedding {

DEVICE u32 u16_at(const u8 *bytes, u32 offset) { return *(const u16 *)(bytes + offset); }

DEVICE float half_at(const u8 *bytes, u32 offset) {
    return f16_to_f32(*(const u16 *)(bytes + offset));
}

DEVICE u32 four_bytes(const u8 *bytes, u32 offset) {
    return u16_at(bytes, offset) | u16_at(bytes, offset + 2) << 16;
}

DEVICE u32 byte_of(u32 word, u32 index) { return word >> (8 * index) & 0xff; }

// Each format reads elements 4 * group to 4 * group + 3 of a row.

struct F32 {
    DEVICE static void read(const u8 *row, u32 group, float (&values)[4]) {
        for (u32 i = 0; i < 4; i++) {
            values[i] = bits_float(four_bytes(row, 16 * group + 4 * i));
        }
    }
};

struct F16 {
    DEVICE static void read(const u8 *row, u32 group, float (&values)[4]) {
        for (u32 i = 0; i < 4; i++) {
            values[i] = half_at(row, 8 * group + 2 * i);
        }
    }
};

struct BF16 {
    DEVICE static void read(const u8 *row, u32 group, float (&values)[4]) {
        for (u32 i = 0; i < 4; i++) {
            values[i] = bits_float(u16_at(row, 8 * group + 2 * i) << 16);
        }
    }
};

// Blocks of 32: d, 32 signed bytes.
struct Q8_0 {
    DEVICE static void read(const u8 *row, u32 group, float (&values)[4]) {
        const u8 *block = row + group / 8 * 34;
        const float d = half_at(block, 0);
        const u32 quants = four_bytes(block, 2 + group % 8 * 4);
        for (u32 i = 0; i < 4; i++) {
            values[i] = (float)(i8)byte_of(quants, i) * d;
        }
    }
};

// The four nibbles of a group in 16 bytes: elements 0 to 15 low, 16 to 31 high.
DEVICE u32 nibbles(const u8 *packed, u32 group) {
    return four_bytes(packed, group % 4 * 4) >> (group % 8 / 4 * 4) & 0x0f0f0f0f;
}

// Blocks of 32: d, 16 bytes of nibbles.
struct Q4_0 {
    DEVICE static void read(const u8 *row, u32 group, float (&values)[4]) {
        const u8 *block = row + group / 8 * 18;
        const float d = half_at(block, 0);
        const u32 quants = nibbles(block + 2, group);
        for (u32 i = 0; i < 4; i++) {
            values[i] = (float)((i32)byte_of(quants, i) - 8) * d;
        }
    }
};

// Blocks of 32: d, minimum, 16 bytes of nibbles.
struct Q4_1 {
    DEVICE static void read(const u8 *row, u32 group, float (&values)[4]) {
        const u8 *block = row + group / 8 * 20;
        const float d = half_at(block, 0);
        const float minimum = half_at(block, 2);
        const u32 quants = nibbles(block + 4, group);
        for (u32 i = 0; i < 4; i++) {
            values[i] = (float)byte_of(quants, i) * d + minimum;
        }
    }
};

// Blocks of 32: d, 32 fifth bits, 16 bytes of nibbles.
struct Q5_0 {
    DEVICE static void read(const u8 *row, u32 group, float (&values)[4]) {
        const u8 *block = row + group / 8 * 22;
        const float d = half_at(block, 0);
        const u32 fifths = four_bytes(block, 2) >> (group % 8 * 4);
        const u32 quants = nibbles(block + 6, group);
        for (u32 i = 0; i < 4; i++) {
            const u32 quant = byte_of(quants, i) | (fifths >> i & 1) << 4;
            values[i] = (float)((i32)quant - 16) * d;
        }
    }
};

// Blocks of 256: d, d_min, eight 6-bit scales and minima in 12 bytes, nibbles; of each 32 bytes
// the low nibbles are one group of 32 and the high ones the next.
struct Q4K {
    DEVICE static void read(const u8 *row, u32 group, float (&values)[4]) {
        const u8 *block = row + group / 64 * 144;
        const u32 part = group % 64 / 8;
        const u8 *packed = block + 4;
        u32 scale = packed[part % 4];
        u32 minimum = packed[part % 4 + 4];
        if (part >= 4) {
            const u32 low = packed[part + 4];
            scale = (low & 0x0f) | scale >> 6 << 4;
            minimum = low >> 4 | minimum >> 6 << 4;
        } else {
            scale &= 63;
            minimum &= 63;
        }
        const u32 bytes = four_bytes(block, 16 + part / 2 * 32 + group % 8 * 4);
        const u32 quants = bytes >> (part % 2 * 4) & 0x0f0f0f0f;
        const float step = half_at(block, 0) * (float)scale;
        const float base = half_at(block, 2) * (float)minimum;
        for (u32 i = 0; i < 4; i++) {
            values[i] = step * (float)byte_of(quants, i) - base;
        }
    }
};

// Blocks of 256: low nibbles (128 bytes), high bit pairs (64), sixteen signed scales, d. A half of
// the block is four parts of 32: low nibbles of 64 bytes, then their high ones.
struct Q6K {
    DEVICE static void read(const u8 *row, u32 group, float (&values)[4]) {
        const u8 *block = row + group / 64 * 210;
        const u32 half = group % 64 / 32;
        const u32 part = group % 32 / 8;
        const u32 low = four_bytes(block, half * 64 + part % 2 * 32 + group % 8 * 4);
        const u32 high = four_bytes(block, 128 + half * 32 + group % 8 * 4);
        const u32 quants =
            (low >> (part / 2 * 4) & 0x0f0f0f0f) | (high >> (part * 2) & 0x03030303) << 4;
        const float step = half_at(block, 208) * (float)(i8)block[192 + group % 64 / 4];
        for (u32 i = 0; i < 4; i++) {
            values[i] = step * (float)((i32)byte_of(quants, i) - 32);
        }
    }
};

template <class Format>
DEVICE void gather(const u32 *ids, const u8 *table, Quad *out, u32 cols, u32 vocabulary,
                   u64 row_bytes, u32 parts) {
    const u64 row = block_x() / parts;
    const u32 group = block_x() % parts * thread_count() + thread_id();
    if (group >= cols / 4) {
        return;
    }
    const u32 id = ids[row];
    float values[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (id < vocabulary) {
        Format::read(table + id * row_bytes, group, values);
    }
    out[row * (cols / 4) + group] = Quad{float_bits(values[0]), float_bits(values[1]),
                                         float_bits(values[2]), float_bits(values[3])};
}

} // namespace embedding

// `parts` blocks share a row.
#define EMBEDDING_ENTRY(NAME, FORMAT)                                                              \
    KERNEL(256, 4)                                                                                 \
    embedding_##NAME(const u32 *ids, const u8 *table, Quad *out, u32 cols, u32 vocabulary,         \
                     u64 row_bytes, u32 parts) {                                                   \
        embedding::gather<embedding::FORMAT>(ids, table, out, cols, vocabulary, row_bytes, parts); \
    }

EMBEDDING_ENTRY(f32, F32)
EMBEDDING_ENTRY(f16, F16)
EMBEDDING_ENTRY(bf16, BF16)
EMBEDDING_ENTRY(q4_0, Q4_0)
EMBEDDING_ENTRY(q4_1, Q4_1)
EMBEDDING_ENTRY(q5_0, Q5_0)
EMBEDDING_ENTRY(q8_0, Q8_0)
EMBEDDING_ENTRY(q4_k, Q4K)
EMBEDDING_ENTRY(q6_k, Q6K)
