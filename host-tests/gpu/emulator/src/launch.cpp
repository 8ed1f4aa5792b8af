// Starts a kernel: finds it, checks what a card checks, and runs its blocks in turn.

#include "machine.h"
#include "registry.h"

#include <cstdio>
#include <cstring>

namespace emulator {

// What lib.rs asks for; the same fields in the same order are there.
struct Request {
    const char *kernel;
    uint32_t grid[3];
    uint32_t threads;
    uint32_t shared_bytes;
    uint32_t argument_count;
    // A letter of registry.h and the value for each argument.
    const char *kinds;
    const uint64_t *values;
    const Range *ranges;
    uint32_t range_count;
};

const uint32_t ARGUMENTS_MAX = 64;

// Here, in the program's own data, a kernel may read them.
static uint64_t values[ARGUMENTS_MAX];
static void *arguments[ARGUMENTS_MAX];
static const Kernel *running;

static void enter() { running->call(arguments); }

uint32_t block_index(uint32_t axis) { return machine.block[axis]; }
uint32_t grid_size(uint32_t axis) { return machine.grid[axis]; }

static const Kernel *find(const char *name) {
    for (uint32_t i = 0; i < kernel_count; i++) {
        if (std::strcmp(kernels[i].name, name) == 0) {
            return &kernels[i];
        }
    }
    return nullptr;
}

// What is wrong with a request, or nothing.
static bool refuse(const Request &request, const Kernel &kernel, char *error, size_t size) {
    if (std::strcmp(kernel.parameters, request.kinds) != 0) {
        std::snprintf(error, size,
                      "it takes arguments \"%s\" and was given \"%s\" (p a pointer, u 32 bits, "
                      "l 64 bits, f a float)",
                      kernel.parameters, request.kinds);
        return true;
    }
    if (request.threads == 0 || request.threads % LANES != 0 ||
        request.threads > kernel.threads_max || request.threads > THREADS_MAX) {
        std::snprintf(error, size, "%u threads: it takes multiples of 32 up to %u",
                      request.threads, kernel.threads_max);
        return true;
    }
    const uint32_t *grid = request.grid;
    if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[0] > 0x7fffffff || grid[1] > 65535 ||
        grid[2] > 65535) {
        std::snprintf(error, size, "no card has a grid of %u x %u x %u blocks", grid[0], grid[1],
                      grid[2]);
        return true;
    }
    if (request.shared_bytes > SHARED_BYTES_MAX || request.argument_count > ARGUMENTS_MAX) {
        std::snprintf(error, size, "%u bytes of shared memory and %u arguments are too many",
                      request.shared_bytes, request.argument_count);
        return true;
    }
    return false;
}

static bool run(const Request &request) {
    Machine &m = machine;
    m.kernel = request.kernel;
    m.thread_count = request.threads;
    m.shared_bytes = request.shared_bytes;
    m.ranges = request.ranges;
    m.range_count = request.range_count;
    m.entry = enter;
    std::memcpy(m.grid, request.grid, sizeof m.grid);
    prepare_races();
    for (m.block[2] = 0; m.block[2] < m.grid[2]; m.block[2]++) {
        for (m.block[1] = 0; m.block[1] < m.grid[1]; m.block[1]++) {
            for (m.block[0] = 0; m.block[0] < m.grid[0]; m.block[0]++) {
                poison_shared();
                if (!run_block()) {
                    return false;
                }
                if (!shared_guard_is_whole()) {
                    std::snprintf(m.error, sizeof m.error,
                                  "%s, block (%u, %u, %u): writes beyond its shared memory",
                                  m.kernel, m.block[0], m.block[1], m.block[2]);
                    return false;
                }
            }
        }
    }
    return true;
}

} // namespace emulator

// 0, or what lib.rs makes an error of: 1 no such kernel, 2 what `error` says.
// `place` is where in the program that was, as far as it is known.
extern "C" uint32_t farthing_emulator_launch(const emulator::Request *request, char *error,
                                             size_t size, uint64_t *place) {
    using namespace emulator;
    *place = 0;
    running = find(request->kernel);
    if (!running) {
        return 1;
    }
    if (refuse(*request, *running, error, size)) {
        return 2;
    }
    if (!prepare_stacks() || !prepare_memory()) {
        std::snprintf(error, size, "no memory for the threads");
        return 2;
    }
    for (uint32_t i = 0; i < request->argument_count; i++) {
        values[i] = request->values[i];
        arguments[i] = &values[i];
    }
    if (!run(*request)) {
        std::snprintf(error, size, "%s", machine.error);
        *place = offset_in_image(machine.place);
        return 2;
    }
    return 0;
}
