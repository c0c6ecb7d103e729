// The CIR Euler step, one text for device and host: x' = max(0, x + (kappa(theta - x+) - s^2 x+ score) dt + s sqrt(x+ dt) z).
#pragma once
#include <math.h>

struct CirStep { float kappa, theta, sigma, dt; };

__host__ __device__ inline float cir_step(float x, float score, float z, CirStep p) {
    const float xp = fmaxf(x, 0.0f);
    const float drift = p.kappa * (p.theta - xp) - p.sigma * p.sigma * xp * score;
    return fmaxf(0.0f, x + drift * p.dt + p.sigma * sqrtf(xp * p.dt) * z);
}

__global__ void cir_euler_f32(const float *x, const float *score, const float *noise, float *out, long n, CirStep p);
