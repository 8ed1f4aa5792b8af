// Every kernel, as one file of C++, and the list of them.

#include "registry.h"
#include "runtime.h"

// A namespace of its own keeps the kernels' shared variables out of what the linker merges, so that
// they can have a section of their own.
namespace {

#include "selftest.cu"
#include "sources.inc"

#ifndef FARTHING_EMULATOR_LIST
#define REGISTER(name, threads)                                                                    \
    {#name, (uint32_t)(threads), emulator::Entry<name>::PARAMETERS, emulator::Entry<name>::call},

const emulator::Kernel ALL[] = {
#include "registry.inc"
};
#endif

} // namespace

#ifndef FARTHING_EMULATOR_LIST
namespace emulator {
const Kernel *const kernels = ALL;
const uint32_t kernel_count = sizeof ALL / sizeof ALL[0];
} // namespace emulator
#endif
