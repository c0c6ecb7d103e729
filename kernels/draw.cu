// Addressed draws: the laws of base/draw.rs and base/brownian.rs, operation by operation. Normals, uniforms, gammas from
// shape 1 on and Brownian paths are + - * / fma and sqrt alone, so a device draws the bits the CPU draws; the other laws
// ask the library for exp and log, whose last bit may differ from the CPU's.
#include "philox.cuh"
#include "special.cuh"

enum { TRIES = 256, STRETCHES = 64 }; // base/draw.rs

// Four threads draw the same block and keep a lane each: the draw is bound by memory.
// p, n: as `node_of`.
DEVICE void draw(const Args &a, bool normal) {
    const long long i = THREAD;
    if (i >= a.n[0]) return;
    const uint64_t e = element_of(a, i);
    const int lane = (int)(e % 4);
    const Words r = words_of(node_of(a), e / 4, 0);
    const uint32_t radius = lane < 2 ? r.w[0] : r.w[2], angle = lane < 2 ? r.w[1] : r.w[3];
    if (a.n[1] == F64)
        ((double *)a.p[0])[i] = normal ? normal_f64(radius, angle, lane) : unit_f64(lane & 1 ? angle : radius);
    else
        ((float *)a.p[0])[i] = normal ? normal_f32(radius, angle, lane) : unit_f32(lane & 1 ? angle : radius);
}

KERNEL(draw_normal, 256) { draw(a, true); }
KERNEL(draw_uniform, 256) { draw(a, false); }

// Marsaglia and Tsang; below shape 1 by one draw of shape + 1.
DEVICE double gamma_law(const Node &s, uint64_t e, double shape) {
    if (shape != shape || shape <= 0 || shape == (double)INFINITY) return shape < 0 ? (double)NAN : fabs(shape);
    const bool boost = shape < 1;
    const double d = (boost ? shape + 1 : shape) - 1.0 / 3.0, c = 1 / sqrt(9 * d);
    for (uint32_t block = 0; block < TRIES; block++) {
        const Words w = words_of(s, e, block);
        double sine, cosine;
        turn_f64(w.w[1], sine, cosine);
        const double x = sqrt(-2.0 * log_f64(unit_f64(w.w[0]))) * cosine;
        const double root = 1 + c * x, square = x * x, u = unit_f64(w.w[2]), v = root * root * root;
        const bool sure = root > 0 && u < 1 - 0.0331 * square * square;
        // far out the exact test rejects one draw in 1e12, and rounding would decide it
        if (sure || (v > 0 && (d > 1e10 || log_f64(u) < 0.5 * x * x + d - d * v + d * log_f64(v)))) {
            const double g = d * v;
            return boost ? g * exp(log_f64(unit_f64(w.w[3])) / shape) : g;
        }
    }
    return d;
}

// Inversion below 10, Hoermann's transformed rejection above.
DEVICE double poisson_law(const Node &s, uint64_t e, double lambda) {
    if (lambda != lambda || lambda <= 0 || lambda == (double)INFINITY) return lambda < 0 ? (double)NAN : fabs(lambda);
    if (lambda < 10) {
        const Words w = words_of(s, e, 0);
        const double u = unit_wide(w.w[0], w.w[1]);
        double k = 0, p = exp(-lambda), below = p;
        while (u > below && k < 200) {
            k += 1;
            p *= lambda / k;
            below += p;
        }
        return k;
    }
    const double b = 0.931 + 2.53 * sqrt(lambda), a = -0.059 + 0.02483 * b, inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
    for (uint32_t block = 0; block < TRIES; block++) {
        const Words w = words_of(s, e, block);
        const double u = unit_wide(w.w[0], w.w[1]) - 0.5, v = unit_wide(w.w[2], w.w[3]), us = 0.5 - fabs(u);
        const double k = floor((2 * a / us + b) * u + lambda + 0.43);
        if (us >= 0.07 && v <= 0.9277 - 3.6224 / (b - 2)) return k;
        if (k < 0 || (us < 0.013 && v > us)) continue;
        if (log(v * inverse_alpha / (a / (us * us) + b)) <= special::log_poisson(k, lambda)) return k;
    }
    return floor(lambda);
}

// p: to, key, shapes or means. n: as `node_of`. One draw an element of the parameter.
DEVICE void draw_law(const Args &a, bool gamma) {
    const long long i = THREAD;
    if (i >= a.n[0]) return;
    const double of = a.n[1] == F64 ? ((const double *)a.p[2])[i] : (double)((const float *)a.p[2])[i];
    const double r = gamma ? gamma_law(node_of(a), element_of(a, i), of) : poisson_law(node_of(a), element_of(a, i), of);
    if (a.n[1] == F64) ((double *)a.p[0])[i] = r;
    else ((float *)a.p[0])[i] = (float)r;
}

KERNEL(draw_gamma, 256) { draw_law(a, true); }
KERNEL(draw_poisson, 256) { draw_law(a, false); }

