// Products of a warpgroup with a matrix in shared memory, in the background (Hopper).
//
// As with copies, a product happens at the latest moment: its sums come, and the matrix is read,
// when the warp waits for its group.

#include "machine.h"

#include <cstring>

namespace emulator {

const uint32_t ROW_BYTES = 128;
// From eight rows to the next eight.
const uint32_t ROWS_BYTES = 1024;
const uint32_t COLUMNS_MAX = 128;
const uint32_t DEPTH = 16;

void group_fence() {
    meet(warp_group(), "group_fence", nullptr, nullptr);
    machine.threads[machine.current].products_fenced = true;
}

void group_commit() {
    meet(warp_group(), "group_commit", nullptr, nullptr);
    machine.threads[machine.current].products.close_group();
}

// The sixteen-byte pieces of what `descriptor` describes, at byte `offset` of row `row`.
static const uint8_t *piece(uint64_t descriptor, uint32_t row, uint32_t offset) {
    const uint32_t start = (descriptor & 0x3fff) << 4;
    uint32_t address = start + row / 8 * ROWS_BYTES + row % 8 * ROW_BYTES + offset;
    address ^= (address >> 7 & 7) << 4;
    return shared_pointer(address);
}

static void check_piece(const uint8_t *from) {
    check_shared(from, 16, 16, Access::READ, "multiply_add_group");
    if (is_hidden_from_tensor_cores(from)) {
        fail("multiply_add_group reads what was copied without a fence_tensor_reads");
    }
}

static void same_matrix(void *const *brought, uint32_t count) {
    for (uint32_t i = 1; i < count; i++) {
        if (((Product *)brought[i])->matrix != ((Product *)brought[0])->matrix) {
            fail("multiply_add_group: threads of a group describe different matrices");
        }
    }
}

void multiply_add_group(float *d, uint32_t columns, const uint32_t *a, uint64_t b) {
    Thread &self = machine.threads[machine.current];
    if (!self.products_fenced) {
        fail("multiply_add_group without a group_fence after the last group_wait");
    }
    if ((b & 0x3fff) << 4 & 0x380) {
        fail("multiply_add_group: eight rows of a matrix start on a multiple of 1024 bytes");
    }
    machine.place = (uintptr_t)__builtin_return_address(0);
    for (uint32_t row = machine.current % LANES; row < columns; row += LANES) {
        check_piece(piece(b, row, 0));
        check_piece(piece(b, row, 16));
    }
    Product product{d, columns, {a[0], a[1], a[2], a[3]}, b};
    meet(warpgroup(), columns == 64 ? "multiply_add_group, 64 columns" : "multiply_add_group",
         same_matrix, &product);
    self.products.add(product);
}

// One product for each lane, the four warps' parts being independent.
static void multiply(void *const *brought, uint32_t count) {
    const Product &first = *(const Product *)brought[0];
    const uint32_t columns = first.columns;
    float a[16][DEPTH];
    static float b[DEPTH][COLUMNS_MAX], d[16][COLUMNS_MAX];
    for (uint32_t lane = 0; lane < count; lane++) {
        unpack_left(a, ((const Product *)brought[lane])->a, lane);
    }
    for (uint32_t column = 0; column < columns; column++) {
        for (uint32_t half = 0; half < 2; half++) {
            const uint8_t *from = piece(first.matrix, column, half * 16);
            note_access(from, 16, Access::READ);
            uint16_t halves[8];
            std::memcpy(halves, from, 16);
            for (uint32_t k = 0; k < 8; k++) {
                b[half * 8 + k][column] = widen(halves[k]);
            }
        }
    }
    std::memset(d, 0, sizeof d);
    for (uint32_t row = 0; row < 16; row++) {
        for (uint32_t k = 0; k < DEPTH; k++) {
            for (uint32_t column = 0; column < columns; column++) {
                d[row][column] += a[row][k] * b[k][column];
            }
        }
    }
    for (uint32_t lane = 0; lane < count; lane++) {
        float *mine = ((const Product *)brought[lane])->d;
        for (uint32_t i = 0; i < columns / 2; i++) {
            const uint32_t row = lane / 4 + i % 4 / 2 * 8;
            mine[i] += d[row][i / 4 * 8 + lane % 4 * 2 + i % 2];
        }
    }
}

void group_wait(uint32_t pending) {
    Thread &self = machine.threads[machine.current];
    uint32_t due = self.products.due(pending);
    meet(warp_group(), "group_wait", nullptr, nullptr);
    for (uint32_t i = 0; i < due; i++) {
        meet(warp_group(), "group_wait for products", multiply, &self.products.items[i]);
    }
    self.products.finish(pending);
    self.products_fenced = false;
}

} // namespace emulator
