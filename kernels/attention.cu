// Attention in f32 or f64, one block a query: scores, softmax, the mean of the values; right for any mask and any head
// width. And in f32 by tiles, where a head fits.
#include "math.cuh"

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

// The same for f32 without a row of scores: tiles of 32 queries and 32 keys, the softmax carried along. What is summed in
// which order depends on the place of a query among its keys alone.
// p, n, f: as `attention_rows`. 128 threads, four a query; they keep what they add up in shared memory, so any head width
// that fits is right.
enum { QUERIES = 32, KEYS = 32, SCORES = KEYS + 1 };

KERNEL(attention_tiles, 128) {
    SHARED(float, room);
    const long long s = a.n[1], n = a.n[2], parts = (s + QUERIES - 1) / QUERIES, batch = blockIdx.x / parts;
    const long long first = blockIdx.x % parts * QUERIES;
    const int d = (int)a.n[3], e = (int)a.n[4], t = threadIdx.x, mine = t / 4, quarter = t % 4;
    float *sq = room, *sk = sq + QUERIES * (d + 1), *sv = sk + KEYS * (d + 1), *so = sv + KEYS * e, *ss = so + QUERIES * e;
    const float *q = (const float *)a.p[1] + (batch * s + first) * d;
    const float *k = (const float *)a.p[2] + batch * n * d, *v = (const float *)a.p[3] + batch * n * e;
    const int queries = (int)(s - first < QUERIES ? s - first : QUERIES);
    for (int i = t; i < QUERIES * d; i += 128) sq[i / d * (d + 1) + i % d] = i / d < queries ? q[i] : 0.0f;
    for (int i = t; i < QUERIES * e; i += 128) so[i] = 0;
    const long long row = first + mine, last = a.n[5] ? row + n - s : n - 1; // aligned at the end
    const long long reach = a.n[5] ? first + queries - 1 + n - s + 1 : n;   // no query of this tile looks further
    const long long end = reach < 0 ? 0 : reach < n ? reach : n;
    const float none = -(float)INFINITY, scale = (float)a.f[0];
    const long long mask = a.n[6] && row < s ? offset_of(a, (int)a.n[8], 9, 17, batch) + row * a.n[25] : 0;
    float top = none, total = 0;
    for (long long k0 = 0; k0 < end; k0 += KEYS) {
        const int keys = (int)(n - k0 < KEYS ? n - k0 : KEYS);
        MEET; // the tile before is used up
        for (int i = t; i < KEYS * d; i += 128) sk[i / d * (d + 1) + i % d] = i / d < keys ? k[k0 * d + i] : 0.0f;
        for (int i = t; i < KEYS * e; i += 128) sv[i] = i / e < keys ? v[k0 * e + i] : 0.0f;
        MEET;
        for (int j = quarter; j < KEYS; j += 4) {
            const long long c = k0 + j;
            float score = none;
            if (row < s && j < keys && c <= last) {
                float sum = 0;
                for (int i = 0; i < d; i++) sum = fmaf(sq[mine * (d + 1) + i], sk[j * (d + 1) + i], sum);
                score = sum * scale;
                if (a.n[6] == BOOL) {
                    if (!((const uint8_t *)a.p[4])[mask + c * a.n[26]]) score = none;
                } else if (a.n[6]) score += get<float>((const void *)a.p[4], (int)a.n[6], mask + c * a.n[26]);
            }
            ss[mine * SCORES + j] = score;
        }
        MEET;
        float now = top;
        for (int j = 0; j < KEYS; j++) {
            const float x = ss[mine * SCORES + j];
            now = x > now || x != x ? x : now;
        }
        MEET; // all four have seen the scores
        const float from = now == none ? 0.0f : now, factor = top == none ? 0.0f : own::exp(top - from);
        for (int j = quarter; j < KEYS; j += 4) {
            const float x = ss[mine * SCORES + j];
            ss[mine * SCORES + j] = x == none ? 0.0f : own::exp(x - from);
        }
        MEET;
        total *= factor;
        for (int j = 0; j < KEYS; j++) total += ss[mine * SCORES + j];
        for (int i = quarter; i < e; i += 4) {
            float sum = so[mine * e + i] * factor;
            for (int j = 0; j < KEYS; j++) sum = fmaf(ss[mine * SCORES + j], sv[j * e + i], sum);
            so[mine * e + i] = sum;
        }
        top = now;
    }
    if (row >= s) return;
    float *out = (float *)a.p[0] + (batch * s + row) * e;
    for (int i = quarter; i < e; i += 4) out[i] = total == 0 ? 0.0f : so[mine * e + i] / total;
}
