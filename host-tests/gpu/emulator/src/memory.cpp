// What a kernel touches, and copies in the background.
//
// The compiler makes each access of a kernel call a function of this file first (build.rs), which
// lets pass what is on the threads' stacks, in the block's shared memory, in a buffer that was an
// argument, or a constant of the program.

#include "machine.h"

#include <cstring>
#include <link.h>
#include <sys/mman.h>

// The kernels' shared variables of fixed size, between these.
extern uint8_t __start_farthing_shared[] __attribute__((weak));
extern uint8_t __stop_farthing_shared[] __attribute__((weak));

namespace emulator {

// Where the program's own data lies.
static uintptr_t image_start, image_end;

static int find_image(dl_phdr_info *info, size_t, void *) {
    uintptr_t start = UINTPTR_MAX, end = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const auto &segment = info->dlpi_phdr[i];
        if (segment.p_type == PT_LOAD) {
            const uintptr_t first = info->dlpi_addr + segment.p_vaddr;
            start = first < start ? first : start;
            end = first + segment.p_memsz > end ? first + segment.p_memsz : end;
        }
    }
    const uintptr_t own = (uintptr_t)&machine;
    if (own < start || own >= end) {
        return 0;
    }
    image_start = start;
    image_end = end;
    return 1;
}

uint64_t offset_in_image(uintptr_t place) {
    return place > image_start && place < image_end ? place - image_start : 0;
}

bool prepare_memory() {
    if (machine.shared) {
        return true;
    }
    dl_iterate_phdr(find_image, nullptr);
    void *shared = mmap(nullptr, SHARED_BYTES_MAX + 2 * GUARD_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        return false;
    }
    machine.shared = (uint8_t *)shared + GUARD_BYTES;
    return image_end != 0;
}

// For each sixteen bytes of dynamic shared memory, whether tensor cores may not see them yet.
static uint8_t hidden[SHARED_BYTES_MAX / 16 + 1];

static uint8_t *hidden_mark(const uint8_t *shared) {
    const size_t offset = shared - machine.shared;
    return offset < machine.shared_bytes ? &hidden[offset / 16] : nullptr;
}

uint8_t *dynamic_shared() { return machine.shared; }
uint8_t *fixed_shared() { return __start_farthing_shared; }
size_t fixed_shared_bytes() { return __stop_farthing_shared - __start_farthing_shared; }

// The dynamic part starts where it may on a card: on a multiple of 128 and of no more.
const uint32_t SHARED_ADDRESS = 128;

uint32_t shared_address(const void *pointer) {
    const size_t offset = (const uint8_t *)pointer - machine.shared;
    if (offset < machine.shared_bytes) {
        return SHARED_ADDRESS + (uint32_t)offset;
    }
    // Beyond the dynamic part, what is of fixed size.
    const size_t fixed = (const uint8_t *)pointer - fixed_shared();
    return SHARED_ADDRESS + SHARED_BYTES_MAX + (uint32_t)fixed;
}

const uint8_t *shared_pointer(uint32_t address) {
    return machine.shared + address - SHARED_ADDRESS;
}

void poison_shared() {
    std::memset(machine.shared, POISON, machine.shared_bytes + GUARD_BYTES);
    std::memset(hidden, 0, machine.shared_bytes / 16 + 1);
    if (fixed_shared_bytes() > 0) {
        std::memset(fixed_shared(), POISON, fixed_shared_bytes());
    }
}

bool shared_guard_is_whole() {
    // All of its bytes are like the first.
    const uint8_t *guard = machine.shared + machine.shared_bytes;
    return guard[0] == POISON && std::memcmp(guard, guard + 1, GUARD_BYTES - 1) == 0;
}

// === Checks ===

static bool within(uintptr_t address, size_t bytes, uintptr_t start, size_t size) {
    return address - start < size && size - (address - start) >= bytes;
}

static bool in_shared(uintptr_t address, size_t bytes) {
    return within(address, bytes, (uintptr_t)machine.shared, machine.shared_bytes) ||
           within(address, bytes, (uintptr_t)fixed_shared(), fixed_shared_bytes());
}

