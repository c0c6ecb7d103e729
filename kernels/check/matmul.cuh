#pragma once
__global__ void matmul_f32(const float *a, const float *b, float *c, int m, int n, int k);
inline int matmul_tile() { return 64; }
