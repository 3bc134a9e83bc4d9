// Blocks one after another, their threads as fibers: each runs until its next barrier, then the next one runs.
//
// Backwards, the threads of every stretch between two barriers run from the last to the first, and so do the blocks. A
// kernel without a race gives the same bits both ways. Copies that a thread begins take place at once forwards, and as
// late as they may backwards.
#pragma once

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <vector>

namespace hostcuda {

const size_t page = sysconf(_SC_PAGESIZE), stack_size = 1 << 18, margin = 64;
const unsigned char poison = 0xFF;  // NaN as a float, -1 as an integer
const unsigned char canary = 0x7F;  // around shared memory: huge as a float, and not what a NaN would leave

struct Fiber {
    unsigned char* stack;
    bool done;
    const char* file;  // the barrier it waits at
    int line;
};

struct Scheduler {
    std::vector<Fiber> fibers;
    std::vector<unsigned char*> stacks, unused;  // all that there are, and those that no fiber has
    Body body;
    const uint64_t* arguments;
    Report* report;
};
Scheduler scheduler;

// Memory with a page at each end that must not be touched.
static unsigned char* fenced(size_t size) {
    void* found = mmap(nullptr, size + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED) abort();
    unsigned char* low = static_cast<unsigned char*>(found);
    mprotect(low, page, PROT_NONE);
    mprotect(low + page + size, page, PROT_NONE);
    return low + page;
}

static void fiber_main() {
    scheduler.body(scheduler.arguments);
    scheduler.fibers[place.thread].done = true;
}

#if defined(__x86_64__) && !defined(HOSTCUDA_UCONTEXT)
// swapcontext asks the kernel for the signal mask each time; this keeps what the ABI says a call keeps, and no more.
extern "C" void hostcuda_switch(void** leave, void* enter);
asm(R"(
.text
.p2align 4
.type hostcuda_switch, @function
hostcuda_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size hostcuda_switch, .-hostcuda_switch
)");
void* main_top;
std::vector<void*> tops;

static void leave(int thread) { hostcuda_switch(&tops[thread], main_top); }
static void fiber_entry() {
    fiber_main();
    leave(place.thread);  // for good
}
static void prepare(int thread) {
    if (tops.size() <= static_cast<size_t>(thread)) tops.resize(thread + 1);
    uint64_t* top = reinterpret_cast<uint64_t*>(scheduler.fibers[thread].stack + stack_size) - 8;
    memset(top, 0, 64);
    top[6] = reinterpret_cast<uint64_t>(fiber_entry);  // six registers, then where `ret` goes: 16-byte aligned + 8
    tops[thread] = top;
}
static void enter(int thread) { hostcuda_switch(&main_top, tops[thread]); }
#else
ucontext_t main_context;
std::vector<ucontext_t*> contexts;

static void leave(int thread) { swapcontext(contexts[thread], &main_context); }
static void fiber_entry() {
    fiber_main();
    leave(place.thread);
}
static void prepare(int thread) {
    while (contexts.size() <= static_cast<size_t>(thread)) contexts.push_back(new ucontext_t);
    getcontext(contexts[thread]);
    contexts[thread]->uc_stack.ss_sp = scheduler.fibers[thread].stack;
    contexts[thread]->uc_stack.ss_size = stack_size;
    contexts[thread]->uc_link = nullptr;
    makecontext(contexts[thread], fiber_entry, 0);
}
static void enter(int thread) { swapcontext(&main_context, contexts[thread]); }
#endif

void barrier(const char* file, int line) {
    Fiber& fiber = scheduler.fibers[place.thread];
    fiber.file = file;
    fiber.line = line;
    leave(place.thread);
}

// Runs a thread up to its next barrier or its end. A stack is taken at its start and given back at its end, so that
// the threads of a kernel without barriers share one.
static void advance(int thread, bool start) {
    Fiber& fiber = scheduler.fibers[thread];
    place.thread = thread;
    if (start) {
        if (scheduler.unused.empty()) {
            scheduler.stacks.push_back(fenced(stack_size));
            scheduler.unused.push_back(scheduler.stacks.back());
        }
        fiber = {scheduler.unused.back(), false, nullptr, 0};
        scheduler.unused.pop_back();
        prepare(thread);
    }
    enter(thread);
    if (fiber.done) scheduler.unused.push_back(fiber.stack);
}

// True if all threads have ended; otherwise all must wait at one barrier.
static bool ended(int threads) {
    const Fiber& first = scheduler.fibers[0];
    for (int t = 1; t < threads; ++t) {
        const Fiber& fiber = scheduler.fibers[t];
        bool same = fiber.done == first.done &&
                    (fiber.done || (fiber.line == first.line && strcmp(fiber.file, first.file) == 0));
        if (same) continue;
        char where[2][256];
        const Fiber* both[2] = {&first, &fiber};
        for (int i = 0; i < 2; ++i) {
            if (both[i]->done)
                snprintf(where[i], sizeof where[i], "has returned");
            else
                snprintf(where[i], sizeof where[i], "waits at %s:%d", both[i]->file, both[i]->line);
        }
        scheduler.report->block = place.block;
        scheduler.report->thread = t;
        snprintf(scheduler.report->message, sizeof scheduler.report->message,
                 "a barrier that not all threads reach: thread 0 %s, thread %d %s", where[0], t, where[1]);
        return true;
    }
    return first.done;
}

static void run_block(int threads, bool backwards) {
    scheduler.fibers.resize(threads);
    of_threads.assign(threads, {});
    late = backwards;
    bool start = true;
    do {
        for (int t = 0; t < threads; ++t) advance(backwards ? threads - 1 - t : t, start);
        start = false;
    } while (!ended(threads));
}

static bool intact(const unsigned char* low, const unsigned char* high) {
    for (; low < high; ++low)
        if (*low != canary) return false;
    return true;
}

// Blocks in turn, each with its shared memory poisoned. What was asked for ends at a fence, up to 16-byte alignment.
static void run_grid(const Grid& grid, bool backwards) {
    const size_t most = 1 << 20;
    static unsigned char* memory = fenced(most);
    unsigned char* high = memory + most;
    unsigned char* base = high - (grid.shared + 15) / 16 * 16;
    place = {0, grid.threads, 0, grid.blocks, base};
    for (long long b = 0; b < grid.blocks; ++b) {
        place.block = backwards ? grid.blocks - 1 - b : b;
        memset(base - margin, canary, high - base + margin);
        memset(base, poison, grid.shared);
        run_block(grid.threads, backwards);
        if (scheduler.report->message[0]) return;
        if (!intact(base - margin, base) || !intact(base + grid.shared, high)) {
            scheduler.report->block = place.block;
            snprintf(scheduler.report->message, sizeof scheduler.report->message,
                     "a write outside of the %lld bytes of shared memory asked for", grid.shared);
            return;
        }
    }
}

sigjmp_buf escape;
const int caught[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
extern "C" const char __ehdr_start __attribute__((visibility("hidden")));  // the linker's: where the library begins

static void on_fault(int number, siginfo_t* information, void* context) {
    Report& report = *scheduler.report;
    report.block = place.block;
    report.thread = place.thread;
    report.address = information->si_addr;
    const unsigned char* at = static_cast<const unsigned char*>(information->si_addr);
    const unsigned char* stack = scheduler.fibers[place.thread].stack;
    const char* what = "an access to memory that is not the kernel's";
    if (number == SIGFPE) what = "a division of an integer by zero";
    else if (number == SIGILL) what = "undefined: a misaligned vector, an index beyond a local array, or overflow";
    else if (at >= stack - page && at < stack) what = "more than the stack of a thread";
    else if (at >= place.shared && at < place.shared + (1 << 20) + page) what = "an access beyond shared memory";
    else report.touched = 1;
    snprintf(report.message, sizeof report.message, "%s", what);
#if defined(__x86_64__) && defined(__linux__)
    report.instruction = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] -
                         reinterpret_cast<long long>(&__ehdr_start);
#else
    (void)context;
#endif
    siglongjmp(escape, 1);
}

// Runs a kernel; 0, or 1 with a report.
static int run(int kernel, const Grid& grid, const uint64_t* arguments, bool backwards, Report* report) {
    *report = {};
    scheduler.body = kernels[kernel].body;
    scheduler.arguments = arguments;
    scheduler.report = report;
    static unsigned char* signal_stack = fenced(1 << 16);
    stack_t mine = {}, before;
    mine.ss_sp = signal_stack;
    mine.ss_size = 1 << 16;
    sigaltstack(&mine, &before);
    struct sigaction action = {}, old[4];
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < 4; ++i) sigaction(caught[i], &action, &old[i]);
    if (sigsetjmp(escape, 1) == 0)
        run_grid(grid, backwards);
    scheduler.unused = scheduler.stacks;  // those of threads that were given up too
    for (int i = 0; i < 4; ++i) sigaction(caught[i], &old[i], nullptr);
    sigaltstack(&before, nullptr);
    return report->message[0] != 0;
}

}  // namespace hostcuda
