// A libcuda.so.1 for machines without a GPU: memory is the host's, launches run the kernels of kernels/ in the emulator,
// streams are synchronous, a captured graph is a list. FAKE_CUDA makes it another machine: "none" without a device,
// "old" with a driver of CUDA 12.4, "lost" whose device fails at the first launch, "small" with 1 MiB of memory.
#include "emulate.cpp"

#include "../../../kernels/attention.cu"
#include "../../../kernels/conv.cu"
#include "../../../kernels/draw.cu"
#include "../../../kernels/layout.cu"
#include "../../../kernels/matmul.cu"
#undef MEET
#include "../../../kernels/program.cu"
#include "../../../kernels/reduce.cu"
#include "../../../kernels/sort.cu"
#include "../../../kernels/tensor.cu"

#include <functional>
#include <mutex>

typedef int Result;
typedef uint64_t Address;
enum { OK = 0, BAD_VALUE = 1, NO_MEMORY = 2, NO_DEVICE = 100, BAD_DEVICE = 101, BAD_IMAGE = 200, NOT_FOUND = 500,
       BAD_ADDRESS = 700, LAUNCH_FAILED = 719, NOT_SUPPORTED = 801 };

struct Graph { std::vector<std::function<Result()>> nodes; };
struct Stream { Graph *capture = nullptr; };

static std::recursive_mutex lock;
static Stream first;
static Result broken; // once a device is lost every call says so
struct Counts { long launches, graph_launches, live, copied_in; } counts;

static bool is(const char *what) {
    const char *e = getenv("FAKE_CUDA");
    return e && !strcmp(e, what);
}
static Stream &of(void *s) { return s ? *(Stream *)s : first; }
static Result act(void *stream, std::function<Result()> f) {
    std::lock_guard<std::recursive_mutex> hold(lock);
    if (broken) return broken;
    if (Graph *g = of(stream).capture) {
        g->nodes.push_back(f);
        return OK;
    }
    return broken = f();
}

// An allocation lies between two guards that are looked at when a stream is waited for and when it is freed.
static const size_t GUARD = 256;
struct Block { char *p; size_t bytes; Block *next; };
static Block *blocks;
static bool whole_guards() {
    for (Block *b = blocks; b; b = b->next)
        for (size_t i = 0; i < GUARD; i++)
            if (b->p[i] != 0x5a || b->p[GUARD + b->bytes + i] != 0x5a) return false;
    return true;
}

