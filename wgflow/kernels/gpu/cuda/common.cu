// Definitions shared by all kernels. REAL is float or double, set by a compiler option.
//
// Rules that keep the source testable without a device: shared memory through SHARED alone, no warp shuffles, no
// atomics on floating-point numbers, no #include, and no assembler but that of the copies and stores below. Kernels
// take pointers, long long and double, nothing else; threads of a block stride over the work, so that any number of
// them gives the same bits.

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

// Four floats to shared memory in one store; the compiler splits it into four, whose banks conflict.
#define STORE_SHARED(to, v)                                                                                        \
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"((unsigned)__cvta_generic_to_shared(to)),         \
                 "f"(float((v)[0])), "f"(float((v)[1])), "f"(float((v)[2])), "f"(float((v)[3])) : "memory")

// Asynchronous copies of 16 bytes from global to shared memory. SENT() closes a thread's batch; LANDED(n) waits until
// all but its last n batches have arrived, which other threads see after the next barrier.
#if __CUDA_ARCH__ >= 800
#define SEND(to, from)                                                       \
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(          \
                     (unsigned)__cvta_generic_to_shared(to)),                \
                 "l"(__cvta_generic_to_global(from)) : "memory")
#define SENT() asm volatile("cp.async.commit_group;" ::: "memory")
#define LANDED(n) asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory")
#else
#define SEND(to, from) (*reinterpret_cast<int4*>(to) = *reinterpret_cast<const int4*>(from))
#define SENT()
#define LANDED(n)
#endif
#endif

typedef long long Int;

// For a kernel that needs registers for two blocks of 256 threads per multiprocessor in float32, for one in float64.
#define TWO_BLOCKS __launch_bounds__(256, 8 / sizeof(REAL))

// Loop over a thread's share of `count` items, when all threads of all blocks stride over them.
#define EACH(i, count) for (Int i = BLOCK * THREADS + THREAD; i < (count); i += BLOCKS * THREADS)
// The same within one block, for fewer than 2^31 items.
#define EACH_HERE(i, count) for (int i = THREAD; i < (count); i += THREADS)
