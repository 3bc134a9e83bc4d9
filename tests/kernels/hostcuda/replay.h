// A program that repeats recorded launches (hostcuda/replay.py writes them) and compares every bit of what they leave.
#pragma once

#include <vector>

static bool read(FILE* file, void* where, size_t size) { return size == 0 || fread(where, size, 1, file) == 1; }

// 0 same bits, 1 other bits, 2 failed.
static int repeat(const char* path) {
    FILE* file = fopen(path, "rb");
    int64_t head[6];  // kernel, blocks, threads, shared, buffers, arguments
    if (!file || !read(file, head, sizeof head) || head[0] >= hostcuda::kernel_count) return 2;
    std::vector<unsigned char*> buffers;
    std::vector<std::vector<unsigned char>> begun, left;
    for (int64_t i = 0; i < head[4]; ++i) {
        int64_t size;
        if (!read(file, &size, 8)) return 2;
        buffers.push_back(static_cast<unsigned char*>(malloc(size)));  // of its size exactly, for AddressSanitizer
        begun.emplace_back(size);
        left.emplace_back(size);
        if (!read(file, begun.back().data(), size) || !read(file, left.back().data(), size)) return 2;
    }
    std::vector<uint64_t> arguments(head[5]);
    for (uint64_t& argument : arguments) {
        int64_t pair[2];  // number of a buffer or -1, bits
        if (!read(file, pair, sizeof pair)) return 2;
        argument = pair[0] < 0 ? static_cast<uint64_t>(pair[1]) : reinterpret_cast<uint64_t>(buffers[pair[0]]);
    }
    fclose(file);
    hostcuda::Report report;
    hostcuda::Grid grid = {head[1], static_cast<int>(head[2]), head[3]};
    const char* name = hostcuda::kernels[head[0]].name;
    bool same = true;
    hostcuda::any_sent = false;
    for (const bool late : {false, true}) {
        if (late && !hostcuda::any_sent) break;
        for (size_t i = 0; i < buffers.size(); ++i) memcpy(buffers[i], begun[i].data(), begun[i].size());
        if (hostcuda::run(static_cast<int>(head[0]), grid, arguments.data(), late, &report)) {
            printf("failed %s: %s\n", name, report.message);
            return 2;
        }
        for (size_t i = 0; i < buffers.size(); ++i)
            same = same && memcmp(buffers[i], left[i].data(), left[i].size()) == 0;
    }
    for (unsigned char* each : buffers) free(each);
    printf("%s %s\n", same ? "same" : "other", name);
    return !same;
}

int main(int count, char** paths) {
    int worst = 0;
    for (int i = 1; i < count; ++i) {
        const int status = repeat(paths[i]);
        fflush(stdout);
        if (status > worst) worst = status;
    }
    return worst;
}
