// Elementary functions: in f32 those of src/cpu/pointwise/math.rs, operation by operation, so that a pointwise program
// gives the bits of the CPU; in f64 the library's.
#pragma once
#include "device.cuh"

// Codes of graph/op.rs.
enum {
    NEG = 10, ABS, SIGN, RECIP, SQUARE, SQRT, RSQRT, EXP, EXPM1, LOG, LOG1P, SIN, COS, TANH, SIGMOID, SILU, GELU,
    GELU_TANH, RELU, SOFTPLUS, ERF, FLOOR, CEIL, ROUND, NOT, IS_FINITE, CAST, STOP_GRADIENT, LGAMMA,
    POLYGAMMA, LOG_NDTR, BESSEL_RATIO, LOG_IVE,
    ADD = 50, SUB, MUL, DIV, POW, MIN, MAX, REM,
    EQ = 60, NE, LT, LE, GT, GE, AND, OR, WHERE = 70
};

namespace own {
// x = n ln 2 + r with |r| <= ln 2 / 2: the magic number leaves the rounded n in the low bits of the sum.
DEVICE int split(float x, float &r) {
    const float magic = 12582912.0f, shifted = fmaf(x, 1.44269504088896340736f, magic), n = shifted - magic;
    r = fmaf(n, 2.1219444e-4f, fmaf(n, -0.6933594f, x));
    return (int)(bits_of_float(shifted) - bits_of_float(magic));
}
DEVICE float power(int n) { return float_of_bits((uint32_t)(n + 127) << 23); }
DEVICE float tail(float r) { // e^r - 1
    float p = 1.9875691e-4f;
    p = fmaf(p, r, 1.3982e-3f);
    p = fmaf(p, r, 8.333452e-3f);
    p = fmaf(p, r, 4.1665796e-2f);
    p = fmaf(p, r, 1.6666665e-1f);
    p = fmaf(p, r, 0.5f);
    return fmaf(p * r, r, r);
}
DEVICE float clamp(float x, float lo, float hi) {
    x = x > hi ? hi : x;
    return x < lo ? lo : x;
}

DEVICE float exp(float x) {
    float r;
    const int n = split(clamp(x, -104.0f, 89.0f), r), half = n >> 1; // in two steps: 2^128 and 2^-150 have no f32
    return (1.0f + tail(r)) * power(half) * power(n - half);
}
DEVICE float expm1(float x) {
    float r;
    const int n = split(clamp(x, -17.5f, 89.0f), r);
    const float half = power(n - 1), y = 2.0f * fmaf(half, tail(r), half - 0.5f);
    return x == 0.0f ? x : y;
}
DEVICE float log(float x) {
    const bool small = x < 1.17549435e-38f;
    const uint32_t root_half = 0x3f3504f3u, bits = bits_of_float(small ? x * 8388608.0f : x) - root_half;
    const float e = (float)((int32_t)bits >> 23) - (small ? 23.0f : 0.0f);
    const float f = float_of_bits((bits & 0x007fffffu) + root_half) - 1.0f, z = f * f;
    float p = 7.0376836e-2f;
    p = fmaf(p, f, -1.151461e-1f);
    p = fmaf(p, f, 1.1676999e-1f);
    p = fmaf(p, f, -1.2420141e-1f);
    p = fmaf(p, f, 1.4249323e-1f);
    p = fmaf(p, f, -1.6668058e-1f);
    p = fmaf(p, f, 2.0000715e-1f);
    p = fmaf(p, f, -2.4999994e-1f);
    p = fmaf(p, f, 3.333333e-1f);
    float y = p * f * z;
    y = fmaf(e, -2.1219444e-4f, y);
    y = fmaf(z, -0.5f, y);
    y = fmaf(e, 0.6933594f, f + y);
    y = x == INFINITY ? x : y;
    y = x == 0.0f ? -INFINITY : y;
    return x >= 0.0f ? y : NAN;
}
DEVICE float log1p(float x) {
    const float u = 1.0f + x, y = log(u), lost = (x - (u - 1.0f)) / u; // what the sum rounded away, to first order
    return u > 0.0f && u < INFINITY ? y + lost : y;
}
DEVICE float tanh(float x) {
    const float a = fabsf(x), z = x * x;
    float p = -5.7049887e-3f;
    p = fmaf(p, z, 2.063909e-2f);
    p = fmaf(p, z, -5.3739716e-2f);
    p = fmaf(p, z, 1.3331442e-1f);
    p = fmaf(p, z, -3.333328e-1f);
    const float near = fmaf(p * z, x, x), far = copysignf(1.0f - 2.0f / (exp(2.0f * a) + 1.0f), x);
    return a < 0.625f ? near : far;
}
DEVICE float erf(float x) {
    const float t = fabsf(x), s = x * x;
    float r = fmaf(t, -1.7285347e-5f, 3.831972e-4f);
    r = fmaf(r, s, fmaf(t, -3.8839644e-3f, 2.4254622e-2f));
    r = fmaf(r, t, -1.0677788e-1f);
    r = fmaf(r, t, -6.348467e-1f);
    r = fmaf(r, t, -1.2871751e-1f);
    r = fmaf(r, t, -t);
    float p = -5.967617e-4f;
    p = fmaf(p, s, 4.991194e-3f);
    p = fmaf(p, s, -2.6768135e-2f);
    p = fmaf(p, s, 1.12819925e-1f);
    p = fmaf(p, s, -3.7612534e-1f);
    p = fmaf(p, s, 1.2837917e-1f);
    const float far = t > 4.0f ? copysignf(1.0f, x) : copysignf(1.0f - exp(r), x);
    return t <= 0.9277344f ? fmaf(p, x, x) : far;
}
// Sine of x + quarters of a turn, reduced in f64.
DEVICE float turned(float x, int quarters) {
    const double magic = 6755399441055744.0, shifted = fma((double)x, 0.63661977236758134308, magic), k = shifted - magic;
    const double rest = fma(k, -6.123233995736766e-17, fma(k, -1.57079632679489661923, (double)x));
    const long long q = (long long)(bits_of(shifted) + (uint64_t)quarters);
    const float r = (float)rest, z = r * r;
    float s = fmaf(fmaf(-1.9515296e-4f, z, 8.332161e-3f), z, -1.6666655e-1f);
    s = fmaf(s * z, r, r);
    float c = fmaf(fmaf(2.4433157e-5f, z, -1.3887316e-3f), z, 4.1666646e-2f);
    c = fmaf(c * z, z, fmaf(z, -0.5f, 1.0f));
    const float y = q & 1 ? c : s;
    return q & 2 ? -y : y;
}
DEVICE float sin(float x) { return fabsf(x) >= 1e15f ? (float)::sin((double)x) : turned(x, 0); }
DEVICE float cos(float x) { return fabsf(x) >= 1e15f ? (float)::cos((double)x) : turned(x, 1); }
DEVICE float gelu_tanh(float x) {
    return 0.5f * x * (1.0f + tanh(0.7978846f * fmaf(0.044715f * x * x, x, x)));
}

DEVICE double exp(double x) { return ::exp(x); }
DEVICE double expm1(double x) { return ::expm1(x); }
DEVICE double log(double x) { return ::log(x); }
DEVICE double log1p(double x) { return ::log1p(x); }
DEVICE double tanh(double x) { return ::tanh(x); }
DEVICE double erf(double x) { return ::erf(x); }
DEVICE double sin(double x) { return ::sin(x); }
DEVICE double cos(double x) { return ::cos(x); }
DEVICE double gelu_tanh(double x) {
    return 0.5 * x * (1.0 + ::tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}
} // namespace own

template <class T> DEVICE T sigmoid(T x) { return (T)1 / ((T)1 + own::exp(-x)); }

// What a product may do to its result.
template <class T> DEVICE T activated(int op, T x) {
    switch (op) {
    case TANH: return own::tanh(x);
    case SIGMOID: return sigmoid(x);
    case SILU: return x * sigmoid(x);
    case GELU: return (T)0.5 * x * ((T)1 + own::erf(x * (T)0.70710678118654752440));
    case GELU_TANH: return own::gelu_tanh(x);
    case RELU: return x <= (T)0 ? (T)0 : x;
    default: return x;
    }
}

template <class T> DEVICE T unary_real(int op, T x) {
    switch (op) {
    case RECIP: return (T)1 / x;
    case SQRT: return sqrt(x);
    case RSQRT: return (T)1 / sqrt(x);
    case EXP: return own::exp(x);
    case EXPM1: return own::expm1(x);
    case LOG: return own::log(x);
    case LOG1P: return own::log1p(x);
    case SIN: return own::sin(x);
    case COS: return own::cos(x);
    case SOFTPLUS: return (x > (T)0 ? x : (T)0) + own::log1p(own::exp(-fabs(x)));
    case ERF: return own::erf(x);
    case FLOOR: return floor(x);
    case CEIL: return ceil(x);
    case ROUND: return rint(x);
    case IS_FINITE: return fabs(x) < (T)INFINITY ? (T)1 : (T)0;
    default: return activated(op, x); // the host sends no other
    }
}