extern "C" {
Result cuInit(unsigned) { return is("none") ? NO_DEVICE : OK; }
Result cuDriverGetVersion(int *v) { *v = is("old") ? 12040 : 13000; return OK; }
Result cuDeviceGetCount(int *n) { *n = 1; return OK; }
Result cuDeviceGet(int *d, int i) { *d = i; return i == 0 ? OK : BAD_DEVICE; }
Result cuDeviceGetName(char *to, int n, int) { strncpy(to, "emulated by the host", n); return OK; }
Result cuDeviceTotalMem_v2(size_t *n, int) { *n = is("small") ? 1 << 20 : (size_t)8 << 30; return OK; }
Result cuDeviceGetAttribute(int *v, int a, int) { *v = a == 75 ? 9 : a == 97 ? 232448 : 0; return OK; }
Result cuDevicePrimaryCtxRetain(void **c, int) { *c = &counts; return OK; }
Result cuDevicePrimaryCtxRelease_v2(int) { return OK; }
Result cuCtxSetCurrent(void *) { return OK; }
Result cuStreamCreate(void **s, unsigned) { *s = new Stream; return OK; }
Result cuStreamDestroy_v2(void *s) { delete (Stream *)s; return OK; }
Result cuStreamSynchronize(void *) {
    std::lock_guard<std::recursive_mutex> hold(lock);
    if (!broken && !whole_guards()) broken = BAD_ADDRESS;
    return broken;
}
Result cuEventCreate(void **e, unsigned) { *e = new int; return OK; }
Result cuEventDestroy_v2(void *e) { delete (int *)e; return OK; }
Result cuEventRecord(void *, void *) { return broken; }
Result cuEventSynchronize(void *) { return broken; }
Result cuMemAlloc_v2(Address *p, size_t n) {
    std::lock_guard<std::recursive_mutex> hold(lock);
    if (!n) return BAD_VALUE;
    if (n > (is("small") ? (size_t)1 << 20 : (size_t)8 << 30)) return NO_MEMORY;
    char *at = (char *)aligned_alloc(256, (n + 2 * GUARD + 255) / 256 * 256);
    if (!at) return NO_MEMORY;
    memset(at, 0x5a, GUARD);
    memset(at + GUARD, 0xff, n); // NaN until written
    memset(at + GUARD + n, 0x5a, GUARD);
    blocks = new Block{at, n, blocks};
    counts.live++;
    *p = (Address)(at + GUARD);
    return OK;
}
Result cuMemFree_v2(Address p) {
    std::lock_guard<std::recursive_mutex> hold(lock);
    for (Block **b = &blocks; *b; b = &(*b)->next)
        if ((Address)((*b)->p + GUARD) == p) {
            Block *gone = *b;
            const Result r = whole_guards() ? OK : BAD_ADDRESS;
            *b = gone->next;
            free(gone->p);
            delete gone;
            counts.live--;
            return r;
        }
    return BAD_VALUE;
}
Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t n, void *s) {
    return act(s, [=] { memcpy((void *)to, from, n); counts.copied_in++; return OK; });
}
Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t n, void *s) {
    return act(s, [=] { memcpy(to, (void *)from, n); return OK; });
}
Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t n, void *s) {
    return act(s, [=] { memcpy((void *)to, (void *)from, n); return OK; });
}
Result cuMemsetD8Async(Address to, unsigned char v, size_t n, void *s) {
    return act(s, [=] { memset((void *)to, v, n); return OK; });
}
Result cuModuleLoadData(void **m, const void *image) {
    *m = &counts;
    return memcmp(image, "EMULATED", 8) && *(const uint32_t *)image != 0xBA55ED50 ? BAD_IMAGE : OK;
}
Result cuModuleUnload(void *) { return OK; }
Result cuModuleGetFunction(void **f, void *, const char *name) { return (*f = emulate::find(name)) ? OK : NOT_FOUND; }
Result cuFuncSetAttribute(void *, int, int) { return OK; }
Result cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *s, void **args, void **) {
    const emulate::Entry *k = (const emulate::Entry *)f;
    if (!k || !gx || gx > 0x7fffffff || gy != 1 || gz != 1 || !bx || bx > k->most || by != 1 || bz != 1 || shared > 232448)
        return BAD_VALUE;
    Args copy;
    memcpy(&copy, args[0], sizeof copy);
    return act(s, [=] {
        counts.launches++;
        if (is("lost")) return (Result)LAUNCH_FAILED;
        return emulate::launch(*k, copy, gx, bx, shared) ? (Result)OK : (Result)LAUNCH_FAILED;
    });
}
Result cuStreamBeginCapture_v2(void *s, int) { of(s).capture = new Graph; return OK; }
Result cuStreamEndCapture(void *s, void **g) { *g = of(s).capture; of(s).capture = nullptr; return OK; }
Result cuGraphInstantiateWithFlags(void **e, void *g, unsigned long long) { *e = new Graph(*(Graph *)g); return OK; }
Result cuGraphLaunch(void *g, void *s) {
    counts.graph_launches++;
    return act(s, [=] {
        for (auto &f : ((Graph *)g)->nodes)
            if (Result r = f()) return r;
        return (Result)OK;
    });
}
Result cuGraphExecDestroy(void *g) { delete (Graph *)g; return OK; }
Result cuGraphDestroy(void *g) { delete (Graph *)g; return OK; }

// For the tests alone.
char diffx_emulated_kernels[8] = {'E', 'M', 'U', 'L', 'A', 'T', 'E', 'D'};
unsigned diffx_emulated_args_bytes = sizeof(Args);
void diffx_emulated_order(int order) { emulate::order = (emulate::Order)order; }
void diffx_emulated_counts(long *to) { memcpy(to, &counts, sizeof counts); }
}
