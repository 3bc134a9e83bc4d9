// After the source: its kernels behind one signature, void(const uint64_t*); every argument is eight bytes.
#pragma once

namespace hostcuda {

typedef void (*Body)(const uint64_t*);
struct Entry {
    const char* name;
    Body body;
};

template <class T> T argument(uint64_t bits) {
    static_assert(sizeof(T) == 8, "kernels take pointers, long long and double");
    T value;
    memcpy(&value, &bits, 8);
    return value;
}

template <auto kernel> struct Erased;
template <class... P, void (*kernel)(P...)> struct Erased<kernel> {
    template <size_t... I> static void call(const uint64_t* arguments, std::index_sequence<I...>) {
        kernel(argument<P>(arguments[I])...);
    }
    static void body(const uint64_t* arguments) { call(arguments, std::index_sequence_for<P...>{}); }
};

// HOSTCUDA_KERNELS(X) is X(first kernel) X(second kernel) ...
#define HOSTCUDA_ENTRY(kernel) {#kernel, Erased<kernel>::body},
static const Entry kernels[] = {HOSTCUDA_KERNELS(HOSTCUDA_ENTRY)};
static const int kernel_count = sizeof kernels / sizeof *kernels;

struct Grid {
    long long blocks;
    int threads;
    long long shared;
};

struct Report {  // of what went wrong
    char message[1024];
    long long block;
    int thread;
    int touched;           // whether memory was, that must not be, and
    const void* address;   // where
    long long instruction;  // that did it, from the beginning of the library; 0 if not known
};

}  // namespace hostcuda
