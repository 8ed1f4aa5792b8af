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

struct Thread {
    Context context;
    // What it waits for, RETURNED when it has ended.
    const char *purpose;
    bool (*condition)(const void *);
    const void *context_of_condition;
    std::vector<Copy> copies;
    // The number of copies in each group that was closed, and of those, how many groups came.
    std::vector<uint32_t> groups;
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
bool shared_guard_is_whole();

} // namespace emulator
