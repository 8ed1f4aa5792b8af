// The state of the emulated device. There is one, so launches come one at a time (lib.rs sees to
// that).
#pragma once

#include "runtime.h"

#include <vector>
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace emulator {

const uint32_t LANES = 32;
const uint32_t WARPGROUP = 128;
const uint32_t THREADS_MAX = 1024;
const uint32_t NONE = ~0u;
const size_t PAGE_BYTES = 4096;
const size_t STACK_BYTES = 128 * 1024;
// More than any card gives a block.
const size_t SHARED_BYTES_MAX = 256 * 1024;
const size_t GUARD_BYTES = 4096;
// A thread that touches memory so often without waiting for others does not end.
const uint64_t TURN_ACCESSES_MAX = 1 << 28;
// What poisons shared memory: not a number, as f16 and as f32.
const uint8_t POISON = 0xff;

struct Context {
#ifdef __x86_64__
    void *stack;
#else
    ucontext_t context;
#endif
};

// A copy to shared memory that has not come yet.
struct Copy {
    uint8_t *shared;
    const uint8_t *global;
    bool valid;
};

// A thread's part of a product that has not come yet.
struct Product {
    float *d;
    uint32_t columns;
    uint32_t a[4];
    uint64_t matrix;
};

// Work of a thread in the background, in the order in which it was asked for.
template <class T> struct Background {
    std::vector<T> items;
    // The number of items in each group that was closed and has not come.
    std::vector<uint32_t> groups;
    uint32_t in_groups = 0;

    void add(const T &item) { items.push_back(item); }

    void close_group() {
        groups.push_back((uint32_t)items.size() - in_groups);
        in_groups = (uint32_t)items.size();
    }

    // How many items must come for at most `pending` groups to be left.
    uint32_t due(uint32_t pending) const {
        uint32_t count = 0;
        for (size_t i = 0; i + pending < groups.size(); i++) {
            count += groups[i];
        }
        return count;
    }

    void finish(uint32_t pending) {
        if (groups.size() > pending) {
            const uint32_t count = due(pending);
            items.erase(items.begin(), items.begin() + count);
            in_groups -= count;
            groups.erase(groups.begin(), groups.end() - pending);
        }
    }

    void clear() {
        items.clear();
        groups.clear();
        in_groups = 0;
    }
};

struct Thread {
    Context context;
    // What it waits for, RETURNED when it has ended.
    const char *purpose;
    Background<Copy> copies;
    // Where copies came since the last fence_tensor_reads.
    std::vector<uint8_t *> hidden;
    Background<Product> products;
    bool products_fenced;
};

inline constexpr char RETURNED[] = "returned";

// Memory that a launch may touch.
struct Range {
    uintptr_t start;
    size_t bytes;
    uint32_t argument;
};

struct Machine {
    const char *kernel;
    // Where the program last touched memory.
    uintptr_t place;
    // Accesses since the running thread's turn began.
    uint64_t turn_accesses;
    uint32_t grid[3];
    uint32_t block[3];
    uint32_t thread_count;
    uint32_t current;
    void (*entry)();

    Thread threads[THREADS_MAX];
    void *brought[THREADS_MAX];
    Context outside;
    uint8_t *stacks;

    // Which lanes of each warp, and which warps, have somebody to run.
    uint32_t ready[THREADS_MAX / LANES];
    uint32_t ready_warps;
    // Counts barriers; when the block and its warps last had one (races.cpp).
    uint32_t clock;
    uint32_t block_time;
    uint32_t warp_times[THREADS_MAX / LANES];
    Group block_group;
    Group warps[THREADS_MAX / LANES];
    Group warpgroups[THREADS_MAX / WARPGROUP];

    uint8_t *shared;
    size_t shared_bytes;
    const Range *ranges;
    uint32_t range_count;

    bool failed;
    char error[1024];
};

extern Machine machine;

bool prepare_stacks();
bool prepare_memory();
// False if the block failed; the machine has the error then.
bool run_block();
void poison_shared();
uint64_t offset_in_image(uintptr_t place);
// The kernels' shared variables of fixed size.
uint8_t *fixed_shared();
size_t fixed_shared_bytes();

enum class Access { READ, WRITE, ATOMIC };
// End the launch if these bytes are not in shared memory, or not aligned to `align`.
void check_shared(const void *address, size_t bytes, size_t align, Access access,
                  const char *purpose);
// Ends the launch if others touched these bytes without a barrier.
void note_access(const void *shared, size_t bytes, Access access);
void prepare_races();
// All of the block, or the running thread's warp, have met.
void order_block();
void order_warp();
// The address that kernels see of shared memory, and back.
const uint8_t *shared_pointer(uint32_t address);
// Whether a copy came here that its thread has not shown to the tensor cores yet.
bool is_hidden_from_tensor_cores(const uint8_t *shared);
// Puts a lane's part of the left matrix of multiply_add in its place.
void unpack_left(float (&a)[16][16], const uint32_t *fragment, uint32_t lane);
bool shared_guard_is_whole();

} // namespace emulator