[[noreturn]] static void fail_outside(uintptr_t address, size_t bytes, const char *purpose) {
    const uintptr_t shared = (uintptr_t)machine.shared;
    if (within(address, 1, shared - GUARD_BYTES, SHARED_BYTES_MAX + 2 * GUARD_BYTES)) {
        fail("%s of %zu bytes at %td of the block's %zu bytes of shared memory", purpose, bytes,
             address - shared, machine.shared_bytes);
    }
    const Range *nearest = nullptr;
    uintptr_t distance = UINTPTR_MAX;
    for (uint32_t i = 0; i < machine.range_count; i++) {
        const Range &range = machine.ranges[i];
        const uintptr_t before = range.start - address, after = address - range.start - range.bytes;
        const uintptr_t gap = before < after ? before : after;
        // An access that starts inside and ends outside is at no distance.
        const uintptr_t off = within(address, 1, range.start, range.bytes) ? 0 : gap;
        if (off < distance) {
            nearest = &range;
            distance = off;
        }
    }
    if (address < PAGE_BYTES) {
        fail("%s of %zu bytes at a null pointer (+%zu)", purpose, bytes, (size_t)address);
    }
    if (!nearest || distance > (size_t(1) << 30)) {
        fail("%s of %zu bytes at %#zx, which is in no buffer", purpose, bytes, (size_t)address);
    }
    fail("%s of %zu bytes at offset %td of argument %u, whose buffer has %zu bytes", purpose, bytes,
         address - nearest->start, nearest->argument, nearest->bytes);
}

static const char *name_of(Access access) {
    return access == Access::READ ? "read" : access == Access::WRITE ? "write" : "atomic addition";
}

static inline void check(uintptr_t address, size_t bytes, Access access) {
    static uint32_t last;
    if (within(address, bytes, (uintptr_t)machine.stacks, STACK_BYTES * THREADS_MAX)) {
        return;
    }
    if (last < machine.range_count &&
        within(address, bytes, machine.ranges[last].start, machine.ranges[last].bytes)) {
        return;
    }
    if (in_shared(address, bytes)) {
        note_access((const void *)address, bytes, access);
        return;
    }
    for (uint32_t i = 0; i < machine.range_count; i++) {
        if (within(address, bytes, machine.ranges[i].start, machine.ranges[i].bytes)) {
            last = i;
            return;
        }
    }
    if (!within(address, bytes, image_start, image_end - image_start)) {
        fail_outside(address, bytes, name_of(access));
    }
}

static void check_alignment(uintptr_t address, size_t align, const char *purpose) {
    if (address % align != 0) {
        fail("misaligned: %s needs an address that is a multiple of %zu, this one is %zu off",
             purpose, align, (size_t)(address % align));
    }
}

void check_shared(const void *address, size_t bytes, size_t align, Access access,
                  const char *purpose) {
    check_alignment((uintptr_t)address, align, purpose);
    if (!in_shared((uintptr_t)address, bytes)) {
        fail_outside((uintptr_t)address, bytes, purpose);
    }
    note_access(address, bytes, access);
}

uint32_t atomic_add(uint32_t *counter, uint32_t value) {
    machine.place = (uintptr_t)__builtin_return_address(0);
    check_alignment((uintptr_t)counter, 4, "atomic_add");
    check((uintptr_t)counter, 4, Access::ATOMIC);
    const uint32_t before = *counter;
    *counter = before + value;
    return before;
}

uint32_t atomic_add_shared(uint32_t *counter, uint32_t value) {
    machine.place = (uintptr_t)__builtin_return_address(0);
    check_shared(counter, 4, 4, Access::ATOMIC, "atomic_add_shared");
    const uint32_t before = *counter;
    *counter = before + value;
    return before;
}

// === Copies in the background ===

