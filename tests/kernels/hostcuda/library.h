// The shared library that Python loads.
#pragma once

extern "C" __attribute__((visibility("default"))) int hostcuda_launch(
    int kernel, long long blocks, int threads, long long shared, const uint64_t* arguments, int backwards,
    hostcuda::Report* report) {
    return hostcuda::run(kernel, {blocks, threads, shared}, arguments, backwards != 0, report);
}
