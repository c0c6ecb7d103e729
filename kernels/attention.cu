// Attention in f32 or f64, one block a query: scores, softmax, the mean of the values. The reference for the fused kernels
// to come (specs/kernels.md 4.2), right for any mask and any head width.
#include "device.cuh"

#define MEET __syncthreads()

// p: out, q, k, v, mask or 0. n: all queries, s, t, d, e, causal, type of the mask or 0, element type, rank of the leading
// axes, extents[8], strides of the mask[8], its strides of a query and of a key. f: scale.
template <class T> DEVICE void attend(const Args &a, double *room) {
    const long long s = a.n[1], n = a.n[2], d = a.n[3], e = a.n[4], batch = blockIdx.x / s, row = blockIdx.x % s;
    const int t = threadIdx.x, threads = blockDim.x;
    const T *q = (const T *)a.p[1] + (batch * s + row) * d;
    const T *k = (const T *)a.p[2] + batch * n * d;
    const T *v = (const T *)a.p[3] + batch * n * e;
    double *score = room + threads;
    const long long last = a.n[5] ? row + n - s : n - 1; // aligned at the end
    double part = -(double)INFINITY;
    for (long long c = t; c < n; c += threads) {
        double sum = 0;
        for (long long i = 0; i < d; i++) sum = fma((double)q[i], (double)k[c * d + i], sum);
        sum *= a.f[0];
        if (a.n[6]) {
            const long long at = offset_of(a, (int)a.n[8], 9, 17, batch) + row * a.n[25] + c * a.n[26];
            if (a.n[6] == BOOL) {
                if (!((const uint8_t *)a.p[4])[at]) sum = -(double)INFINITY;
            } else sum += get<double>((const void *)a.p[4], (int)a.n[6], at);
        }
        if (c > last) sum = -(double)INFINITY;
        score[c] = sum;
        part = sum > part || sum != sum ? sum : part;
    }
    room[t] = part;
    MEET;
    double top = room[0];
    for (int i = 1; i < threads; i++) top = room[i] > top || room[i] != room[i] ? room[i] : top;
    MEET;
    if (top == -(double)INFINITY) top = 0; // attends to nothing: zeros
    part = 0;
    for (long long c = t; c < n; c += threads) part += score[c] = exp(score[c] - top);
    room[t] = part;
    MEET;
    double total = 0;
    for (int i = 0; i < threads; i++) total += room[i];
    for (long long i = t; i < e; i += threads) {
        double sum = 0;
        for (long long c = 0; c < n; c++) sum = fma(score[c], (double)v[c * e + i], sum);
        ((T *)a.p[0])[(batch * s + row) * e + i] = (T)(total == 0 ? 0 : sum / total);
    }
}

KERNEL(attention_rows, 128) {
    SHARED(double, room);
    if (a.n[7] == F64) attend<double>(a, room);
    else attend<float>(a, room);
}
