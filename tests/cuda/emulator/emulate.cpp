// The scheduler of the emulator: x86-64 fibers switched by hand, a stack taken from a heap of free ones, so that a kernel
// without barriers runs all its threads on one.
#include "emulate.h"
#include <cmath>
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

enum Meeting { BARRIER, PRODUCT };
struct Fiber { void *stack, *at; bool started, done; Meeting meeting; unsigned products; };
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

static void meet(Meeting meeting) {
    current->meeting = meeting;
    diffx_switch(&current->at, scheduler);
}
void barrier() { meet(BARRIER); }

// What each lane brings to a product, and to the next one: a lane is never two ahead of another.
struct Brought { uint32_t a[4], b[2]; };
static std::vector<Brought> brought[2];

static double half_of(uint32_t two, int upper) {
    const uint32_t bits = upper ? two & 0xffff0000u : two << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

// What is added is cut off at the last of 24 bits of the largest of them.
static double add(const double *parts, int n) {
    double most = 0, sum = 0;
    for (int i = 0; i < n; i++) {
        if (!std::isfinite(parts[i])) return parts[i] + (i + 1 < n ? add(parts + i + 1, n - i - 1) : 0);
        most = fmax(most, fabs(parts[i]));
    }
    int top;
    frexp(most, &top);
    for (int i = 0; i < n; i++) sum += ldexp(trunc(ldexp(parts[i], 24 - top)), top - 24);
    return sum;
}

// Products are exact and added in two groups of 8, the least that has been measured of tensor cores (sm_80); the sum is
// cut off to f32.
void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    const unsigned t = thread.x, lane = t % 32;
    std::vector<Brought> &now = brought[current->products++ % 2];
    memcpy(now[t].a, a, sizeof a);
    memcpy(now[t].b, b, sizeof b);
    meet(PRODUCT);
    const Brought *warp = &now[t - lane];
    for (int e = 0; e < 4; e++) {
        const int row = lane / 4 + (e >> 1) * 8, column = lane % 4 * 2 + (e & 1);
        for (int upper = 0; upper < 2; upper++) {
            double parts[9] = {d[e]};
            for (int k = 0; k < 8; k++) {
                const double x = half_of(warp[row % 8 * 4 + k / 2].a[(row >= 8) + 2 * upper], k & 1);
                parts[1 + k] = x * half_of(warp[column * 4 + k / 2].b[upper], k & 1);
            }
            const double sum = add(parts, 9);
            d[e] = (float)sum;
            if (fabs((double)d[e]) > fabs(sum)) d[e] = nextafterf(d[e], 0);
        }
    }
}

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
    const Order now = order; // another thread may ask for another one
    for (auto &each : brought) each.resize(count);
    for (unsigned b = 0; b < blocks; b++) {
        memset(shared, 0xff, shared_bytes);
        block = {b, 0, 0};
        fibers.assign(count, Fiber{});
        for (unsigned left = count; left > 0;) {
            unsigned ended = 0;
            for (unsigned k = 0; k < count; k++) {
                const unsigned t = now == UP ? k : count - 1 - k;
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
            bool alike = true;
            const Fiber *first = nullptr;
            for (const Fiber &f : fibers)
                if (!f.done) {
                    alike = alike && (!first || f.meeting == first->meeting);
                    first = &f;
                }
            if (left > 0 && (ended > 0 || !alike)) {
                for (Fiber &f : fibers)
                    if (f.started && !f.done) spare.push_back(f.stack);
                return false;
            }
        }
    }
    return true;
}
} // namespace emulate
