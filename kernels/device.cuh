// What every kernel of the engine shares: one record of arguments, how a kernel is declared, element types.
//
// The same text is compiled by nvcc for devices and by g++ for the emulator of the tests (DIFFX_EMULATE), so kernels use
// no library of CUDA's, no static shared memory and no launch syntax. fma is written where it is meant (-fmad=false).
#pragma once
#include <math.h>
#include <stdint.h>

// What the fields mean is said above each kernel; `src/cuda/args.rs` mirrors the record.
struct Args {
    unsigned long long p[8]; // device addresses
    long long n[48];         // sizes, strides, codes
    double f[4];
};

#ifdef DIFFX_EMULATE
#include "emulate.h"
#else
#define DEVICE __device__ __forceinline__
#define OUTLINE static __device__ __noinline__ // functions so long that one copy is enough
#define CONSTANT static __device__ const
#define KERNEL(name, threads) extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Args a)
#define SHARED(T, name)                                                                                                \
    extern __shared__ __align__(16) unsigned char diffx_shared[];                                                      \
    T *name = (T *)diffx_shared
#endif

#define TABLE(T, name, count) CONSTANT T name[count]

// Codes of element types, those of base/dtype.rs.
enum { F32 = 1, F16 = 2, BF16 = 3, I32 = 4, I64 = 5, U8 = 6, F64 = 7, BOOL = 8 };

DEVICE uint64_t bits_of(double x) { uint64_t b; memcpy(&b, &x, 8); return b; }
DEVICE double of_bits(uint64_t b) { double x; memcpy(&x, &b, 8); return x; }
DEVICE float float_of_bits(uint32_t b) { float x; memcpy(&x, &b, 4); return x; }
DEVICE uint32_t bits_of_float(float x) { uint32_t b; memcpy(&b, &x, 4); return b; }

// To 11 bits of mantissa and 5 of exponent, or 8 and 8, ties to even: rounded once from f64.
DEVICE uint16_t narrow(double x, int mantissa, int bias, double largest) {
    const uint16_t sign = (uint16_t)(bits_of(x) >> 48) & 0x8000;
    const double size = fabs(x);
    const uint16_t infinity = (uint16_t)((2 * bias + 1) << mantissa);
    if (size != size) return sign | infinity | (uint16_t)(1 << (mantissa - 1));
    if (size >= largest) return sign | infinity;
    const double smallest = of_bits((uint64_t)(1023 + 1 - bias) << 52);
    if (size < smallest) return sign | (uint16_t)rint(size / smallest * (double)(1 << mantissa));
    const int lost = 52 - mantissa;
    uint64_t b = bits_of(size);
    b += ((b >> lost) & 1) + ((1ull << (lost - 1)) - 1);
    return sign | (uint16_t)((b >> lost) - ((uint64_t)(1023 - bias) << mantissa));
}
DEVICE uint16_t half_of(double x) { return narrow(x, 10, 15, 65520.0); }
DEVICE uint16_t bfloat_of(double x) { return narrow(x, 7, 127, 3.3961775292304957e38); }
#ifdef PLANT_SHIFT // a test plants this: the same bits, and a shift that C++17 does not define
DEVICE float of_bfloat(uint16_t h) { return float_of_bits((uint32_t)((int32_t)(int16_t)h << 16)); }
#else
DEVICE float of_bfloat(uint16_t h) { return float_of_bits((uint32_t)h << 16); }
#endif
DEVICE float of_half(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 1023;
    if (e == 31) return float_of_bits(sign | 0x7f800000 | m << 13);
    if (e == 0) return (sign ? -1.0f : 1.0f) * (float)m * 5.9604644775390625e-8f;
    return float_of_bits(sign | (e + 112) << 23 | m << 13);
}

// Float to integer truncates and saturates, NaN to 0.
DEVICE long long whole(double x) {
    if (x != x) return 0;
    if (x >= 9223372036854775807.0) return 0x7fffffffffffffffll;
    if (x <= -9223372036854775808.0) return -0x7fffffffffffffffll - 1;
    return (long long)x;
}
DEVICE long long held(long long x, long long low, long long high) { return x < low ? low : x > high ? high : x; }

