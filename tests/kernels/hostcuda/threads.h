// Threads as threads of the system, for ThreadSanitizer: all blocks of a launch at once, as on a device, as far as
// `most` threads go; beyond that, blocks in waves.
#pragma once

#include <pthread.h>

#include <memory>
#include <thread>
#include <vector>

namespace hostcuda {

struct Meeting {
    pthread_barrier_t barrier;
    std::unique_ptr<unsigned char[]> shared;
};
static thread_local Meeting* meeting;

void barrier(const char*, int) { pthread_barrier_wait(&meeting->barrier); }

static int run(int kernel, const Grid& grid, const uint64_t* arguments, bool, Report* report) {
    const long long most = 1024, wave = grid.threads < most ? most / grid.threads : 1;
    *report = {};
    for (long long low = 0; low < grid.blocks; low += wave) {
        const long long high = min(low + wave, grid.blocks);
        std::vector<Meeting> meetings(high - low);
        std::vector<std::thread> threads;
        for (long long b = low; b < high; ++b) {
            Meeting* here = &meetings[b - low];
            pthread_barrier_init(&here->barrier, nullptr, grid.threads);
            here->shared.reset(new unsigned char[grid.shared]);
            memset(here->shared.get(), 0xFF, grid.shared);
            for (int t = 0; t < grid.threads; ++t)
                threads.emplace_back([=] {
                    meeting = here;
                    place = {t, grid.threads, b, grid.blocks, here->shared.get()};
                    kernels[kernel].body(arguments);
                });
        }
        for (std::thread& each : threads) each.join();
        for (Meeting& each : meetings) pthread_barrier_destroy(&each.barrier);
    }
    return 0;
}

}  // namespace hostcuda
