// Shared memory that two threads touch without a barrier between them, one of them writing.
//
// Threads here run one after the other until they wait, so that what a card may do in any order
// often comes out right; hence each access is held against the last ones to the same place. Two
// accesses are in order if they are of one thread, if sync_block came between, or sync_warp within
// a warp. Shuffles and products put nothing in order, as on a card.

#include "machine.h"

#include <cstring>

namespace emulator {

// The last accesses to two bytes; the time is that of `machine.clock`, 0 for none.
struct Cell {
    uint32_t write_time;
    uint16_t writer;
    uint8_t write_mask;
    bool write_atomic;
    uint32_t read_time;
    uint16_t reader;
    uint8_t read_mask;
    // How many read since the last barrier: one, several of a warp, several warps.
    uint8_t readers;
};

enum Readers : uint8_t { ONE, A_WARP, WARPS };

const size_t CELL_BYTES = 2;
static std::vector<Cell> dynamic_cells, fixed_cells;

// What came before a launch is before its first block's barrier, so it may stay, until the clock
// has run for long.
void prepare_races() {
    if (machine.clock == 0 || machine.clock > UINT32_MAX / 2) {
        dynamic_cells.assign(SHARED_BYTES_MAX / CELL_BYTES + 1, Cell{});
        fixed_cells.assign(fixed_shared_bytes() / CELL_BYTES + 1, Cell{});
        machine.clock = 1;
    }
}

void order_block() {
    machine.clock++;
    machine.block_time = machine.clock;
}

void order_warp() {
    machine.clock++;
    machine.warp_times[machine.current / LANES] = machine.clock;
}

// Whether an access of `thread` at `time` is before what the running thread does now.
static bool is_before(uint32_t time, uint32_t thread) {
    return time < machine.block_time || thread == machine.current ||
           (thread / LANES == machine.current / LANES &&
            time < machine.warp_times[machine.current / LANES]);
}

[[noreturn]] static void fail_race(const uint8_t *address, const char *does, const char *did,
                                   uint32_t other) {
    const size_t offset = address - machine.shared;
    const bool dynamic = offset < machine.shared_bytes;
    fail("race: it %s shared memory that thread %u %s since the last barrier (%s %zu)", does, other,
         did, dynamic ? "byte" : "a variable of fixed size, byte",
         dynamic ? offset : size_t(address - fixed_shared()));
}

static inline void read_cell(Cell &cell, uint8_t mask, const uint8_t *address) {
    const uint32_t self = machine.current;
    if ((cell.write_mask & mask) && !is_before(cell.write_time, cell.writer)) {
        fail_race(address, "reads", "wrote", cell.writer);
    }
    if (cell.read_time < machine.block_time) {
        cell.readers = ONE;
        cell.read_mask = mask;
    } else {
        const Readers with = cell.reader == self                    ? ONE
                             : cell.reader / LANES == self / LANES ? A_WARP
                                                                   : WARPS;
        cell.readers = with > cell.readers ? with : cell.readers;
        cell.read_mask |= mask;
    }
    cell.reader = self;
    cell.read_time = machine.clock;
}

static inline void write_cell(Cell &cell, uint8_t mask, const uint8_t *address, bool atomic) {
    if ((cell.write_mask & mask) && !(atomic && cell.write_atomic) &&
        !is_before(cell.write_time, cell.writer)) {
        fail_race(address, "writes", "wrote", cell.writer);
    }
    if ((cell.read_mask & mask) && cell.read_time >= machine.block_time) {
        // The last of several readers in a warp is after the others.
        const uint32_t warp = machine.current / LANES;
        const bool several = cell.readers != ONE;
        const bool ordered = cell.readers != WARPS && cell.reader / LANES == warp &&
                             cell.read_time < machine.warp_times[warp];
        if (!ordered && (several || cell.reader != machine.current)) {
            fail_race(address, "writes", several ? "or others read" : "read", cell.reader);
        }
    }
    cell.write_mask = cell.write_time == machine.clock && cell.writer == machine.current
                          ? cell.write_mask | mask
                          : mask;
    cell.write_time = machine.clock;
    cell.writer = machine.current;
    cell.write_atomic = atomic;
}

template <Access ACCESS>
static void note(Cell *cells, size_t offset, const uint8_t *address, size_t bytes) {
    for (size_t i = 0; i < bytes;) {
        const size_t within = (offset + i) % CELL_BYTES;
        const size_t count = CELL_BYTES - within < bytes - i ? CELL_BYTES - within : bytes - i;
        const uint8_t mask = ((1 << count) - 1) << within;
        Cell &cell = cells[(offset + i) / CELL_BYTES];
        if (ACCESS == Access::READ) {
            read_cell(cell, mask, address + i);
        } else {
            write_cell(cell, mask, address + i, ACCESS == Access::ATOMIC);
        }
        i += count;
    }
}

void note_access(const void *shared, size_t bytes, Access access) {
    const uint8_t *address = (const uint8_t *)shared;
    size_t offset = address - machine.shared;
    Cell *cells = dynamic_cells.data();
    if (offset >= machine.shared_bytes) {
        offset = address - fixed_shared();
        cells = fixed_cells.data();
    }
    if (access == Access::READ) {
        note<Access::READ>(cells, offset, address, bytes);
    } else if (access == Access::WRITE) {
        note<Access::WRITE>(cells, offset, address, bytes);
    } else {
        note<Access::ATOMIC>(cells, offset, address, bytes);
    }
}

} // namespace emulator
