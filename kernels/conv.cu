// Convolution in one and two dimensions and its two gradients as products by tiles whose operands are gathered from the
// images while a tile is fetched: no unfolded image is stored. Per group, c = channels, t = taps, o = outputs:
//   conv              out[o, p]  = w[o, ct] x[ct, p]      p over the positions of all images
//   conv_input_grad   dx[c, y]   = w[c, ot] g[ot, y]
//   conv_weight_grad  dw[o, ct]  = g[o, p] x[p, ct]       one chain over all images: for deep batches a split is due
#include "tile.cuh"

// n: groups, images, channels and outputs of a group, then [height, width] of input, output, kernel, stride, dilation and
// the zeros before; type of the weights, type of the bias. All lengths of one image fit 32 bits.
struct Geometry {
    uint32_t channels, outputs, in_w, in_plane, out_w, out_plane, kernel_w, taps;
    int in_h, out_h, stride[2], dilation[2], before[2];
    long long groups, images, group;
};

DEVICE Geometry geometry_of(const Args &a, long long group) {
    Geometry g;
    g.groups = a.n[0];
    g.images = a.n[1];
    g.group = group;
    g.channels = (uint32_t)a.n[2];
    g.outputs = (uint32_t)a.n[3];
    g.in_h = (int)a.n[4];
    g.in_w = (uint32_t)a.n[5];
    g.in_plane = (uint32_t)(a.n[4] * a.n[5]);
    g.out_h = (int)a.n[6];
    g.out_w = (uint32_t)a.n[7];
    g.out_plane = (uint32_t)(a.n[6] * a.n[7]);
    g.kernel_w = (uint32_t)a.n[9];
    g.taps = (uint32_t)(a.n[8] * a.n[9]);
    for (int i = 0; i < 2; i++) {
        g.stride[i] = (int)a.n[10 + i];
        g.dilation[i] = (int)a.n[12 + i];
        g.before[i] = (int)a.n[14 + i];
    }
    return g;
}

// Where a tensor of the input's or the output's shape has the first channel of an image and this group.
DEVICE long long first_of(const Geometry &g, long long image, uint32_t channels, uint32_t plane) {
    return (image * g.groups + g.group) * channels * plane;
}

// A place in an image: which element its channel 0 starts at, row, column.
struct Spot { long long first; int y, x; };

DEVICE Spot output_spot(const Geometry &g, long long i) {
    const uint32_t p = (uint32_t)(i % g.out_plane);
    return {i / g.out_plane, (int)(p / g.out_w), (int)(p % g.out_w)};
}
DEVICE int down(const Geometry &g, uint32_t tap) { return (int)(tap / g.kernel_w) * g.dilation[0]; }
DEVICE int along(const Geometry &g, uint32_t tap) { return (int)(tap % g.kernel_w) * g.dilation[1]; }

// x[c, window at row y, column x].
template <class T> DEVICE T seen(const Geometry &g, const T *image, uint32_t c, int y, int x) {
    const bool inside = y >= 0 && y < g.in_h && x >= 0 && x < (int)g.in_w;
    return inside ? image[(long long)c * g.in_plane + (uint32_t)y * g.in_w + (uint32_t)x] : (T)0;
}

template <class T> struct Windows { // x[ct, p]
    const Geometry &g;
    const T *x;
    DEVICE Spot place(long long p) const {
        Spot s = output_spot(g, p);
        s.first = first_of(g, s.first, g.channels, g.in_plane);
        s.y = s.y * g.stride[0] - g.before[0];
        s.x = s.x * g.stride[1] - g.before[1];
        return s;
    }
    DEVICE T of(const Spot &s, long long k) const {
        const uint32_t c = (uint32_t)k / g.taps, tap = (uint32_t)k % g.taps;
        return seen(g, x + s.first, c, s.y + down(g, tap), s.x + along(g, tap));
    }
};

template <class T> struct Weights { // w[o, ct]
    const Args &a;
    const Geometry &g;
    DEVICE long long place(long long o) const { return (g.group * g.outputs + o) * g.channels * g.taps; }
    DEVICE T of(long long place, long long k) const { return get<T>((const void *)a.p[2], (int)a.n[16], place + k); }
};

template <class T> struct Image { // out[o, p], or dx[c, y] with the other lengths
    T *to;
    const Args &a;
    const Geometry &g;
    uint32_t channels, plane;
    DEVICE void of(long long row, long long column, T v) const {
        if (a.p[3]) v += get<T>((const void *)a.p[3], (int)a.n[17], g.group * channels + row);
        to[first_of(g, column / plane, channels, plane) + row * plane + column % plane] = v;
    }
};

template <class T> struct Turned { // w[c, ot]
    const Args &a;
    const Geometry &g;
    DEVICE long long place(long long c) const { return (g.group * g.outputs * g.channels + c) * g.taps; }
    DEVICE T of(long long place, long long k) const {
        const uint32_t o = (uint32_t)k / g.taps, tap = (uint32_t)k % g.taps;
        return get<T>((const void *)a.p[2], (int)a.n[16], place + (long long)o * g.channels * g.taps + tap);
    }
};

