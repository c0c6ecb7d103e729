// Moving elements: a strided box to a strided box, patterns, and addressing by data.
#include "device.cuh"

template <class T> DEVICE void box(const Args &a, long long i) {
    const int rank = (int)a.n[1];
    const long long from = a.n[3] + offset_of(a, rank, 5, 13, i), to = a.n[4] + offset_of(a, rank, 5, 21, i);
    ((T *)a.p[0])[to] = ((const T *)a.p[1])[from];
}

// p: to, from. n: elements, rank, bytes of an element, first of from, first of to, extents[8], strides of from[8], of to[8].
KERNEL(copy_box, 256) {
    const long long i = THREAD;
    if (i >= a.n[0]) return;
    switch (a.n[2]) {
    case 1: box<uint8_t>(a, i); break;
    case 2: box<uint16_t>(a, i); break;
    case 4: box<uint32_t>(a, i); break;
    default: box<uint64_t>(a, i);
    }
}

// p: to. n: elements, element type. f: value.
KERNEL(fill, 256) {
    const long long i = THREAD;
    if (i < a.n[0]) put((void *)a.p[0], (int)a.n[1], i, a.f[0]);
}

// p: to. n: elements, element type, extent of the axis, elements within it.
KERNEL(iota, 256) {
    const long long i = THREAD;
    if (i < a.n[0]) put((void *)a.p[0], (int)a.n[1], i, i / a.n[3] % a.n[2]);
}

// An index, held to 0..count.
DEVICE long long index_at(const void *p, int dtype, long long i, long long count) {
    return held(get<long long>(p, dtype, i), 0, count - 1);
}

template <class T> DEVICE void taken(const Args &a, long long i) {
    const long long inner = a.n[2], axis = a.n[1], positions = a.n[3], j = i % inner, row = i / inner;
    const long long which = a.n[4] ? i : row % positions;
    const long long at = index_at((const void *)a.p[2], (int)a.n[5], which, axis);
    ((T *)a.p[0])[i] = ((const T *)a.p[1])[(row / positions * axis + at) * inner + j];
}

// p: to, x, indices. n: elements, axis, inner, positions, one index an element?, type of the indices, bytes of an element.
KERNEL(take, 256) {
    const long long i = THREAD;
    if (i >= a.n[0]) return;
    switch (a.n[6]) {
    case 1: taken<uint8_t>(a, i); break;
    case 2: taken<uint16_t>(a, i); break;
    case 4: taken<uint32_t>(a, i); break;
    default: taken<uint64_t>(a, i);
    }
}

template <class T> DEVICE void added(const Args &a, long long i) {
    const long long inner = a.n[2], axis = a.n[1], positions = a.n[3];
    const long long j = i % inner, at = i / inner % axis, o = i / inner / axis;
    T sum = ((const T *)a.p[1])[i];
    for (long long p = 0; p < positions; p++) { // in index order, so no sum depends on timing
        const long long u = (o * positions + p) * inner + j;
        if (index_at((const void *)a.p[2], (int)a.n[5], a.n[4] ? u : p, axis) == at) sum += ((const T *)a.p[3])[u];
    }
    ((T *)a.p[0])[i] = sum;
}

// p: to, x, indices, added. n: as `take`, then the element type. One thread an element of the result.
KERNEL(add_at, 256) {
    const long long i = THREAD;
    if (i >= a.n[0]) return;
    switch (a.n[6]) {
    case F32: added<float>(a, i); break;
    case F64: added<double>(a, i); break;
    case I32: added<uint32_t>(a, i); break;
    default: added<unsigned long long>(a, i);
    }
}

// A box whose corner is data. p: to, from, corner. n: as `copy_box`; then [29] type of the corner, [30] whether the
// corner is one of the target, extents of the whole from [32]. The corner is held so that the box fits.
KERNEL(copy_dynamic, 256) {
    const long long i = THREAD;
    if (i >= a.n[0]) return;
    const int rank = (int)a.n[1];
    long long rest = i, from = 0, to = 0;
    for (int k = rank - 1; k >= 0; k--) {
        const long long d = a.n[5 + k], j = rest % d;
        const long long corner = index_at((const void *)a.p[2], (int)a.n[29], k, a.n[32 + k] - d + 1);
        rest /= d;
        from += (j + (a.n[30] ? 0 : corner)) * a.n[13 + k];
        to += (j + (a.n[30] ? corner : 0)) * a.n[21 + k];
    }
    switch (a.n[2]) {
    case 1: ((uint8_t *)a.p[0])[to] = ((const uint8_t *)a.p[1])[from]; break;
    case 2: ((uint16_t *)a.p[0])[to] = ((const uint16_t *)a.p[1])[from]; break;
    case 4: ((uint32_t *)a.p[0])[to] = ((const uint32_t *)a.p[1])[from]; break;
    default: ((uint64_t *)a.p[0])[to] = ((const uint64_t *)a.p[1])[from];
    }
}
