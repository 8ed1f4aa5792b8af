// The kernels by name, and how one is called with arguments that are known at run time only.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

namespace emulator {

// What kinds of parameter there are; the same letters are in lib.rs.
const char POINTER = 'p', WORD = 'u', LONG = 'l', FLOAT = 'f';

struct Kernel {
    const char *name;
    uint32_t threads_max;
    // One letter a parameter, in their order.
    const char *parameters;
    void (*call)(void *const *arguments);
};

extern const Kernel *const kernels;
extern const uint32_t kernel_count;

template <class T> constexpr char kind_of() {
    if constexpr (std::is_pointer_v<T>) {
        return POINTER;
    } else if constexpr (std::is_same_v<T, float>) {
        return FLOAT;
    } else {
        static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                      "parameters are pointers, floats and integers of 4 or 8 bytes");
        return sizeof(T) == 4 ? WORD : LONG;
    }
}

template <auto FUNCTION> struct Entry;

template <class... A, void (*FUNCTION)(A...)> struct Entry<FUNCTION> {
    static constexpr char PARAMETERS[] = {kind_of<A>()..., 0};

    static void call(void *const *arguments) {
        spread(arguments, std::index_sequence_for<A...>());
    }

    template <std::size_t... I>
    static void spread(void *const *arguments, std::index_sequence<I...>) {
        FUNCTION(*(A *)arguments[I]...);
    }
};

} // namespace emulator
