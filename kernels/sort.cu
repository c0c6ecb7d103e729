// Stable sorting by counting: the place of an element is how many come before it. One thread an element; for rows of
// thousands a merge is due.
#include "device.cuh"

enum { VALUES, PLACES };

// Whether element (x, i) comes before (y, j). What is no number comes last, equals by position.
template <class T> DEVICE bool before(T x, long long i, T y, long long j, bool descending) {
    const bool nx = x != x, ny = y != y;
    if (nx || ny) return nx == ny ? i < j : ny;
    if (x == y) return i < j;
    return descending ? x > y : x < y;
}

// p: to, from. n: elements, what, element type, elements of the axis, elements within it, descending, how many are kept.
template <class T> DEVICE void place(const Args &a, long long i) {
    const long long n = a.n[3], inner = a.n[4], r = i / inner % n, o = i / inner / n, j = i % inner;
    const T *x = (const T *)a.p[1] + o * n * inner + j;
    const T own = x[r * inner];
    long long rank = 0;
    for (long long k = 0; k < n; k++) rank += before<T>(x[k * inner], k, own, r, a.n[5] != 0);
    if (rank >= a.n[6]) return;
    const long long to = (o * a.n[6] + rank) * inner + j;
    if (a.n[1] == PLACES) ((int32_t *)a.p[0])[to] = (int32_t)r;
    else ((T *)a.p[0])[to] = own;
}

KERNEL(sort_axis, 128) {
    const long long i = THREAD;
    if (i >= a.n[0]) return;
    switch (a.n[2]) {
    case F32: place<float>(a, i); break;
    case F64: place<double>(a, i); break;
    case I32: place<int32_t>(a, i); break;
    default: place<int64_t>(a, i);
    }
}
