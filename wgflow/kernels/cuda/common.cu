// What all kernels share. REAL is float or double, by the compiler's options.
//
// Rules that keep the source testable without a device: shared memory through SHARED alone, no warp shuffles, no
// atomics on floating-point numbers, no #include. Kernels take pointers, long long and double, nothing else; threads of
// a block stride over the work, so that any number of them gives the same bits.

#ifndef WGFLOW_HOST  // on the host the tests define these instead
#define KERNEL extern "C" __global__ void
#define DEVICE __device__ __forceinline__
#define BARRIER() __syncthreads()
#define SHARED(type, name)                                          \
    extern __shared__ __align__(16) unsigned char shared_memory[]; \
    type* name = reinterpret_cast<type*>(shared_memory)
#define THREAD ((int)threadIdx.x)
#define THREADS ((int)blockDim.x)
#define BLOCK ((long long)blockIdx.x)
#define BLOCKS ((long long)gridDim.x)
#endif

typedef long long Int;

// For a kernel that wants two blocks of 256 threads on a multiprocessor in float32, one in float64: registers for them.
#define TWO_BLOCKS __launch_bounds__(256, 8 / sizeof(REAL))

// First and last index of a thread's share when all threads of all blocks stride over `count` things.
#define EACH(i, count) for (Int i = BLOCK * THREADS + THREAD; i < (count); i += BLOCKS * THREADS)
// The same within one block, for less than 2^31 things.
#define EACH_HERE(i, count) for (int i = THREAD; i < (count); i += THREADS)