// The conversions between register types: to itself, and as `cast` says.
template <class T> struct Number;
template <> struct Number<float> {
    static DEVICE float of(float x) { return x; }
    static DEVICE float of(double x) { return (float)x; }
    static DEVICE float of(long long x) { return (float)x; }
};
template <> struct Number<double> {
    static DEVICE double of(float x) { return x; }
    static DEVICE double of(double x) { return x; }
    static DEVICE double of(long long x) { return (double)x; }
};
template <> struct Number<long long> {
    static DEVICE long long of(float x) { return whole(x); }
    static DEVICE long long of(double x) { return whole(x); }
    static DEVICE long long of(long long x) { return x; }
};

// Integers of a wider register keep their low bits, floats saturate.
DEVICE int32_t as_i32(long long x) { return (int32_t)(uint32_t)(unsigned long long)x; }
DEVICE int32_t as_i32(double x) { return (int32_t)held(whole(x), -2147483648ll, 2147483647ll); }
DEVICE uint8_t as_u8(long long x) { return (uint8_t)(unsigned long long)x; }
DEVICE uint8_t as_u8(double x) { return (uint8_t)held(whole(x), 0, 255); }

// Element i of a tensor as T.
template <class T> DEVICE T get(const void *p, int dtype, long long i) {
    switch (dtype) {
    case F32: return Number<T>::of(((const float *)p)[i]);
    case F64: return Number<T>::of(((const double *)p)[i]);
    case F16: return Number<T>::of(of_half(((const uint16_t *)p)[i]));
    case BF16: return Number<T>::of(of_bfloat(((const uint16_t *)p)[i]));
    case I32: return Number<T>::of((long long)((const int32_t *)p)[i]);
    case I64: return Number<T>::of((long long)((const int64_t *)p)[i]);
    case U8: return Number<T>::of((long long)((const uint8_t *)p)[i]);
    default: return Number<T>::of((long long)(((const uint8_t *)p)[i] != 0));
    }
}

DEVICE void put_whole(void *p, int dtype, long long i, long long x) {
    switch (dtype) {
    case I32: ((int32_t *)p)[i] = as_i32(x); break;
    case I64: ((int64_t *)p)[i] = x; break;
    default: ((uint8_t *)p)[i] = as_u8(x);
    }
}
DEVICE void put_whole(void *p, int dtype, long long i, double x) {
    switch (dtype) {
    case I32: ((int32_t *)p)[i] = as_i32(x); break;
    case I64: ((int64_t *)p)[i] = whole(x); break;
    default: ((uint8_t *)p)[i] = as_u8(x);
    }
}
DEVICE void put_whole(void *p, int dtype, long long i, float x) { put_whole(p, dtype, i, (double)x); }

// Writes x as element i, converted once.
template <class T> DEVICE void put(void *p, int dtype, long long i, T x) {
    switch (dtype) {
    case F32: ((float *)p)[i] = (float)x; break;
    case F64: ((double *)p)[i] = (double)x; break;
    case F16: ((uint16_t *)p)[i] = half_of((double)x); break;
    case BF16: ((uint16_t *)p)[i] = bfloat_of((double)x); break;
    case BOOL: ((uint8_t *)p)[i] = x != (T)0; break;
    default: put_whole(p, dtype, i, x);
    }
}

// Where place `i` of a box of `rank` axes is, its extents at n[dims..] and strides at n[strides..].
DEVICE long long offset_of(const Args &a, int rank, int dims, int strides, long long i) {
    long long at = 0;
    for (int k = rank - 1; k >= 0; k--) {
        const long long d = a.n[dims + k];
        at += i % d * a.n[strides + k];
        i /= d;
    }
    return at;
}

// Number of this thread over the whole grid, of one dimension.
#define THREAD ((long long)blockIdx.x * blockDim.x + threadIdx.x)
