// Products with weights of bf16 on the tensor cores (mma.sync, sm_80 and later). The f32 operand is cut into three numbers
// of bf16 whose sum it is, from 2^-110 up, so no digit of it is lost: three products in the place of one. Tensor cores
// cut off while adding, always towards 0: so they add up no more than 32 products, and sums of these are rounded as
// elsewhere. An infinite weight gives what is no number, where the f32 kernel has infinities.
#include "math.cuh"
#include "tensor.cuh"

enum { SIDE = 64, STEP = 32, LINE = STEP + 8, PARTS = 3 }; // lines so long that a fragment is read from 32 banks

// x = part[0] + part[1] + part[2]: 8 bits each, cut off.
DEVICE void cut(float x, uint16_t (&part)[PARTS]) {
    if (!(fabsf(x) < INFINITY)) {
        part[0] = (uint16_t)(bits_of_float(x) >> 16 | (x != x ? 0x40 : 0));
        part[1] = part[2] = 0;
        return;
    }
#pragma unroll
    for (int i = 0; i < PARTS; i++) {
        part[i] = (uint16_t)(bits_of_float(x) >> 16);
        x -= of_bfloat(part[i]);
    }
}

DEVICE uint32_t pair(const uint16_t *at) {
    uint32_t two;
    memcpy(&two, at, 4);
    return two;
}

// p, n: as `matmul_f32`, b of bf16. 128 threads: four warps of 32 x 32 results each.
KERNEL(matmul_bf16, 128) {
    SHARED(uint16_t, room);
    const long long m = a.n[1], n = a.n[2], depth = a.n[3];
    const long long across = (n + SIDE - 1) / SIDE, tiles = (m + SIDE - 1) / SIDE * across;
    const long long batch = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    const long long row0 = tile / across * SIDE, column0 = tile % across * SIDE;
    const int rank = (int)a.n[11], t = threadIdx.x, warp = t / 32, g = t % 32 / 4, q = t % 4;
    const float *left = (const float *)a.p[1] + offset_of(a, rank, 12, 20, batch);
    const uint16_t *right = (const uint16_t *)a.p[2] + offset_of(a, rank, 12, 28, batch);
    const int down = warp % 2 * 32, over = warp / 2 * 32;
    uint16_t *sa = room, *sb = room + PARTS * SIDE * LINE; // [part][row][k], [column][k]
    const bool lines = a.n[7] == 1;                        // neighbours of b are columns
    float sum[2][4][4];
#pragma unroll
    for (int i = 0; i < 32; i++) sum[i / 16][i / 4 % 4][i % 4] = 0;
    for (long long k0 = 0; k0 < depth; k0 += STEP) {
        for (int i = t; i < SIDE * STEP; i += 128) {
            const int r = i / STEP, k = i % STEP;
            const bool inside = row0 + r < m && k0 + k < depth;
            uint16_t part[PARTS];
            cut(inside ? left[(row0 + r) * a.n[4] + (k0 + k) * a.n[5]] : 0.0f, part);
#pragma unroll
            for (int p = 0; p < PARTS; p++) sa[(p * SIDE + r) * LINE + k] = part[p];
        }
        for (int i = t; i < SIDE * STEP; i += 128) {
            const int c = lines ? i % SIDE : i / STEP, k = lines ? i / SIDE : i % STEP;
            const bool inside = column0 + c < n && k0 + k < depth;
            sb[c * LINE + k] = inside ? right[(k0 + k) * a.n[6] + (column0 + c) * a.n[7]] : (uint16_t)0;
        }
        __syncthreads();
        float step[2][4][4];
#pragma unroll
        for (int i = 0; i < 32; i++) step[i / 16][i / 4 % 4][i % 4] = 0;
#pragma unroll
        for (int k = 0; k < STEP; k += 16) {
            uint32_t b[4][2];
#pragma unroll
            for (int i = 0; i < 8; i++) b[i / 2][i % 2] = pair(sb + (over + i / 2 * 8 + g) * LINE + k + 2 * q + i % 2 * 8);
#pragma unroll
            for (int p = PARTS - 1; p >= 0; p--) // the small parts first
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    uint32_t x[4];
#pragma unroll
                    for (int e = 0; e < 4; e++) {
#ifdef PLANT_FRAGMENT // a test plants this: rows and columns of the quarters exchanged
                        const int row = g + (e >> 1) * 8, column = 2 * q + (e & 1) * 8;
#else
                        const int row = g + (e & 1) * 8, column = 2 * q + (e >> 1) * 8;
#endif
                        x[e] = pair(sa + (p * SIDE + down + i * 16 + row) * LINE + k + column);
                    }
#pragma unroll
                    for (int j = 0; j < 4; j++) mma_bf16(step[i][j], x, b[j]);
                }
        }
#pragma unroll
        for (int i = 0; i < 32; i++) sum[i / 16][i / 4 % 4][i % 4] += step[i / 16][i / 4 % 4][i % 4];
        __syncthreads();
    }
    float *c = (float *)a.p[0] + batch * m * n;
#pragma unroll
    for (int i = 0; i < 32; i++) {
        const int e = i % 4;
        const long long row = row0 + down + i / 16 * 16 + g + (e >> 1) * 8;
        const long long column = column0 + over + i / 4 % 4 * 8 + 2 * q + (e & 1);
        if (row >= m || column >= n) continue;
        float v = sum[i / 16][i / 4 % 4][e];
        if (a.p[3]) v += get<float>((const void *)a.p[3], (int)a.n[9], column);
        c[row * n + column] = activated((int)a.n[10], v);
    }
}
