// Products in the arithmetic of the CPU: f32 or f64, one fma chain in order of k per result, so that a row does not
// depend on how many rows there are. The tensor-core kernels of specs/kernels.md 4.2 come beside it, not instead of it.
#include "math.cuh"

enum { TILE = 64, DEPTH = 16, EACH = 4 };

// p: c, a, b, bias or 0. n: batches, m, n, k, row and column stride of a, of b, type of b, type of bias, code of the
// activation, at 11 rank of the batch, extents[8], strides of a[8], of b[8]. 256 threads, 4 x 4 results each.
template <class T> DEVICE void product(const Args &a, T *room) {
    const long long m = a.n[1], n = a.n[2], depth = a.n[3];
    const long long across = (n + TILE - 1) / TILE, down = (m + TILE - 1) / TILE;
    const long long batch = blockIdx.x / (across * down), tile = blockIdx.x % (across * down);
    const long long row0 = tile / across * TILE, column0 = tile % across * TILE;
    const int rank = (int)a.n[11], t = threadIdx.x, tx = t % 16, ty = t / 16;
    const T *left = (const T *)a.p[1] + offset_of(a, rank, 12, 20, batch);
    const long long right = offset_of(a, rank, 12, 28, batch);
    T *sa = room, *sb = room + DEPTH * TILE; // [k][row], [k][column]
    T sum[EACH][EACH];
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) sum[i][j] = 0;
    for (long long k0 = 0; k0 < depth; k0 += DEPTH) {
        for (int i = t; i < DEPTH * TILE; i += 256) {
            const long long k = k0 + i / TILE, row = row0 + i % TILE, column = column0 + i % TILE;
            sa[i] = k < depth && row < m ? left[row * a.n[4] + k * a.n[5]] : (T)0;
            sb[i] = k < depth && column < n
                        ? get<T>((const void *)a.p[2], (int)a.n[8], right + k * a.n[6] + column * a.n[7])
                        : (T)0;
        }
        __syncthreads();
        const int steps = (int)(depth - k0 < DEPTH ? depth - k0 : DEPTH);
        for (int k = 0; k < steps; k++)
            for (int i = 0; i < EACH; i++)
                for (int j = 0; j < EACH; j++)
                    sum[i][j] = fma(sa[k * TILE + ty + 16 * i], sb[k * TILE + tx + 16 * j], sum[i][j]);
        __syncthreads();
    }
    T *c = (T *)a.p[0] + batch * m * n;
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) {
            const long long row = row0 + ty + 16 * i, column = column0 + tx + 16 * j;
            if (row >= m || column >= n) continue;
            T v = sum[i][j];
            if (a.p[3]) v += get<T>((const void *)a.p[3], (int)a.n[9], column);
            c[row * n + column] = activated((int)a.n[10], v);
        }
}

KERNEL(matmul_f32, 256) { SHARED(float, room); product(a, room); }
KERNEL(matmul_f64, 256) { SHARED(double, room); product(a, room); }