template <class T> DEVICE double weight_of(T x, double top) { return (double)x == top ? 1 : exp((double)x - top); }

// Which of k logits: the inverse distribution function, summed per stretch first. A thread has a stretch each, one walks.
template <class T> DEVICE void choose(const Args &a, double *room) {
    const long long row = blockIdx.x, k = a.n[5], stretch = (k + STRETCHES - 1) / STRETCHES;
    const int t = threadIdx.x;
    const long long from = held(t * stretch, 0, k), to = held(from + stretch, 0, k);
    const T *x = (const T *)a.p[2] + row * k;
    double top = -(double)INFINITY;
    for (long long i = from; i < to; i++) top = (double)x[i] > top || x[i] != x[i] ? (double)x[i] : top;
    room[t] = top;
    __syncthreads();
    for (int i = 0; i < STRETCHES; i++) top = room[i] > top || room[i] != room[i] ? room[i] : top;
    __syncthreads();
    double sum = 0;
    for (long long i = from; i < to; i++) sum += weight_of(x[i], top);
    room[t] = sum;
    __syncthreads();
    if (t != 0) return;
    int32_t found = 0; // what a row without a weight, or with one that is no number, draws
    if (top == top && top != -(double)INFINITY) {
        double total = 0;
        for (int i = 0; i < STRETCHES; i++) total += room[i];
        const Words w = words_of(node_of(a), element_of(a, row), 0);
        double left = unit_wide(w.w[0], w.w[1]) * total;
        for (int i = 0; i < STRETCHES; i++) {
            if (room[i] == 0) continue;
            bool last = true; // rounding may leave a crumb past the end: the last weight takes it
            for (int j = i + 1; j < STRETCHES; j++) last = last && room[j] == 0;
            if (left < room[i] || last) {
                const long long end = held((i + 1) * stretch, 0, k);
                for (long long j = i * stretch; j < end; j++) {
                    const double weight = weight_of(x[j], top);
                    if (weight > 0) {
                        found = (int32_t)j;
                        if (left < weight) break;
                        left -= weight;
                    }
                }
                break;
            }
            left -= room[i];
        }
    }
    ((int32_t *)a.p[0])[row] = found;
}

// p: to, key, logits. n: rows, type of the logits, purpose, ordinal, rows of a sample, logits of a row.
KERNEL(draw_categorical, 64) {
    SHARED(double, room);
    if (a.n[1] == F64) choose<double>(a, room);
    else choose<float>(a, room);
}

DEVICE double node_normal(const Node &s, uint64_t e, uint32_t node) {
    const Node at = {s.seed_low, s.seed_high, s.purpose, node, s.ordinal};
    const Words w = words_of(at, e / 4, 0);
    const int lane = (int)(e % 4);
    return (double)normal_f32(lane < 2 ? w.w[0] : w.w[2], lane < 2 ? w.w[1] : w.w[3], lane);
}

// W(s) of a path on [lo, hi]: midpoint bridges down a tree, whose nodes stand where other draws have the step.
DEVICE double path_at(const Node &stream, uint64_t e, double s, double lo, double hi, int depth) {
    const double length = hi - lo;
    if (s != s || !(fabs(length) < (double)INFINITY)) return (double)NAN;
    if (length <= 0 || s <= lo) return 0;
    double t = (s - lo) / length, left = 0;
    const double scale = sqrt(length);
    double right = scale * node_normal(stream, e, 0);
    if (t >= 1) return right;
    double sd = 0.5 * scale; // the bridge over an interval of length h has variance h/4 in the middle
    uint32_t node = 1;
    for (int level = 0; level < depth && t != 0; level++) {
        const double middle = 0.5 * (left + right) + sd * node_normal(stream, e, node);
        t *= 2;
        const bool go_right = t >= 1;
        if (go_right) {
            left = middle;
            t -= 1;
        } else right = middle;
        node = node << 1 | (uint32_t)go_right;
        sd *= 0.70710678118654752440;
    }
    return left + t * (right - left);
}

// p: to, key, s0, s1. n: as `node_of`, then depth, types of s0 and s1. f: lo, hi. The times are those of the row.
KERNEL(draw_brownian, 256) {
    const long long i = THREAD;
    if (i >= a.n[0]) return;
    const long long row = i / a.n[4];
    const Node stream = node_of(a);
    const uint64_t e = element_of(a, i);
    const int depth = (int)a.n[5];
    const double s0 = get<double>((const void *)a.p[2], (int)a.n[6], row);
    const double s1 = get<double>((const void *)a.p[3], (int)a.n[7], row);
    const double w0 = path_at(stream, e, s0, a.f[0], a.f[1], depth), w1 = path_at(stream, e, s1, a.f[0], a.f[1], depth);
    if (a.n[1] == F64) ((double *)a.p[0])[i] = w1 - w0;
    else ((float *)a.p[0])[i] = (float)(w1 - w0);
}