// The bytes come at the latest moment: what does not wait for them finds poison. That is written at
// the earliest, so what still reads the place finds it too.
void copy_async(void *shared, const void *global, bool valid) {
    machine.place = (uintptr_t)__builtin_return_address(0);
    check_shared(shared, 16, 16, Access::WRITE, "copy_async to shared memory");
    check_alignment((uintptr_t)global, 16, "copy_async from global memory");
    if (valid) {
        check((uintptr_t)global, 16, Access::READ);
    }
    std::memset(shared, POISON, 16);
    machine.threads[machine.current].copies.add(
        Copy{(uint8_t *)shared, (const uint8_t *)global, valid});
}

void copy_async_commit() { machine.threads[machine.current].copies.close_group(); }

void copy_async_wait(uint32_t pending) {
    machine.place = (uintptr_t)__builtin_return_address(0);
    Thread &self = machine.threads[machine.current];
    const uint32_t due = self.copies.due(pending);
    for (uint32_t i = 0; i < due; i++) {
        const Copy &copy = self.copies.items[i];
        note_access(copy.shared, 16, Access::WRITE);
        if (copy.valid) {
            std::memcpy(copy.shared, copy.global, 16);
        } else {
            std::memset(copy.shared, 0, 16);
        }
        if (uint8_t *mark = hidden_mark(copy.shared)) {
            *mark = 1;
            self.hidden.push_back(mark);
        }
    }
    self.copies.finish(pending);
}

void fence_tensor_reads() {
    Thread &self = machine.threads[machine.current];
    for (uint8_t *mark : self.hidden) {
        *mark = 0;
    }
    self.hidden.clear();
}

bool is_hidden_from_tensor_cores(const uint8_t *shared) {
    const uint8_t *mark = hidden_mark(shared);
    return mark && *mark;
}

} // namespace emulator

// === What the compiler calls ===

using emulator::Access;

static inline void watch(uintptr_t address, size_t bytes, Access access, void *place) {
    emulator::machine.place = (uintptr_t)place;
    if (emulator::machine.turn_accesses++ > emulator::TURN_ACCESSES_MAX) {
        emulator::fail("it does not end");
    }
    emulator::check(address, bytes, access);
}

#define WATCH(bytes)                                                                               \
    extern "C" void __asan_load##bytes##_noabort(uintptr_t address) {                              \
        watch(address, bytes, Access::READ, __builtin_return_address(0));                          \
    }                                                                                              \
    extern "C" void __asan_store##bytes##_noabort(uintptr_t address) {                             \
        watch(address, bytes, Access::WRITE, __builtin_return_address(0));                         \
    }
WATCH(1)
WATCH(2)
WATCH(4)
WATCH(8)
WATCH(16)

extern "C" void __asan_loadN_noabort(uintptr_t address, size_t bytes) {
    watch(address, bytes, Access::READ, __builtin_return_address(0));
}
extern "C" void __asan_storeN_noabort(uintptr_t address, size_t bytes) {
    watch(address, bytes, Access::WRITE, __builtin_return_address(0));
}
extern "C" void __asan_handle_no_return() {}

// What the sanitizer of undefined behaviour tells of a place.
struct Place {
    const char *file;
    uint32_t line, column;
};

extern "C" void __ubsan_handle_type_mismatch_v1_abort(const Place *place, uintptr_t address) {
    emulator::fail("misaligned access at %s:%u: the address ends in %#x", place->file, place->line,
                   (uint32_t)(address & 255));
}
extern "C" void __ubsan_handle_out_of_bounds_abort(const Place *place, uintptr_t index) {
    emulator::fail("%s:%u: an array has no element %zd", place->file, place->line, (size_t)index);
}
extern "C" void __ubsan_handle_shift_out_of_bounds_abort(const Place *place, uintptr_t,
                                                         uintptr_t by) {
    emulator::fail("%s:%u: a shift by %zd bits", place->file, place->line, (size_t)by);
}
extern "C" void __ubsan_handle_divrem_overflow_abort(const Place *place, uintptr_t, uintptr_t) {
    emulator::fail("%s:%u: a division by zero", place->file, place->line);
}
