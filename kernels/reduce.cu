// Folds: over axes, along an axis, softmax and normalisation. One block a row; what a thread folds and the tree after it
// depend on the length of the row only, so no result depends on the batch.
#include "device.cuh"

enum { SUM = 80, MEAN, REDUCE_MAX, REDUCE_MIN, PROD, ARGMAX, ARGMIN, LOGSUMEXP, LOG_SOFTMAX = 96, RMS_NORM = 112 };

#ifdef PLANT_RACE // a test plants this: the tree reads what other threads have not written
#define MEET
#else
#define MEET __syncthreads()
#endif

template <class T> DEVICE T joined(int op, T x, T y) {
    if (op == REDUCE_MAX) return x > y || x != x ? x : y;
    if (op == REDUCE_MIN) return x < y || x != x ? x : y;
    return op == PROD ? x * y : x + y;
}

// Of all threads of the block, for all of them; a thread brings its part, `room` has one cell a thread.
template <class T> DEVICE T folded(int op, T part, T *room) {
    const int t = threadIdx.x;
    MEET; // the room may still be read from an earlier fold
    room[t] = part;
    MEET;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (t < half) room[t] = joined(op, room[t], room[t + half]);
        MEET;
    }
    return room[0];
}

template <class T> DEVICE T neutral(int op, T largest, T smallest) {
    return op == REDUCE_MAX ? smallest : op == REDUCE_MIN ? largest : op == PROD ? (T)1 : (T)0;
}

// p: to, from. n: rows, op, element type, elements of a row, rank kept, extents[8], strides[8], at 22 rank folded,
// extents[8], strides[8].
template <class T, class W> DEVICE void reduce(const Args &a, W *room, W largest, W smallest) {
    const T *x = (const T *)a.p[1] + offset_of(a, (int)a.n[4], 5, 13, blockIdx.x);
    const long long n = a.n[3];
    const int rank = (int)a.n[22], op = (int)a.n[1];
    const int fold = op == LOGSUMEXP ? REDUCE_MAX : op == MEAN ? SUM : op;
    W part = neutral(fold, largest, smallest);
    for (long long i = threadIdx.x; i < n; i += blockDim.x) part = joined(fold, part, (W)x[offset_of(a, rank, 23, 31, i)]);
    W r = folded(fold, part, room);
    if (op == MEAN) r = r / (W)n;
    if (op == LOGSUMEXP && fabs((double)r) < (double)INFINITY) {
        W sum = 0; // an infinite largest term stands for the sum
        for (long long i = threadIdx.x; i < n; i += blockDim.x) sum += (W)exp((double)(x[offset_of(a, rank, 23, 31, i)] - r));
        r += (W)log((double)folded(SUM, sum, room));
    }
    if (threadIdx.x == 0) ((T *)a.p[0])[blockIdx.x] = (T)r;
}

KERNEL(reduce_rows, 128) {
    SHARED(double, room);
    const long long most = 0x7fffffffffffffffll;
    switch (a.n[2]) {
    case F32: reduce<float, double>(a, room, (double)INFINITY, -(double)INFINITY); break;
    case F64: reduce<double, double>(a, room, (double)INFINITY, -(double)INFINITY); break;
    case I32: reduce<int32_t, long long>(a, (long long *)room, most, -most - 1); break;
    default: reduce<int64_t, long long>(a, (long long *)room, most, -most - 1);
    }
}

// One thread a column. p: to, from. n: columns, op, element type, elements of the axis, elements within it.
template <class T> DEVICE void first_best(const Args &a, long long i) {
    const long long n = a.n[3], inner = a.n[4];
    const T *x = (const T *)a.p[1] + i / inner * n * inner + i % inner;
    const bool largest = a.n[1] == ARGMAX;
    int best = 0;
    for (long long r = 1; r < n; r++) {
        const T old = x[best * inner], now = x[r * inner];
        if (old != old) break; // the first that is no number beats all
        if ((largest ? now > old : now < old) || now != now) best = (int)r;
    }
    ((int32_t *)a.p[0])[i] = best;
}

