// CUDA C++ on the host: what wgflow/kernels/gpu/cuda/common.cu leaves to the tests to define.
//
// A kernel's thread is a fiber (fibers.h), so that threads run one after another in an order of our choosing, or a
// thread of the system (threads.h), so that ThreadSanitizer sees them. HOSTCUDA_THREADS chooses.
#pragma once

#include <math.h>  // C++'s: overloads for float and double in the global namespace, as in CUDA
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <utility>
#include <vector>

namespace hostcuda {

// Where the running thread is. Of external linkage, so that the compiler reads it anew after a barrier.
struct Place {
    int thread, threads;
    long long block, blocks;
    unsigned char* shared;
};
#ifdef HOSTCUDA_THREADS
thread_local Place place;
#else
Place place;
#endif

void barrier(const char* file, int line);

// Copies that a thread has begun: they take place at once, or, if `late`, when the thread waits for them. A device does
// either or something in between. `closed` is how many each batch, and those before it, hold.
struct Copy {
    void* to;
    const void* from;
};
struct Sent {
    std::vector<Copy> copies;
    std::vector<size_t> closed;
};
bool late;
std::atomic<bool> any_sent;
#ifdef HOSTCUDA_THREADS
thread_local Sent own;
inline Sent& sent() { return own; }
#else
std::vector<Sent> of_threads;
inline Sent& sent() { return of_threads[place.thread]; }
#endif

inline void send(void* to, const void* from) {
    any_sent.store(true, std::memory_order_relaxed);
    if (reinterpret_cast<uintptr_t>(to) % 16 || reinterpret_cast<uintptr_t>(from) % 16) __builtin_trap();
    if (late)
        sent().copies.push_back({to, from});
    else
        memcpy(to, from, 16);
}

// Until all batches but the last n have taken place; numbers that nobody waits for do not arrive.
inline void landed(size_t n) {
    Sent& mine = sent();
    if (mine.closed.size() <= n) return;
    const size_t batches = mine.closed.size() - n, many = mine.closed[batches - 1];
    for (size_t i = 0; i < many; ++i) memcpy(mine.copies[i].to, mine.copies[i].from, 16);
    mine.copies.erase(mine.copies.begin(), mine.copies.begin() + many);
    mine.closed.erase(mine.closed.begin(), mine.closed.begin() + batches);
    for (size_t& each : mine.closed) each -= many;
}

}  // namespace hostcuda

#define WGFLOW_HOST 1
#define KERNEL static void
#define DEVICE inline
#define BARRIER() hostcuda::barrier(__FILE__, __LINE__)
#define SHARED(type, name) type* name = reinterpret_cast<type*>(hostcuda::place.shared)
#define THREAD (hostcuda::place.thread)
#define THREADS (hostcuda::place.threads)
#define BLOCK (hostcuda::place.block)
#define BLOCKS (hostcuda::place.blocks)
#define STORE_SHARED(to, v) (*reinterpret_cast<Four*>(to) = {{(v)[0], (v)[1], (v)[2], (v)[3]}})
#define SEND(to, from) hostcuda::send(to, from)
#define SENT() hostcuda::sent().closed.push_back(hostcuda::sent().copies.size())
#define LANDED(n) hostcuda::landed(n)

// What CUDA has built in. Neither __shared__ nor __syncthreads nor warp functions: the source must not use them.
#define __launch_bounds__(...)
#define __constant__ static const
template <class T> inline T __ldg(const T* where) { return *where; }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rsqrt(float x) { return 1.0f / sqrt(x); }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline long long max(long long a, long long b) { return a > b ? a : b; }
inline float min(float a, float b) { return fmin(a, b); }
inline float max(float a, float b) { return fmax(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
