// Products by tiles: a block of 256 threads has 64 x 64 results, a thread 4 x 4, each one fma chain in the order of k, so
// that no result depends on how many others there are. Where the operands come from is said by what is passed in.
#pragma once
#include "math.cuh"

enum { TILE = 64, DEPTH = 16, EACH = 4 };

// c[row, column] = sum_k left(row, k) right(k, column) over one tile. `left.place(row)` and `right.place(column)` are asked
// once a thread, `of(place, k)` for each element, `put.of(row, column, value)` for each result.
template <class T, class L, class R, class P>
DEVICE void tiled(T *room, long long m, long long n, long long depth, long long tile, const L &left, const R &right,
                  const P &put) {
    const long long across = (n + TILE - 1) / TILE, row0 = tile / across * TILE, column0 = tile % across * TILE;
    const int t = threadIdx.x, tx = t % 16, ty = t / 16;
    const long long row = row0 + t % TILE, column = column0 + t % TILE; // what this thread fetches
    const auto here = left.place(row < m ? row : 0);
    const auto there = right.place(column < n ? column : 0);
    T *sa = room, *sb = room + DEPTH * TILE; // [k][row], [k][column]
    T sum[EACH][EACH]; // in registers as long as the loops over it are unrolled
#pragma unroll
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) sum[i][j] = 0;
    for (long long k0 = 0; k0 < depth; k0 += DEPTH) {
        for (int i = t; i < DEPTH * TILE; i += 256) {
            const long long k = k0 + i / TILE;
            sa[i] = k < depth && row < m ? left.of(here, k) : (T)0;
            sb[i] = k < depth && column < n ? right.of(there, k) : (T)0;
        }
        __syncthreads();
        const int steps = (int)(depth - k0 < DEPTH ? depth - k0 : DEPTH);
        for (int k = 0; k < steps; k++)
#pragma unroll
            for (int i = 0; i < EACH; i++)
                for (int j = 0; j < EACH; j++)
                    sum[i][j] = fma(sa[k * TILE + ty + 16 * i], sb[k * TILE + tx + 16 * j], sum[i][j]);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < EACH; i++)
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            const long long r = row0 + ty + 16 * i, c = column0 + tx + 16 * j;
            if (r < m && c < n) put.of(r, c, sum[i][j]);
        }
}
