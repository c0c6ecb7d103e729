// The GPU door: runs every kernel of this folder on the device, compares with f64 on the host, times it, prints one
// line each. Called by scripts/gpu-check. Exit code 1 when a kernel is wrong, 2 when there is no device.
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "matmul.cuh"
#include "philox.cuh"
#include "cir.cuh"

#define CHECK(call)                                                                                   \
    do {                                                                                              \
        cudaError_t e = (call);                                                                       \
        if (e != cudaSuccess) {                                                                       \
            printf("%s: %s\n", #call, cudaGetErrorString(e));                                         \
            exit(e == cudaErrorNoDevice || e == cudaErrorInsufficientDriver ? 2 : 1);                 \
        }                                                                                             \
    } while (0)

static float unit(uint64_t i, uint32_t purpose) {  // addressed test data in (-1, 1)
    Words w = philox4x32_10((uint32_t)i, (uint32_t)(i >> 32), purpose, 0, 2026, 0);
    return (float)((w.w[0] + 0.5) * 0x1p-31 - 1.0);
}

template <class F> static double median_ms(F launch, int repeats) {
    cudaEvent_t a, b;
    CHECK(cudaEventCreate(&a));
    CHECK(cudaEventCreate(&b));
    std::vector<float> ms;
    for (int i = 0; i < repeats + 3; i++) {
        CHECK(cudaEventRecord(a));
        launch();
        CHECK(cudaEventRecord(b));
        CHECK(cudaEventSynchronize(b));
        float t;
        CHECK(cudaEventElapsedTime(&t, a, b));
        if (i >= 3) ms.push_back(t);
    }
    CHECK(cudaGetLastError());
    std::sort(ms.begin(), ms.end());
    return ms[ms.size() / 2];
}

static float *device(const std::vector<float> &host) {
    float *p;
    CHECK(cudaMalloc(&p, std::max<size_t>(host.size(), 1) * sizeof(float)));
    CHECK(cudaMemcpy(p, host.data(), host.size() * sizeof(float), cudaMemcpyHostToDevice));
    return p;
}

static std::vector<float> random_vector(size_t n, uint32_t purpose) {
    std::vector<float> v(n);
    for (size_t i = 0; i < n; i++) v[i] = unit(i, purpose);
    return v;
}

static int check_pointwise(long n, bool timed) {
    std::vector<float> x = random_vector(n, 1), s = random_vector(n, 2), z = random_vector(n, 3), got(n, NAN);
    float *dx = device(x), *ds = device(s), *dz = device(z), *dout = device(got);
    const CirStep p = {1.0f, 0.5f, 0.7f, 0.01f};
    auto launch = [&] { cir_euler_f32<<<132 * 16, 256>>>(dx, ds, dz, dout, n, p); };
    launch();
    CHECK(cudaMemcpy(got.data(), dout, n * sizeof(float), cudaMemcpyDeviceToHost));
    double worst = 0;
    for (long i = 0; i < n; i++) {
        const double xp = std::max<double>(x[i], 0), k = p.kappa, th = p.theta, sg = p.sigma, dt = p.dt;
        const double want =
            std::max(0.0, x[i] + (k * (th - xp) - sg * sg * xp * s[i]) * dt + sg * std::sqrt(xp * dt) * z[i]);
        const double err = std::fabs(got[i] - want);
        worst = err <= worst ? worst : err;  // a NaN stays
    }
    const bool ok = worst <= 5e-7;
    printf("pointwise cir_euler_f32 n=%ld max error %.2e %s", n, worst, ok ? "ok" : "WRONG");
    if (timed) {
        const double ms = median_ms(launch, 20);
        printf(" %.4f ms %.0f GB/s", ms, 16.0 * n / ms * 1e-6);
    }
    printf("\n");
    for (float *q : {dx, ds, dz, dout}) CHECK(cudaFree(q));
    return !ok;
}

static int check_matmul(int m, int n, int k, bool timed) {
    std::vector<float> a = random_vector((size_t)m * k, 4), b = random_vector((size_t)k * n, 5), got((size_t)m * n, NAN);
    float *da = device(a), *db = device(b), *dc = device(got);
    const dim3 grid((n + matmul_tile() - 1) / matmul_tile(), (m + matmul_tile() - 1) / matmul_tile());
    auto launch = [&] { matmul_f32<<<grid, 256>>>(da, db, dc, m, n, k); };
    launch();
    CHECK(cudaMemcpy(got.data(), dc, got.size() * sizeof(float), cudaMemcpyDeviceToHost));
    double worst = 0;
    const size_t step = std::max<size_t>(1, got.size() / 20000);  // a spread sample of large results
    for (size_t i = 0; i < got.size(); i += step) {
        double want = 0;
        for (int kk = 0; kk < k; kk++) want += (double)a[i / n * k + kk] * b[(size_t)kk * n + i % n];
        const double err = std::fabs(got[i] - want) / std::sqrt((double)k);
        worst = err <= worst ? worst : err;
    }
    const bool ok = worst <= 2e-6;
    printf("matmul matmul_f32 %dx%dx%d error/sqrt(k) %.2e %s", m, n, k, worst, ok ? "ok" : "WRONG");
    if (timed) {
        const double ms = median_ms(launch, 10);
        printf(" %.3f ms %.1f TFLOP/s", ms, 2.0 * m * n * k / ms * 1e-9);
    }
    printf("\n");
    for (float *q : {da, db, dc}) CHECK(cudaFree(q));
    return !ok;
}

int main() {
    cudaDeviceProp prop;
    CHECK(cudaGetDeviceProperties(&prop, 0));
    int driver = 0;
    CHECK(cudaDriverGetVersion(&driver));
    printf("device %s sm_%d%d driver %d\n", prop.name, prop.major, prop.minor, driver);
    int wrong = 0;
    wrong += check_pointwise(1, false) + check_pointwise(1003, false) + check_pointwise(1L << 26, true);
    wrong += check_matmul(1, 1, 1, false) + check_matmul(65, 33, 47, false) + check_matmul(4096, 4096, 4096, true);
    printf("gpu-check: %s\n", wrong ? "FAILED" : "all kernels agree with f64");
    return wrong ? 1 : 0;
}
