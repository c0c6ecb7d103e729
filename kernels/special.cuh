// The special functions of laws in f64: base/special, operation by operation. What is left to the library is exp, log,
// log1p, pow, sin, tan and hypot, so the last bits may differ from the CPU's where a device's library has others.
#pragma once
#include "device.cuh"

namespace special {
const double PI = 3.14159265358979323846, TAU = 6.28318530717958647692, ROOT_HALF = 0.70710678118654752440;

// zeta(k) - 1 for k = 2, 3, ...
TABLE(double, ZETA, 26) = {
    0.64493406684822644, 0.20205690315959429, 0.082323233711138192, 0.036927755143369926, 0.01734306198444914,
    0.0083492773819228268, 0.0040773561979443394, 0.0020083928260822144, 0.00099457512781808534,
    0.00049418860411946456, 0.0002460865533080483, 0.00012271334757848915, 6.1248135058704829e-5,
    3.0588236307020494e-5, 1.5282259408651872e-5, 7.6371976378997623e-6, 3.8172932649998399e-6,
    1.9082127165539389e-6, 9.5396203387279611e-7, 4.7693298678780646e-7, 2.3845050272773299e-7,
    1.1921992596531107e-7, 5.960818905125948e-8, 2.980350351465228e-8, 1.4901554828365041e-8,
    7.4507117898354295e-9};
// B_2k / (2k (2k - 1)) for k = 1, 2, ...
TABLE(double, STIRLING, 9) = {
    1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360360.0, 1.0 / 156.0,
    -3617.0 / 122400.0, 43867.0 / 244188.0};
const int ZETAS = 26, STIRLINGS = 9, CHEBYSHEV = 25, BERNOULLIS = 12;
const double STIRLING_FROM = 10;

// ln Gamma(2 + y) for |y| <= 1/2.
DEVICE double about_two(double y) {
    double sum = 0;
    for (int i = ZETAS - 1; i >= 0; i--) sum = sum * y + (i % 2 == 0 ? 1.0 : -1.0) * ZETA[i] / (double)(i + 2);
    return y * (1.0 - 0.5772156649015329 + y * sum);
}

// ln Gamma(x) - [(x - 1/2) ln x - x + ln sqrt(2 pi)].
DEVICE double stirling_tail(double x) {
    const double r = 1 / x, square = r * r;
    double sum = 0;
    for (int i = STIRLINGS - 1; i >= 0; i--) sum = sum * square + STIRLING[i];
    return r * sum;
}

OUTLINE double lgamma_above_0(double x) {
    if (x < 0.5) return about_two(x) - ::log(x * (x + 1));
    if (x < 1.5) return about_two(x - 1) - ::log1p(x - 1);
    if (x < STIRLING_FROM) {
        double y = x, product = 1;
        while (y > 2.5) {
            y -= 1;
            product *= y;
        }
        return about_two(y - 2) + ::log(product);
    }
    return (x - 0.5) * ::log(x) - x + 0.5 * ::log(TAU) + stirling_tail(x);
}

// ln |Gamma(x)|; poles give infinity.
DEVICE double lgamma(double x) {
    if (x != x || x == (double)INFINITY) return x;
    if (x > 0) return lgamma_above_0(x);
    if (x == ::floor(x)) return (double)INFINITY;
    return ::log(PI / ::sin(PI * (x - ::floor(x)))) - lgamma_above_0(1 - x);
}

DEVICE double digamma_above_0(double x) {
    double y = x, sum = 0, tail = 0;
    while (y < STIRLING_FROM) {
        sum -= 1 / y;
        y += 1;
    }
    const double r = 1 / (y * y);
    for (int k = STIRLINGS - 1; k >= 0; k--) tail = tail * r + STIRLING[k] * (double)(2 * k + 1);
    return sum + ::log(y) - 0.5 / y - r * tail;
}
DEVICE double digamma(double x) {
    if (!(x <= 0)) return digamma_above_0(x);
    if (x == ::floor(x)) return (double)NAN;
    return digamma_above_0(1 - x) - PI / ::tan(PI * (x - ::floor(x)));
}

DEVICE double trigamma_above_0(double x) {
    double y = x, sum = 0, tail = 0;
    while (y < STIRLING_FROM) {
        sum += 1 / (y * y);
        y += 1;
    }
    const double r = 1 / (y * y);
    for (int k = STIRLINGS - 1; k >= 0; k--) tail = tail * r + STIRLING[k] * (double)((2 * k + 1) * (2 * k + 2));
    return sum + 1 / y + 0.5 * r + r * tail / y;
}
DEVICE double trigamma(double x) {
    if (!(x <= 0)) return trigamma_above_0(x);
    if (x == ::floor(x)) return (double)INFINITY;
    const double s = ::sin(PI * (x - ::floor(x)));
    return PI / s * (PI / s) - trigamma_above_0(1 - x);
}

// B_2, B_4, ...
TABLE(double, BERNOULLI, 12) = {
    1.0 / 6.0, -1.0 / 30.0, 1.0 / 42.0, -1.0 / 30.0, 5.0 / 66.0, -691.0 / 2730.0, 7.0 / 6.0, -3617.0 / 510.0,
    43867.0 / 798.0, -174611.0 / 330.0, 854513.0 / 138.0, -236364091.0 / 2730.0};

// The derivative of that order of digamma; the terms up to `far` one by one, the rest by Euler-Maclaurin.
OUTLINE double polygamma(double n, double x) {
    if (n == 0) return digamma(x);
    if (n == 1) return trigamma(x);
    if (x != x || x < 0) return (double)NAN;
    const double sign = ::fmod(n, 2.0) == 0 ? -1.0 : 1.0;
    if (x == (double)INFINITY) return 0 * sign;
    if (x == 0) return sign * (double)INFINITY;
    const double far = n + 20;
    double z = x, sum = 0;
    while (z < far) {
        sum += ::pow(z, -n - 1);
        z += 1;
    }
    double tail = 1 / n + 0.5 / z, factor = (n + 1) / (2 * z * z), factorial = 1;
    for (int i = 0; i < BERNOULLIS; i++) {
        tail += BERNOULLI[i] * factor;
        const double k = (double)(i + 2);
        factor *= (n + 2 * k - 2) * (n + 2 * k - 1) / ((2 * k - 1) * 2 * k * z * z);
    }
    for (double k = 1; k <= n; k += 1) factorial = factorial * k;
    return sign * factorial * (sum + ::pow(z, -n) * tail);
}

// k ln(k / lambda) + lambda - k, by its series about k = lambda.
DEVICE double deviance(double k, double lambda) {
    const double d = k - lambda;
    if (::fabs(d) >= 0.1 * (k + lambda)) return k * ::log(k / lambda) - d;
    const double v = d / (k + lambda);
    double sum = d * v, term = 2 * k * v;
    for (int j = 1; j < 100; j++) {
        term *= v * v;
        const double next = sum + term / (double)(2 * j + 1);
        if (next == sum) break;
        sum = next;
    }
    return sum;
}

// ln(lambda^k e^-lambda / Gamma(k + 1)) without cancellation.
OUTLINE double log_poisson(double k, double lambda) {
    if (k < STIRLING_FROM) return k * ::log(lambda) - lambda - lgamma(k + 1);
    return -deviance(k, lambda) - 0.5 * ::log(TAU * k) - stirling_tail(k);
}

TABLE(double, ERFCX, 25) = {
    2.35515786913480351, -0.00459005458064647733, -0.0842491333665179156, 0.0592099399981918905,
    -0.0266586684353057523, 0.00907499767070526509, -0.00241316354041760819, 0.000490775836525808632,
    -0.0000691697330250120637, 4.13902798607301017e-6, 7.74038306619849067e-7, -2.18864010492343957e-7,
    1.07649994656709104e-8, 4.5219598112182869e-9, -7.75440020883135111e-10, -6.31808834088668449e-11,
    2.8687950109306699e-11, 1.94558685457773472e-13, -9.65469674843343891e-13, 3.25254814814873984e-14,
    3.34781194828680539e-14, -1.8645628804193131e-15, -1.25079505306886471e-15, 7.41823525662404346e-17,
    5.06814890479611132e-17};

// e^{x^2} erfc(x) for x >= 0: Clenshaw for (1 + 2x) erfcx(x).
DEVICE double erfcx(double x) {
    if (x > 1e17) return 0.5 * 1.12837916709551257390 / x;
    const double t = (x - 3.75) / (x + 3.75);
    double b1 = 0, b2 = 0;
    for (int i = CHEBYSHEV - 1; i >= 1; i--) {
        const double next = 2 * t * b1 - b2 + ERFCX[i];
        b2 = b1;
        b1 = next;
    }
    return (t * b1 - b2 + 0.5 * ERFCX[0]) / (1 + 2 * x);
}

// 1 - ndtr(z) for z >= 0.
DEVICE double upper_tail(double z) {
    if (z > 40) return 0;
    const double square = z * z, rest = ::fma(z, z, -square);
    return 0.5 * ::exp(-0.5 * square) * (1 - 0.5 * rest) * erfcx(z * ROOT_HALF);
}

// erfc(x) for |x| <= 0.71.
DEVICE double erfc_near_0(double x) {
    if (::fabs(x) <= 0.5 && x < 0.5) {
        const double z = x * x;
        double sum = 0, term = 1;
        for (int k = 0; k < 24; k++) {
            sum += term / (double)(2 * k + 1);
            term *= -z / (double)(k + 1);
        }
        return 1 - 1.12837916709551257390 * x * sum;
    }
    const double s = ::fabs(x), square = s * s, rest = ::fma(s, s, -square);
    const double y = ::exp(-square) * (1 - rest) * erfcx(s);
    return x < 0 ? 2 - y : y;
}

OUTLINE double log_ndtr(double z) {
    if (z < -1) return -0.5 * z * z + ::log(0.5 * erfcx(-z * ROOT_HALF));
    if (z > 1) return ::log1p(-upper_tail(z));
    return ::log1p(-0.5 * erfc_near_0(z * ROOT_HALF));
}

// I_{nu+1}(z) / I_nu(z). The table of an order: the order, where the large-z expansion begins, its coefficients.
const int RATIO_TERMS = 22, RATIO_TERMS_F32 = 8;

OUTLINE double ratio_f64(const double *table, double x) {
    const double nu = table[0], z = x < 0 ? -x : x, switch_at = table[1];
    if (nu != nu) return (double)NAN;
    double r;
    if (z > switch_at) {
        const double inverse = 1 / z;
        r = 0;
        for (int i = RATIO_TERMS; i >= 0; i--) r = r * inverse + table[2 + i];
    } else {
        const int steps = nu <= 10 ? 36 : (int)(::sqrt(nu * nu + 36 * z) - nu) + 8;
        const double k = nu + (double)steps;
        r = z / (k + 0.5 + ::sqrt(z * z + (k + 0.5) * (k + 1.5)));
        for (int i = steps - 1; i >= 0; i--) r = z / (2 * (nu + (double)i + 1) + z * r);
    }
    return x < 0 ? -r : r;
}

OUTLINE float ratio_f32(const double *table, float x) {
    const double order = table[0];
    if (order != order || order > 10) return (float)ratio_f64(table, (double)x);
    const float z = x < 0 ? -x : x, switch_at = (float)(order * order > 20 ? order * order : 20.0);
    float r;
    if (z > switch_at) {
        const float inverse = 1.0f / z;
        r = 0;
        for (int i = RATIO_TERMS_F32; i >= 0; i--) r = r * inverse + (float)table[2 + i];
    } else {
        const float nu = (float)order, k = nu + 20.0f;
        r = z / (k + 0.5f + ::sqrtf(z * z + (k + 0.5f) * (k + 1.5f)));
        for (int i = 19; i >= 0; i--) r = z / (2.0f * (nu + (float)i + 1.0f) + z * r);
    }
    return x < 0 ? -r : r;
}

// u_kj of Debye's expansion: U_k(p) = p^k sum_j u_kj p^2j.
const int DEBYE_TERMS = 14;
struct Debye {
    double u[DEBYE_TERMS + 1][DEBYE_TERMS + 1];
    constexpr Debye() : u{} {
        u[0][0] = 1;
        for (int k = 0; k < DEBYE_TERMS; k++)
            for (int j = 0; j <= k; j++) {
                const double power = (double)(k + 2 * j);
                u[k + 1][j] += u[k][j] * (0.5 * power + 0.125 / (power + 1));
                u[k + 1][j + 1] -= u[k][j] * (0.5 * power + 0.625 / (power + 3));
            }
    }
};
CONSTANT Debye DEBYE;

DEVICE double log_ive_uniform(double nu, double z) {
    const double s = ::hypot(nu, z), p = nu / s, x = nu / z, ix = 1 / x;
    double sum = 0;
    for (int k = DEBYE_TERMS; k >= 1; k--) {
        double u = 0;
        for (int j = k; j >= 0; j--) u = u * (p * p) + DEBYE.u[k][j];
        sum = (sum + u) / s;
    }
    const double asinh = ::log1p(x + x / (::hypot(1.0, ix) + ix)); // as Rust has it
    return nu * (nu / (s + z)) - nu * asinh - 0.5 * ::log(TAU * s) + ::log1p(sum);
}

// Hankel's expansion.
DEVICE double log_ive_large(double nu, double z) {
    const double square = 4 * nu * nu;
    double term = 1, sum = 0;
    for (int k = 1; k < 60; k++) {
        const double odd = (double)(2 * k - 1), next = term * (odd * odd - square) / (8 * (double)k * z);
        if (next == 0 || (::fabs(next) > ::fabs(term) && odd > 2 * ::fabs(nu))) break;
        sum += next;
        if (::fabs(next) < 1e-18) break;
        term = next;
    }
    return ::log1p(sum) - 0.5 * ::log(TAU * z);
}

DEVICE double log_ive_small(double nu, double z) {
    const double q = 0.25 * z * z;
    double term = 1, sum = 0;
    for (int k = 1; k < 500; k++) {
        term *= q / ((double)k * (nu + (double)k));
        sum += term;
        if (term < sum * 1e-18) break;
    }
    return nu * ::log(0.5 * z) - lgamma(nu + 1) + ::log1p(sum) - z;
}

// ln(e^-z I_nu(z)).
OUTLINE double log_ive(double nu, double z) {
    if (!(nu > -1 && nu < (double)INFINITY && z >= 0)) return (double)NAN;
    if (z == 0) return nu == 0 ? 0 : -nu * (double)INFINITY;
    if (z == (double)INFINITY) return -(double)INFINITY;
    if (nu >= 15) return log_ive_uniform(nu, z);
    const double from = 0.5 * nu * nu;
    return z > (from > 30 ? from : 30.0) ? log_ive_large(nu, z) : log_ive_small(nu, z);
}
} // namespace special