template <class T> struct Spread { // g[ot, y]: the position whose window has y at tap t, 0 where the stride skips it
    const Geometry &g;
    const T *x;
    DEVICE Spot place(long long i) const {
        const uint32_t p = (uint32_t)(i % g.in_plane);
        return {first_of(g, i / g.in_plane, g.outputs, g.out_plane), (int)(p / g.in_w) + g.before[0],
                (int)(p % g.in_w) + g.before[1]};
    }
    DEVICE T of(const Spot &s, long long k) const {
        const uint32_t o = (uint32_t)k / g.taps, tap = (uint32_t)k % g.taps;
        const int y = s.y - down(g, tap), left = s.x - along(g, tap);
        if (y < 0 || left < 0 || y % g.stride[0] != 0 || left % g.stride[1] != 0) return (T)0;
        const int row = y / g.stride[0], column = left / g.stride[1];
        if (row >= g.out_h || column >= (int)g.out_w) return (T)0;
        return x[s.first + (long long)o * g.out_plane + (uint32_t)row * g.out_w + (uint32_t)column];
    }
};

template <class T> struct Slopes { // g[o, p]
    const Geometry &g;
    const T *x;
    DEVICE long long place(long long o) const { return o * g.out_plane; }
    DEVICE T of(long long place, long long p) const {
        return x[first_of(g, p / g.out_plane, g.outputs, g.out_plane) + place + p % g.out_plane];
    }
};

template <class T> struct Unfolded { // x[p, ct]
    const Geometry &g;
    const T *x;
    DEVICE Spot place(long long i) const { // channel, offset of the tap in its window
        const uint32_t tap = (uint32_t)i % g.taps;
        return {(uint32_t)i / g.taps, down(g, tap) - g.before[0], along(g, tap) - g.before[1]};
    }
    DEVICE T of(const Spot &s, long long p) const {
        const Spot at = output_spot(g, p);
        const T *image = x + first_of(g, at.first, g.channels, g.in_plane);
        return seen(g, image, (uint32_t)s.first, at.y * g.stride[0] + s.y, at.x * g.stride[1] + s.x);
    }
};

template <class T> struct Matrix {
    T *to;
    const Geometry &g;
    DEVICE void of(long long o, long long ct, T v) const {
        to[(g.group * g.outputs + o) * g.channels * g.taps + ct] = v;
    }
};

DEVICE long long tiles_of(long long m, long long n) { return (m + TILE - 1) / TILE * ((n + TILE - 1) / TILE); }

// p: out, x, w, bias or 0.
template <class T> DEVICE void conv(const Args &a, T *room) {
    const long long m = a.n[3], n = a.n[1] * a.n[6] * a.n[7], tiles = tiles_of(m, n);
    const Geometry g = geometry_of(a, blockIdx.x / tiles);
    const Image<T> put = {(T *)a.p[0], a, g, g.outputs, g.out_plane};
    tiled<T>(room, m, n, (long long)g.channels * g.taps, blockIdx.x % tiles, Weights<T>{a, g},
             Windows<T>{g, (const T *)a.p[1]}, put);
}

// p: dx, g, w, 0.
template <class T> DEVICE void conv_input(const Args &a, T *room) {
    const long long m = a.n[2], n = a.n[1] * a.n[4] * a.n[5], tiles = tiles_of(m, n);
    const Geometry g = geometry_of(a, blockIdx.x / tiles);
    const Image<T> put = {(T *)a.p[0], a, g, g.channels, g.in_plane};
    tiled<T>(room, m, n, (long long)g.outputs * g.taps, blockIdx.x % tiles, Turned<T>{a, g},
             Spread<T>{g, (const T *)a.p[1]}, put);
}

// p: dw, x, g.
template <class T> DEVICE void conv_weight(const Args &a, T *room) {
    const long long m = a.n[3], n = a.n[2] * a.n[8] * a.n[9], tiles = tiles_of(m, n);
    const Geometry g = geometry_of(a, blockIdx.x / tiles);
    tiled<T>(room, m, n, g.images * g.out_plane, blockIdx.x % tiles, Slopes<T>{g, (const T *)a.p[2]},
             Unfolded<T>{g, (const T *)a.p[1]}, Matrix<T>{(T *)a.p[0], g});
}

KERNEL(conv_f32, 256) { SHARED(float, room); conv(a, room); }
KERNEL(conv_f64, 256) { SHARED(double, room); conv(a, room); }
KERNEL(conv_input_f32, 256) { SHARED(float, room); conv_input(a, room); }
KERNEL(conv_input_f64, 256) { SHARED(double, room); conv_input(a, room); }
KERNEL(conv_weight_f32, 256) { SHARED(float, room); conv_weight(a, room); }
KERNEL(conv_weight_f64, 256) { SHARED(double, room); conv_weight(a, room); }
