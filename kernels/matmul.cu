// Products in the arithmetic of the CPU: f32 or f64, one fma chain in order of k per result, so that a row does not
// depend on how many rows there are.
#include "tile.cuh"

template <class T> struct Strided { // rows of a
    const T *at;
    long long row, column;
    DEVICE long long place(long long i) const { return i * row; }
    DEVICE T of(long long place, long long k) const { return at[place + k * column]; }
};
template <class T> struct Typed { // columns of b, in a type of their own
    const void *at;
    int dtype;
    long long first, row, column;
    DEVICE long long place(long long j) const { return first + j * column; }
    DEVICE T of(long long place, long long k) const { return get<T>(at, dtype, place + k * row); }
};
template <class T> struct Finished { // bias, activation
    T *c;
    const Args &a;
    DEVICE void of(long long row, long long column, T v) const {
        if (a.p[3]) v += get<T>((const void *)a.p[3], (int)a.n[9], column);
        c[row * a.n[2] + column] = activated((int)a.n[10], v);
    }
};

// p: c, a, b, bias or 0. n: batches, m, n, k, row and column stride of a, of b, type of b, type of bias, code of the
// activation, at 11 rank of the batch, extents[8], strides of a[8], of b[8].
template <class T> DEVICE void product(const Args &a, T *room) {
    const long long m = a.n[1], n = a.n[2];
    const long long tiles = (m + TILE - 1) / TILE * ((n + TILE - 1) / TILE), batch = blockIdx.x / tiles;
    const int rank = (int)a.n[11];
    const Strided<T> left = {(const T *)a.p[1] + offset_of(a, rank, 12, 20, batch), a.n[4], a.n[5]};
    const Typed<T> right = {(const void *)a.p[2], (int)a.n[8], offset_of(a, rank, 12, 28, batch), a.n[6], a.n[7]};
    const Finished<T> put = {(T *)a.p[0] + batch * m * n, a};
    tiled<T>(room, m, n, a.n[3], blockIdx.x % tiles, left, right, put);
}

KERNEL(matmul_f32, 256) { SHARED(float, room); product(a, room); }
KERNEL(matmul_f64, 256) { SHARED(double, room); product(a, room); }
