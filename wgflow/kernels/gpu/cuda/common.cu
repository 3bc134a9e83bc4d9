// What all kernels share. REAL is float or double, by the compiler's options.
//
// Rules that keep the source testable without a device: shared memory through SHARED alone, no warp shuffles, no
// atomics on floating-point numbers, no #include, and no assembler but that of the copies and stores below. Kernels take
// pointers, long long and double, nothing else; threads of a block stride over the work, so that any number of them
// gives the same bits.

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

// Copies of 16 bytes from global to shared memory that go on while a thread does other work. SENT() closes a batch of a
// thread's; LANDED(n) waits until all but its last n batches are there, for the others to see after the next barrier.
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

// For a kernel that wants two blocks of 256 threads on a multiprocessor in float32, one in float64: registers for them.
#define TWO_BLOCKS __launch_bounds__(256, 8 / sizeof(REAL))

// First and last index of a thread's share when all threads of all blocks stride over `count` things.
#define EACH(i, count) for (Int i = BLOCK * THREADS + THREAD; i < (count); i += BLOCKS * THREADS)
// The same within one block, for less than 2^31 things.
#define EACH_HERE(i, count) for (int i = THREAD; i < (count); i += THREADS)
