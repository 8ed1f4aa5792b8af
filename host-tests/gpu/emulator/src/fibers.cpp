// Threads of a block as fibers, and groups of them that meet.

#include "machine.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <sys/mman.h>

#ifdef __x86_64__
// Saves what a call must keep, and goes on where the other was left.
asm(".text\n"
    ".globl farthing_switch\n"
    ".type farthing_switch,@function\n"
    "farthing_switch:\n"
    "    pushq %rbp\n"
    "    pushq %rbx\n"
    "    pushq %r12\n"
    "    pushq %r13\n"
    "    pushq %r14\n"
    "    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq (%rsi), %rsp\n"
    "    popq %r15\n"
    "    popq %r14\n"
    "    popq %r13\n"
    "    popq %r12\n"
    "    popq %rbx\n"
    "    popq %rbp\n"
    "    ret\n"
    ".size farthing_switch,.-farthing_switch\n");
extern "C" void farthing_switch(emulator::Context *from, emulator::Context *to);
#endif

namespace emulator {

Machine machine;

static void run_thread();

#ifdef __x86_64__
static void go(Context *from, Context *to) { farthing_switch(from, to); }

static void prepare(Context &context, uint8_t *, uint8_t *stack_top) {
    // Six registers, then where to return to; a function starts 8 bytes off a multiple of 16.
    void **top = (void **)stack_top;
    *--top = nullptr;
    *--top = (void *)run_thread;
    for (int i = 0; i < 6; i++) {
        *--top = nullptr;
    }
    context.stack = top;
}
#else
// Portable, but each switch asks the system for the signal mask.
static void go(Context *from, Context *to) { swapcontext(&from->context, &to->context); }

static void prepare(Context &context, uint8_t *stack, uint8_t *stack_top) {
    getcontext(&context.context);
    context.context.uc_stack.ss_sp = stack;
    context.context.uc_stack.ss_size = stack_top - stack;
    context.context.uc_link = nullptr;
    makecontext(&context.context, run_thread, 0);
}
#endif

// === Whose turn it is ===

static void make_ready(uint32_t thread) {
    machine.ready[thread / LANES] |= 1u << (thread % LANES);
    machine.ready_warps |= 1u << (thread / LANES);
}

// A thread of the current warp, or else of the next one that has any; NONE if all wait.
static uint32_t next_ready() {
    uint32_t warp = machine.current / LANES;
    if (machine.ready[warp] == 0) {
        if (machine.ready_warps == 0) {
            return NONE;
        }
        const uint32_t later = machine.ready_warps & ~((2u << warp) - 1);
        warp = __builtin_ctz(later ? later : machine.ready_warps);
    }
    const uint32_t lane = __builtin_ctz(machine.ready[warp]);
    machine.ready[warp] &= machine.ready[warp] - 1;
    if (machine.ready[warp] == 0) {
        machine.ready_warps &= ~(1u << warp);
    }
    return warp * LANES + lane;
}

// The current thread cannot go on: another does, or the block ends.
static void leave() {
    Thread &from = machine.threads[machine.current];
    const uint32_t next = next_ready();
    machine.current = next;
    machine.turn_accesses = 0;
    go(&from.context, next == NONE ? &machine.outside : &machine.threads[next].context);
}

static void run_thread() {
    machine.entry();
    Thread &self = machine.threads[machine.current];
    self.purpose = RETURNED;
    leave();
    __builtin_unreachable();
}

void fail(const char *format, ...) {
    const int start = std::snprintf(machine.error, sizeof machine.error,
                                    "%s, block (%u, %u, %u), thread %u: ", machine.kernel,
                                    machine.block[0], machine.block[1], machine.block[2],
                                    machine.current);
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(machine.error + start, sizeof machine.error - start, format, arguments);
    va_end(arguments);
    Thread &self = machine.threads[machine.current];
    machine.failed = true;
    go(&self.context, &machine.outside);
    __builtin_unreachable();
}

// === Groups ===

uint32_t thread_id() { return machine.current; }
uint32_t thread_count() { return machine.thread_count; }

Group &block_group() { return machine.block_group; }
Group &warp_group() { return machine.warps[machine.current / LANES]; }
Group &warpgroup() {
    Group &group = machine.warpgroups[machine.current / WARPGROUP];
    if (group.first + group.size > machine.thread_count) {
        fail("a warpgroup needs 128 threads, the block ends after %u", machine.thread_count);
    }
    return group;
}

void meet(Group &group, const char *purpose, Act act, void *mine) {
    Thread &self = machine.threads[machine.current];
    if (group.arrived == 0) {
        group.purpose = purpose;
    } else if (group.purpose != purpose && std::strcmp(group.purpose, purpose) != 0) {
        fail("divergent: came to %s while %u others of its group wait at %s", purpose,
             group.arrived, group.purpose);
    }
    machine.brought[machine.current] = mine;
    group.arrived++;
    if (group.arrived < group.size) {
        self.purpose = purpose;
        leave();
        self.purpose = nullptr;
        return;
    }
    if (act) {
        act(machine.brought + group.first, group.size);
    }
    group.arrived = 0;
    for (uint32_t first = group.first; first < group.first + group.size; first += LANES) {
        machine.ready[first / LANES] = ~0u;
        machine.ready_warps |= 1u << (first / LANES);
    }
    // All but the one that goes on.
    const uint32_t warp = machine.current / LANES;
    machine.ready[warp] &= ~(1u << machine.current % LANES);
}

void sync_block() {
    const Act order = [](void *const *, uint32_t) { order_block(); };
    meet(machine.block_group, "sync_block", order, nullptr);
}

void sync_warp() {
    const Act order = [](void *const *, uint32_t) { order_warp(); };
    meet(warp_group(), "sync_warp", order, nullptr);
}

// === A block ===

static void describe_deadlock() {
    char *text = machine.error;
    char *const end = text + sizeof machine.error;
    text += std::snprintf(text, end - text,
                          "%s, block (%u, %u, %u): divergent barrier: of %u threads",
                          machine.kernel, machine.block[0], machine.block[1], machine.block[2],
                          machine.thread_count);
    // Each purpose once, where it is first seen.
    for (uint32_t i = 0; i < machine.thread_count && text < end; i++) {
        const char *purpose = machine.threads[i].purpose;
        uint32_t count = 0;
        bool seen = false;
        for (uint32_t j = 0; j < machine.thread_count; j++) {
            const bool same = std::strcmp(machine.threads[j].purpose, purpose) == 0;
            seen |= same && j < i;
            count += same;
        }
        if (!seen) {
            const bool returned = purpose == RETURNED;
            text += std::snprintf(text, end - text, " %u (first %u) %s%s;", count, i,
                                  returned ? "have " : "wait at ", purpose);
        }
    }
}

bool run_block() {
    Machine &m = machine;
    m.block_group = Group{0, m.thread_count, 0, nullptr};
    for (uint32_t i = 0; i < m.thread_count; i++) {
        Thread &thread = m.threads[i];
        uint8_t *stack = m.stacks + size_t(i) * STACK_BYTES + PAGE_BYTES;
        // Staggered, so that the tops of all stacks do not share a few lines of the cache.
        uint8_t *top = m.stacks + size_t(i + 1) * STACK_BYTES - i % 61 * 320;
        prepare(thread.context, stack, top);
        thread.purpose = nullptr;
        thread.copies.clear();
        thread.hidden.clear();
        thread.products.clear();
        thread.products_fenced = false;
    }
    for (uint32_t warp = 0; warp < m.thread_count / LANES; warp++) {
        m.warps[warp] = Group{warp * LANES, LANES, 0, nullptr};
        m.warpgroups[warp * LANES / WARPGROUP] =
            Group{warp * LANES / WARPGROUP * WARPGROUP, WARPGROUP, 0, nullptr};
        m.ready[warp] = ~0u;
    }
    m.ready_warps = m.thread_count == THREADS_MAX ? ~0u : (1u << m.thread_count / LANES) - 1;
    m.failed = false;
    m.place = 0;
    m.turn_accesses = 0;
    m.current = 0;
    order_block();
    m.current = next_ready();
    go(&m.outside, &m.threads[m.current].context);
    if (m.failed) {
        return false;
    }
    for (uint32_t i = 0; i < m.thread_count; i++) {
        if (m.threads[i].purpose != RETURNED) {
            describe_deadlock();
            return false;
        }
    }
    return true;
}

bool prepare_stacks() {
    if (machine.stacks) {
        return true;
    }
    const size_t bytes = size_t(THREADS_MAX) * STACK_BYTES;
    void *stacks = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED) {
        return false;
    }
    for (uint32_t i = 0; i < THREADS_MAX; i++) {
        // What overflows a stack must not reach the next one.
        mprotect((uint8_t *)stacks + size_t(i) * STACK_BYTES, PAGE_BYTES, PROT_NONE);
    }
    machine.stacks = (uint8_t *)stacks;
    return true;
}

} // namespace emulator
