// Runs the text of kernels/ on the CPU: one fiber a thread of the device, blocks one after the other.
//
// What it finds that a device may hide: shared memory is NaN before each block; threads run in a fixed order up or down,
// each as far as the next barrier, so what depends on an order differs between the two; a barrier that some threads of a
// block have left behind is an error, as is one where others multiply. What it cannot find: weak memory, timing, registers, bank conflicts.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <math.h>

#define DEVICE inline
#define OUTLINE static
#define CONSTANT static const
#define KERNEL(name, most)                                                                                             \
    static void name(const Args &a);                                                                                   \
    static emulate::Entry entry_##name(#name, name, most);                                                             \
    static void name(const Args &a)
#define SHARED(T, name) T *name = (T *)emulate::shared

struct Args;
namespace emulate {
struct Index { unsigned x, y, z; };
extern Index thread, block, threads;
extern unsigned char *shared;
void barrier();
void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

// A kernel by name.
struct Entry {
    const char *name;
    void (*run)(const Args &);
    unsigned most;
    Entry *next;
    Entry(const char *name, void (*run)(const Args &), unsigned most);
};
Entry *find(const char *name);

enum Order { UP, DOWN };
extern Order order;
// Runs a grid of one dimension; false: some threads left while others wait at a barrier.
bool launch(const Entry &kernel, const Args &args, unsigned blocks, unsigned threads, unsigned shared_bytes);
} // namespace emulate

#define threadIdx emulate::thread
#define blockIdx emulate::block
#define blockDim emulate::threads
inline void __syncthreads() { emulate::barrier(); }
// The model of tensor.cuh: every lane of a warp takes part, and all warps of a block alike.
inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { emulate::mma(d, a, b); }
