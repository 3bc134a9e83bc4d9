// CUDA C++ on the host: what wgflow/kernels/cuda/common.cu leaves to the tests to define.
//
// A kernel's thread is a fiber (fibers.h), so that threads run one after another in an order of our choosing, or a
// thread of the system (threads.h), so that ThreadSanitizer sees them. HOSTCUDA_THREADS chooses.
#pragma once

#include <math.h>  // C++'s: overloads for float and double in the global namespace, as in CUDA
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utility>

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
