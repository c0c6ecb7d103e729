// C[m,n] = A[m,k] B[k,n] in f32: 64x64 tiles, 4x4 per thread, one accumulator chain per output in k order, so that the
// bits of a row do not depend on how many rows there are. The correct first step of the ladder, not the fast one.
#include "matmul.cuh"

namespace {
struct Traits {
    static constexpr int tile = 64, depth = 16, per_thread = 4, threads = 256;
    static_assert((tile / per_thread) * (tile / per_thread) == threads, "one 4x4 block per thread");
    static_assert(tile * depth % threads == 0, "every thread loads the same number of elements");
};
}  // namespace

__global__ void __launch_bounds__(Traits::threads)
matmul_f32(const float *__restrict__ a, const float *__restrict__ b, float *__restrict__ c, int m, int n, int k) {
    __shared__ float sa[Traits::depth][Traits::tile + 4];
    __shared__ float sb[Traits::depth][Traits::tile];
    const int row0 = blockIdx.y * Traits::tile, col0 = blockIdx.x * Traits::tile;
    const int tr = (threadIdx.x / 16) * 4, tc = (threadIdx.x % 16) * 4;
    float acc[4][4] = {};
    for (int k0 = 0; k0 < k; k0 += Traits::depth) {
        for (int i = threadIdx.x; i < Traits::tile * Traits::depth; i += Traits::threads) {
            const int r = i / Traits::depth, kk = i % Traits::depth;
            sa[kk][r] = (row0 + r < m && k0 + kk < k) ? a[(long)(row0 + r) * k + k0 + kk] : 0.0f;
            const int kb = i / Traits::tile, col = i % Traits::tile;
            sb[kb][col] = (k0 + kb < k && col0 + col < n) ? b[(long)(k0 + kb) * n + col0 + col] : 0.0f;
        }
        __syncthreads();
        for (int kk = 0; kk < Traits::depth; kk++)
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) acc[i][j] = fmaf(sa[kk][tr + i], sb[kk][tc + j], acc[i][j]);
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            if (row0 + tr + i < m && col0 + tc + j < n) c[(long)(row0 + tr + i) * n + col0 + tc + j] = acc[i][j];
}
