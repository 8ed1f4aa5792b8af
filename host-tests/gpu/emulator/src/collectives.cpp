// Operations that the lanes of a warp do together.

#include "machine.h"

#include <cstring>

namespace emulator {

// === Lanes' values ===

struct Value {
    uint32_t value;
    // The lane to read.
    uint32_t lane;
    uint32_t result;
};

static void exchange(void *const *brought, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        Value &mine = *(Value *)brought[i];
        mine.result = ((Value *)brought[mine.lane])->value;
    }
}

uint32_t shuffle(uint32_t value, uint32_t lane) {
    Value mine{value, lane % LANES, 0};
    meet(warp_group(), "shuffle", exchange, &mine);
    return mine.result;
}

uint32_t shuffle_xor(uint32_t value, uint32_t mask) {
    if (mask >= LANES) {
        fail("shuffle_xor with mask %u, a warp has 32 lanes", mask);
    }
    Value mine{value, machine.current % LANES ^ mask, 0};
    meet(warp_group(), "shuffle_xor", exchange, &mine);
    return mine.result;
}

static void vote(void *const *brought, uint32_t count) {
    uint32_t votes = 0;
    for (uint32_t i = 0; i < count; i++) {
        votes |= ((Value *)brought[i])->value << i;
    }
    for (uint32_t i = 0; i < count; i++) {
        ((Value *)brought[i])->result = votes;
    }
}

uint32_t ballot(bool predicate) {
    Value mine{predicate, 0, 0};
    meet(warp_group(), "ballot", vote, &mine);
    return mine.result;
}

// === Matrices ===

struct Rows {
    uint32_t *r;
    const uint8_t *row;
};

static uint16_t element(void *const *brought, uint32_t matrix, uint32_t row, uint32_t column) {
    uint16_t half;
    std::memcpy(&half, ((Rows *)brought[matrix * 8 + row])->row + column * 2, 2);
    return half;
}

template <bool TRANSPOSED> static void distribute(void *const *brought, uint32_t count) {
    for (uint32_t lane = 0; lane < count; lane++) {
        for (uint32_t matrix = 0; matrix < 4; matrix++) {
            const uint32_t row = lane / 4, column = lane % 4 * 2;
            const uint32_t low = TRANSPOSED ? element(brought, matrix, column, row)
                                            : element(brought, matrix, row, column);
            const uint32_t high = TRANSPOSED ? element(brought, matrix, column + 1, row)
                                             : element(brought, matrix, row, column + 1);
            ((Rows *)brought[lane])->r[matrix] = low | high << 16;
        }
    }
}

void load_matrices(uint32_t *r, const void *row, bool transposed) {
    machine.place = (uintptr_t)__builtin_return_address(0);
    check_shared(row, 16, 16, Access::READ, "load_matrices");
    Rows mine{r, (const uint8_t *)row};
    meet(warp_group(), transposed ? "load_matrices_transposed" : "load_matrices",
         transposed ? distribute<true> : distribute<false>, &mine);
}

struct Fragments {
    float *d;
    const uint32_t *a;
    uint32_t b[2];
};

static void unpack(uint32_t pair, float *low, float *high) {
    *low = widen(pair & 0xffff);
    *high = widen(pair >> 16);
}

void unpack_left(float (&a)[16][16], const uint32_t *fragment, uint32_t lane) {
    const uint32_t g = lane / 4, t = lane % 4;
    for (uint32_t i = 0; i < 4; i++) {
        float *place = &a[g + i % 2 * 8][2 * t + i / 2 * 8];
        unpack(fragment[i], place, place + 1);
    }
}

static void multiply(void *const *brought, uint32_t count) {
    float a[16][16], b[16][8];
    for (uint32_t lane = 0; lane < count; lane++) {
        const Fragments &mine = *(const Fragments *)brought[lane];
        const uint32_t g = lane / 4, t = lane % 4;
        unpack_left(a, mine.a, lane);
        for (uint32_t i = 0; i < 2; i++) {
            const uint32_t k = 2 * t + i * 8;
            unpack(mine.b[i], &b[k][g], &b[k + 1][g]);
        }
    }
    float d[16][8] = {};
    for (uint32_t row = 0; row < 16; row++) {
        for (uint32_t k = 0; k < 16; k++) {
            for (uint32_t column = 0; column < 8; column++) {
                d[row][column] += a[row][k] * b[k][column];
            }
        }
    }
    for (uint32_t lane = 0; lane < count; lane++) {
        float *mine = ((const Fragments *)brought[lane])->d;
        const uint32_t g = lane / 4, t = lane % 4;
        for (uint32_t i = 0; i < 4; i++) {
            mine[i] += d[g + i / 2 * 8][2 * t + i % 2];
        }
    }
}

void multiply_add(float *d, const uint32_t *a, uint32_t b0, uint32_t b1) {
    Fragments mine{d, a, {b0, b1}};
    meet(warp_group(), "multiply_add", multiply, &mine);
}

} // namespace emulator
