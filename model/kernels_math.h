/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: the fp32 exponential as straight-line code, so that loops over rows vectorise it and every instruction set
 * computes the same steps. */
#ifndef ER_MODEL_KERNELS_MATH_H
#define ER_MODEL_KERNELS_MATH_H

#include "model/kernels.h"

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

static inline float er_inline_erff(float x)
{
    return er_math_erff(x);
}

static inline float er_inline_tanhf(float x)
{
    return er_math_tanhf(x);
}

#endif