KERNEL(arg_best, 128) {
    const long long i = THREAD;
    if (i >= a.n[0]) return;
    switch (a.n[2]) {
    case F32: first_best<float>(a, i); break;
    case F64: first_best<double>(a, i); break;
    case I32: first_best<int32_t>(a, i); break;
    default: first_best<int64_t>(a, i);
    }
}

// n: as `arg_best`; op bit 0 from the end, bit 1 without the element itself.
template <class T, class W> DEVICE void running(const Args &a, long long i) {
    const long long n = a.n[3], inner = a.n[4], first = i / inner * n * inner + i % inner;
    const T *x = (const T *)a.p[1] + first;
    T *out = (T *)a.p[0] + first;
    W total = 0;
    for (long long k = 0; k < n; k++) {
        const long long at = (a.n[1] & 1 ? n - 1 - k : k) * inner;
        const W before = total;
        total += (W)x[at];
        out[at] = (T)(a.n[1] & 2 ? before : total);
    }
}

KERNEL(running_sum, 128) {
    const long long i = THREAD;
    if (i >= a.n[0]) return;
    switch (a.n[2]) {
    case F32: running<float, double>(a, i); break;
    case F64: running<double, double>(a, i); break;
    case I32: running<uint32_t, uint32_t>(a, i); break;
    default: running<uint64_t, uint64_t>(a, i);
    }
}

// p: to, from. n: rows, op, element type, elements of the axis, elements within it. A row of -inf gives zeros.
template <class T> DEVICE void softmax(const Args &a, double *room) {
    const long long n = a.n[3], inner = a.n[4], row = blockIdx.x;
    const long long first = row / inner * n * inner + row % inner;
    const T *x = (const T *)a.p[1] + first;
    T *out = (T *)a.p[0] + first;
    double part = -(double)INFINITY;
    for (long long i = threadIdx.x; i < n; i += blockDim.x) part = joined(REDUCE_MAX, part, (double)x[i * inner]);
    const double top = folded(REDUCE_MAX, part, room);
    const double from = top == -(double)INFINITY ? 0 : top;
    part = 0;
    for (long long i = threadIdx.x; i < n; i += blockDim.x) part += exp((double)x[i * inner] - from);
    const double sum = folded(SUM, part, room);
    for (long long i = threadIdx.x; i < n; i += blockDim.x) {
        const double v = (double)x[i * inner] - from;
        out[i * inner] = (T)(a.n[1] == LOG_SOFTMAX ? v - log(sum) : sum == 0 ? 0 : exp(v) / sum);
    }
}

KERNEL(softmax_rows, 128) {
    SHARED(double, room);
    if (a.n[2] == F64) softmax<double>(a, room);
    else softmax<float>(a, room);
}

// p: to, from, scale or 0, bias or 0. n: rows, op, element type, elements of a row, elements of a channel, groups,
// types of scale and bias. f: eps.
template <class T> DEVICE void norm(const Args &a, double *room) {
    const long long n = a.n[3], run = a.n[4], row = blockIdx.x;
    const T *x = (const T *)a.p[1] + row * n;
    T *out = (T *)a.p[0] + row * n;
    double mean = 0, part = 0;
    if (a.n[1] != RMS_NORM) {
        for (long long i = threadIdx.x; i < n; i += blockDim.x) part += (double)x[i];
        mean = folded(SUM, part, room) / (double)n;
        part = 0;
    }
    for (long long i = threadIdx.x; i < n; i += blockDim.x) part += ((double)x[i] - mean) * ((double)x[i] - mean);
    const double factor = 1 / sqrt(folded(SUM, part, room) / (double)n + a.f[0]);
    for (long long i = threadIdx.x; i < n; i += blockDim.x) {
        const long long c = row % a.n[5] * (n / run) + i / run;
        double v = ((double)x[i] - mean) * factor;
        if (a.p[2]) v *= get<double>((const void *)a.p[2], (int)a.n[6], c);
        if (a.p[3]) v += get<double>((const void *)a.p[3], (int)a.n[7], c);
        out[i] = (T)v;
    }
}

KERNEL(norm_rows, 128) {
    SHARED(double, room);
    if (a.n[2] == F64) norm<double>(a, room);
    else norm<float>(a, room);
}
