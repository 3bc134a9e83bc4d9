// Threads as threads of the system, for ThreadSanitizer: all blocks of a launch at once, as on a device, as far as
// `most` threads go; beyond that, blocks in waves.
#pragma once

#include <pthread.h>

#include <memory>
#include <thread>
#include <vector>

namespace hostcuda {

struct Meeting {
    // Two, in turn: a thread that is slow to leave a barrier would otherwise meet the mark that a quick one leaves when
    // it arrives at the next, and ThreadSanitizer would take what lies between for ordered.
    pthread_barrier_t barriers[2];
    std::unique_ptr<unsigned char[]> shared;
};
static thread_local Meeting* meeting;
static thread_local int turn;

void barrier(const char*, int) {
    pthread_barrier_wait(&meeting->barriers[turn]);
    turn = 1 - turn;
}

// Copies that a thread begins take place at once, or as late as they may.
static int run(int kernel, const Grid& grid, const uint64_t* arguments, bool copy_late, Report* report) {
    late = copy_late;
    const long long most = 1024, wave = grid.threads < most ? most / grid.threads : 1;
    *report = {};
    for (long long low = 0; low < grid.blocks; low += wave) {
        const long long high = min(low + wave, grid.blocks);
        std::vector<Meeting> meetings(high - low);
        std::vector<std::thread> threads;
        for (long long b = low; b < high; ++b) {
            Meeting* here = &meetings[b - low];
            for (pthread_barrier_t& each : here->barriers) pthread_barrier_init(&each, nullptr, grid.threads);
            here->shared.reset(new unsigned char[grid.shared]);
            memset(here->shared.get(), 0xFF, grid.shared);
            for (int t = 0; t < grid.threads; ++t)
                threads.emplace_back([=] {
                    meeting = here;
                    turn = 0;
                    place = {t, grid.threads, b, grid.blocks, here->shared.get()};
                    kernels[kernel].body(arguments);
                });
        }
        for (std::thread& each : threads) each.join();
        for (Meeting& here : meetings)
            for (pthread_barrier_t& each : here.barriers) pthread_barrier_destroy(&each);
    }
    return 0;
}

}  // namespace hostcuda
