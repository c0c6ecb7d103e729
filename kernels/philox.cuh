// Addressed random words: Philox4x32-10, uniforms, normals by Box-Muller from a logarithm and a sine of our own. Only
// + - * / fma and sqrt, each rounded to nearest, so that a device draws the bits the CPU draws (base/philox.rs,
// base/special/float.rs and wide.rs hold the same formulas).
#pragma once
#include "device.cuh"

// Where a run stands in the address space of the generator; exec/backend.rs calls it RunKey.
struct Key { unsigned long long seed, first_sample; uint32_t step, unused; };

struct Words { uint32_t w[4]; };

DEVICE Words philox4x32_10(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

DEVICE float log_f32(float u) {
    const uint32_t b = bits_of_float(u);
    int e = (int)(b >> 23) - 126;
    float m = float_of_bits((b & 0x007fffff) | 0x3f000000);
    if (m < 0.70710678118654752440f) {
        m = m + m;
        e -= 1;
    }
    const float x = m - 1.0f, z = x * x, fe = (float)e;
    float y = 7.0376836292e-2f;
    y = fmaf(y, x, -1.1514610310e-1f);
    y = fmaf(y, x, 1.1676998740e-1f);
    y = fmaf(y, x, -1.2420140846e-1f);
    y = fmaf(y, x, 1.4249322787e-1f);
    y = fmaf(y, x, -1.6668057665e-1f);
    y = fmaf(y, x, 2.0000714765e-1f);
    y = fmaf(y, x, -2.4999993993e-1f);
    y = fmaf(y, x, 3.3333331174e-1f);
    y = (y * x) * z;
    y = fmaf(fe, -2.12194440e-4f, y);
    y = fmaf(z, -0.5f, y);
    return fmaf(fe, 0.693359375f, x + y);
}

DEVICE void turn_f32(uint32_t turn, float &sin, float &cos) {
    const uint32_t quadrant = (turn + 0x20000000u) >> 30;
    const int32_t rest = (int32_t)(turn - (quadrant << 30));
    const float t = (float)(rest >> 6) * 9.362675968e-8f, z = t * t;
    const float s = fmaf(fmaf(-1.9515295891e-4f, z, 8.3321608736e-3f), z, -1.6666654611e-1f);
    const float sine = fmaf(s * z, t, t);
    const float c = fmaf(fmaf(2.443315711809948e-5f, z, -1.388731625493765e-3f), z, 4.166664568298827e-2f);
    const float cosine = fmaf(c * z, z, fmaf(z, -0.5f, 1.0f));
    const bool odd = quadrant & 1;
    sin = float_of_bits(bits_of_float(odd ? cosine : sine) ^ (quadrant & 2) << 30);
    cos = float_of_bits(bits_of_float(odd ? sine : cosine) ^ ((quadrant + 1) & 2) << 30);
}

DEVICE double log_f64(double u) {
    const uint64_t root_half = 0x3fe6a09e667f3bcdull;
    const double magic = 6755399441055744.0;
    const uint64_t bits = bits_of(u) - root_half;
    const double f = of_bits((bits & 0x000fffffffffffffull) + root_half) - 1.0;
    const uint64_t kb = ((bits >> 52) + (1 << 11)) & 0xfff;
    const double k = of_bits(bits_of(magic) | kb) - (magic + 2048.0);
    const double s = f / (2.0 + f), z = s * s, w = z * z;
    const double odd = w * (3.999999999940942e-1 + w * (2.2222198432149784e-1 + w * 1.5313837699209373e-1));
    const double even =
        z * (6.666666666666735e-1 + w * (2.857142874366239e-1 + w * (1.818357216161805e-1 + w * 1.4798198605116586e-1)));
    const double half = 0.5 * f * f;
    const double low = s * (half + (odd + even)) + k * 1.9082149292705877e-10;
    return k * 6.931471803691238e-1 - ((half - low) - f);
}

DEVICE void turn_f64(uint32_t turn, double &sin, double &cos) {
    const uint32_t quadrant = (turn + 0x20000000u) >> 30;
    const int32_t rest = (int32_t)(turn - (quadrant << 30));
    const double t = ((double)rest + 0.5) * 1.4629180792671596e-9, z = t * t;
    const double s = 8.33333333332249e-3 +
                     z * (-1.984126982985795e-4 +
                          z * (2.7557313707070068e-6 + z * (-2.5050760253406863e-8 + z * 1.58969099521155e-10)));
    const double sine = t + z * t * (-1.6666666666666632e-1 + z * s);
    const double c =
        4.16666666666666e-2 +
        z * (-1.388888888887411e-3 +
             z * (2.480158728947673e-5 +
                  z * (-2.7557314351390663e-7 + z * (2.087572321298175e-9 + z * -1.1359647557788195e-11))));
    const double half = 0.5 * z, top = 1.0 - half;
    const double cosine = top + ((1.0 - top - half) + z * z * c);
    const bool odd = quadrant & 1;
    sin = of_bits(bits_of(odd ? cosine : sine) ^ (uint64_t)(quadrant & 2) << 62);
    cos = of_bits(bits_of(odd ? sine : cosine) ^ (uint64_t)((quadrant + 1) & 2) << 62);
}

DEVICE double unit_f64(uint32_t word) { return ((double)word + 0.5) / 4294967296.0; }
DEVICE float unit_f32(uint32_t word) { return fminf(((float)word + 0.5f) / 4294967296.0f, 0.999999940395355224609375f); }

// One value of four: `lane` of the block, the two words of its pair.
DEVICE float normal_f32(uint32_t radius, uint32_t angle, int lane) {
    const float r = sqrtf(-2.0f * log_f32(((float)(radius >> 9) + 0.5f) / 8388608.0f));
    float sin, cos;
    turn_f32(angle, sin, cos);
    return r * (lane & 1 ? sin : cos);
}
DEVICE double normal_f64(uint32_t radius, uint32_t angle, int lane) {
    const double r = sqrt(-2.0 * log_f64(unit_f64(radius)));
    double sin, cos;
    turn_f64(angle, sin, cos);
    return r * (lane & 1 ? sin : cos);
}

// Two words as one uniform of 53 bits inside (0, 1).
DEVICE double unit_wide(uint32_t high, uint32_t low) {
    return ((double)(((uint64_t)high << 32 | low) >> 12) + 0.5) / 4503599627370496.0;
}

// A random node: base/philox.rs calls it Stream.
struct Node { uint32_t seed_low, seed_high, purpose, step, ordinal; };

// p: to, key. n: elements, element type, purpose, ordinal, elements of a sample.
DEVICE Node node_of(const Args &a) {
    const Key *key = (const Key *)a.p[1];
    return {(uint32_t)key->seed, (uint32_t)(key->seed >> 32), (uint32_t)a.n[2], key->step, (uint32_t)a.n[3]};
}
// The number of the node's element i among all samples.
DEVICE uint64_t element_of(const Args &a, long long i) {
    return ((const Key *)a.p[1])->first_sample * (uint64_t)a.n[4] + (uint64_t)i;
}
// The four words of `block` of element e.
DEVICE Words words_of(const Node &s, uint64_t e, uint32_t block) {
    return philox4x32_10((uint32_t)e, ((uint32_t)(e >> 32) & 0xffffff) | s.purpose << 24, s.step, s.ordinal << 16 | block,
                         s.seed_low, s.seed_high);
}
