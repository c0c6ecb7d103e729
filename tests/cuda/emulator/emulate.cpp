// The scheduler of the emulator: x86-64 fibers switched by hand, a stack taken from a heap of free ones, so that a kernel
// without barriers runs all its threads on one.
#include "emulate.h"
#include <cstdlib>
#include <vector>

namespace emulate {
Index thread, block, threads;
unsigned char *shared;
Order order = UP;

static Entry *entries;
Entry::Entry(const char *name, void (*run)(const Args &), unsigned most) : name(name), run(run), most(most), next(entries) {
    entries = this;
}
Entry *find(const char *name) {
    for (Entry *e = entries; e; e = e->next)
        if (!strcmp(e->name, name)) return e;
    return nullptr;
}

// Saves the registers a call keeps on this stack and goes on where another one was left.
extern "C" void diffx_switch(void **save, void *to);
asm(R"(
.text
.globl diffx_switch
.hidden diffx_switch
.type diffx_switch,@function
diffx_switch:
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
.size diffx_switch,.-diffx_switch
)");

struct Fiber { void *stack, *at; bool started, done; };
static const size_t STACK = 64 << 10;
static std::vector<void *> spare;
static std::vector<Fiber> fibers;
static void *scheduler;
static Fiber *current;
static const Entry *kernel_now;
static const Args *args_now;

static void body() {
    kernel_now->run(*args_now);
    current->done = true;
    void *nowhere;
    diffx_switch(&nowhere, scheduler);
    abort();
}

void barrier() { diffx_switch(&current->at, scheduler); }

static void start(Fiber &f) {
    if (spare.empty()) spare.push_back(aligned_alloc(64, STACK));
    f.stack = spare.back();
    spare.pop_back();
    void **top = (void **)((char *)f.stack + STACK - 16); // aligned as after a call
    *--top = nullptr;
    *--top = (void *)body;
    top -= 6;
    f.at = top;
    f.started = true;
}

bool launch(const Entry &kernel, const Args &args, unsigned blocks, unsigned count, unsigned shared_bytes) {
    static std::vector<unsigned char> room;
    room.resize(shared_bytes + 64);
    shared = (unsigned char *)(((uintptr_t)room.data() + 63) & ~(uintptr_t)63);
    kernel_now = &kernel;
    args_now = &args;
    threads = {count, 1, 1};
    for (unsigned b = 0; b < blocks; b++) {
        memset(shared, 0xff, shared_bytes);
        block = {b, 0, 0};
        fibers.assign(count, Fiber{});
        for (unsigned left = count; left > 0;) {
            unsigned ended = 0;
            for (unsigned k = 0; k < count; k++) {
                const unsigned t = order == UP ? k : count - 1 - k;
                Fiber &f = fibers[t];
                if (f.done) continue;
                if (!f.started) start(f);
                thread = {t, 0, 0};
                current = &f;
                diffx_switch(&scheduler, f.at);
                if (f.done) {
                    spare.push_back(f.stack);
                    ended++;
                }
            }
            left -= ended;
            if (left > 0 && ended > 0) {
                for (Fiber &f : fibers)
                    if (f.started && !f.done) spare.push_back(f.stack);
                return false;
            }
        }
    }
    return true;
}
} // namespace emulate
