// The noise a C++ programmer would write: Philox4x32-10 and Box-Muller with the library's functions, over blocks that stay
// in the cache. g++ -O3 -march=native -pthread. Arguments: how many normals, threads. Prints seconds by the clock, CPU
// seconds, and the mean.
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <thread>
#include <vector>

static void philox(const uint32_t c[4], uint32_t k0, uint32_t k1, uint32_t out[4])
{
    uint32_t c0 = c[0], c1 = c[1], c2 = c[2], c3 = c[3];
    for (int r = 0; r < 10; r++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

static void normals(uint64_t first, float *out, size_t n)
{
    for (size_t i = 0; i < n; i += 4) {
        const uint64_t e = (first + i) / 4;
        const uint32_t c[4] = {(uint32_t)e, (uint32_t)(e >> 32), 7, 0};
        uint32_t w[4];
        philox(c, 42, 0, w);
        for (int p = 0; p < 4; p += 2) {
            const float u = ((float)(w[p] >> 9) + .5f) * 0x1p-23f, angle = (float)(w[p + 1] >> 8) * (6.2831853f * 0x1p-24f);
            const float r = std::sqrt(-2.f * std::log(u));
            out[i + p] = r * std::cos(angle);
            out[i + p + 1] = r * std::sin(angle);
        }
    }
}

int main(int argc, char **argv)
{
    const size_t block = 4096, total = argc > 1 ? strtoull(argv[1], nullptr, 10) : 1 << 26;
    const size_t threads = argc > 2 ? strtoull(argv[2], nullptr, 10) : 1;
    std::vector<double> sums(threads);
    const auto start = std::chrono::steady_clock::now();
    const clock_t cpu = clock();
    std::vector<std::thread> pool;
    for (size_t t = 0; t < threads; t++)
        pool.emplace_back([&, t] {
            std::vector<float> x(block);
            double sum = 0;
            for (size_t b = t; b < total / block; b += threads) {
                normals(b * block, x.data(), block);
                sum += x[b % block];
            }
            sums[t] = sum;
        });
    for (auto &t : pool)
        t.join();
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
    double sum = 0;
    for (double s : sums)
        sum += s;
    printf("%.6f %.6f %.6f\n", wall.count(), (double)(clock() - cpu) / CLOCKS_PER_SEC, sum / (double)(total / block));
}
