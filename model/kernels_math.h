/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: fp32 functions as straight-line code, so that loops over rows vectorise them and every instruction set
 * computes the same steps. Where two formulas meet, both are computed and bits chosen, which no compiler turns into a
 * branch. Errors below 1.5 ulp. */
#ifndef ER_MODEL_KERNELS_MATH_H
#define ER_MODEL_KERNELS_MATH_H

#include <stdint.h>

typedef union er_float_bits {
    float f;
    uint32_t u;
} er_float_bits;

/* e^x = 2^k e^r with k = round(x / ln 2), |r| <= ln 2 / 2. Adding 1.5 x 2^23 rounds to an integer and leaves it in the
 * low mantissa bits. r is exact up to the rounding of the second fma. Taylor to r^7 leaves 5e-9. 2^k is applied in
 * two factors, so that subnormal results round once and k = 128 is reachable. NaN passes both comparisons. */
static inline float er_inline_expf(float x)
{
    float c = x < -104.0f ? -104.0f : x; /* below: rounds to 0; above 89: infinity */
    c = c > 89.0f ? 89.0f : c;
    er_float_bits shifted = {.f = __builtin_fmaf(c, 0x1.715476p+0f, 0x1.8p+23f)};
    float k = shifted.f - 0x1.8p+23f;
    float r = __builtin_fmaf(k, -0x1.62e430p-1f, c);
    r = __builtin_fmaf(k, 0x1.05c610p-29f, r);
    float p = 0x1.a01a02p-13f; /* 1/7! */
    p = __builtin_fmaf(p, r, 0x1.6c16c2p-10f);
    p = __builtin_fmaf(p, r, 0x1.111112p-7f);
    p = __builtin_fmaf(p, r, 0x1.555556p-5f);
    p = __builtin_fmaf(p, r, 0x1.555556p-3f);
    p = __builtin_fmaf(p, r, 0.5f);
    p = __builtin_fmaf(p, r, 1.0f);
    p = __builtin_fmaf(p, r, 1.0f);
    uint32_t n = shifted.u - 0x4b400000u + 512; /* k + 512, positive, so that halving needs no sign */
    uint32_t half = n >> 1, rest = n - half;
    er_float_bits a = {.u = (half - 256 + 127) << 23}, b = {.u = (rest - 256 + 127) << 23};
    return p * a.f * b.f;
}

/* small where |x| < edge, else large (NaN: large), with the sign of x; small and large are not negative. */
static inline float er_inline_joined(float x, float edge, float small, float large)
{
    er_float_bits v = {.f = x}, e = {.f = edge}, s = {.f = small}, l = {.f = large}, r;
    uint32_t sign = v.u & 0x80000000u, below = 0u - (((v.u ^ sign) - e.u) >> 31);
    r.u = (s.u & below) | (l.u & ~below) | sign;
    return r.f;
}

/* Below 1: x + x P(x^2), from there 1 - e^(x Q(x)), where x Q(x) is near ln erfc(x). P and Q are minimax fits of
 * relative error 1.3e-9 and of 4e-10 in the result up to x = 4; from there x Q(x) < -17 and the result is 1. */
static inline float er_inline_erff(float x)
{
    float a = __builtin_fabsf(x), z = a * a;
    float p = 0x1.4c344ep-14f;
    p = __builtin_fmaf(p, z, -0x1.a50b0ep-11f);
    p = __builtin_fmaf(p, z, 0x1.542e10p-8f);
    p = __builtin_fmaf(p, z, -0x1.b7fe90p-6f);
    p = __builtin_fmaf(p, z, 0x1.ce2d50p-4f);
    p = __builtin_fmaf(p, z, -0x1.812740p-2f);
    p = __builtin_fmaf(p, z, 0x1.06eba8p-3f);
    float q = -0x1.da2e0ap-17f;
    q = __builtin_fmaf(q, a, 0x1.716d56p-12f);
    q = __builtin_fmaf(q, a, -0x1.ed6ee0p-9f);
    q = __builtin_fmaf(q, a, 0x1.89a1d8p-6f);
    q = __builtin_fmaf(q, a, -0x1.b46cbep-4f);
    q = __builtin_fmaf(q, a, -0x1.451942p-1f);
    q = __builtin_fmaf(q, a, -0x1.20f24cp+0f);
    return er_inline_joined(x, 1.0f, __builtin_fmaf(p, a, a), 1.0f - er_inline_expf(q * a));
}

/* Below 0.9: x + x^3 P(x^2), a minimax fit of relative error 1.1e-9; from there 1 - 2 / (e^2x + 1). */
static inline float er_inline_tanhf(float x)
{
    float a = __builtin_fabsf(x), z = a * a;
    float p = -0x1.dbbb84p-12f;
    p = __builtin_fmaf(p, z, 0x1.520204p-9f);
    p = __builtin_fmaf(p, z, -0x1.0eb66ep-7f);
    p = __builtin_fmaf(p, z, 0x1.62eb50p-6f);
    p = __builtin_fmaf(p, z, -0x1.b9c9c0p-5f);
    p = __builtin_fmaf(p, z, 0x1.110f36p-3f);
    p = __builtin_fmaf(p, z, -0x1.55554ep-2f);
    return er_inline_joined(x, 0.9f, __builtin_fmaf(p * z, a, a), 1.0f - 2.0f / (er_inline_expf(2.0f * a) + 1.0f));
}

#endif
