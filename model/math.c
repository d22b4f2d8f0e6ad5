/* SPDX-License-Identifier: Apache-2.0 */
/* Exponentials and logarithms. Each is an argument reduction that is exact or carries its rounding error along, and a
 * polynomial in Horner form; every fused operation is written as fma, so all compilers and CPUs give the same bits. */
#include "model/kernels.h"
#include "model/kernels_math.h"

#include <math.h>
#include <string.h>

static const double ln2_high = 0x1.62e42p-1; /* 21 bits: a multiple by any exponent is exact */
static const double ln2_low = 0x1.fdf473de6af28p-22;
static const double round_magic = 0x1.8p52; /* adding it rounds to an integer */

static double double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static double horner(const double *c, int n, double x)
{
    double p = c[n - 1];
    for (int i = n - 2; i >= 0; i--) p = fma(p, x, c[i]);
    return p;
}

/* x 2^k, k in [-1100, 1100], rounded once at the end */
static double scale_by(double x, int k)
{
    int half = (k + 2048) / 2 - 1024, rest = k - half;
    return x * double_of((uint64_t)(half + 1023) << 52) * double_of((uint64_t)(rest + 1023) << 52);
}

/* e^(x + x_low), |x_low| far below |x| */
static double exp_pair(double x, double x_low)
{
    static const double c[] = {/* 1/2! ... 1/13! */
        0.5, 0x1.5555555555555p-3, 0x1.5555555555555p-5, 0x1.1111111111111p-7, 0x1.6c16c16c16c17p-10,
        0x1.a01a01a01a01ap-13, 0x1.a01a01a01a01ap-16, 0x1.71de3a556c734p-19, 0x1.27e4fb7789f5cp-22,
        0x1.ae64567f544e4p-26, 0x1.1eed8eff8d898p-29, 0x1.6124613a86d09p-33};
    if (x != x) return x;
    if (x > 710.0) return (double)INFINITY;
    if (x < -746.0) return 0.0;
    double k = fma(x, 0x1.71547652b82fep+0, round_magic) - round_magic;
    double t = fma(-k, ln2_high, x);
    double r = fma(-k, ln2_low, t);
    double r_low = fma(-k, ln2_low, t - r) + x_low;
    double square = r * r, h = horner(c, (int)(sizeof c / sizeof *c), r);
    double p = fma(square, h, fma(fma(square, h, r), r_low, r_low)); /* r_low e^r beside r^2 h */
    return scale_by(1.0 + (r + p), (int)k);
}

/* x = 2^k m, m in [sqrt(1/2), sqrt(2)); x positive and finite */
static double split(double x, int *k)
{
    int offset = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        offset = 54;
    }
    uint64_t bits = bits_of(x);
    int e = (int)((bits - 0x3fe6a09e667f3bcdu + (1024ull << 52)) >> 52) - 1024;
    *k = e - offset;
    return double_of(bits - ((uint64_t)(int64_t)e << 52));
}

double er_math_exp(double x)
{
    return exp_pair(x, 0.0);
}

/* ln m = 2 artanh(s) with s = f / (2 + f), f = m - 1, arranged so that the largest term, f, is exact. */
double er_math_log(double x)
{
    static const double c[] = {/* 2/3, 2/5, ... */
        0x1.5555555555555p-1, 2.0 / 5, 2.0 / 7, 2.0 / 9, 2.0 / 11, 2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21,
        2.0 / 23};
    if (!(x > 0.0)) return x == 0.0 ? (double)-INFINITY : (double)NAN;
    if (x > 0x1.fffffffffffffp+1023) return x;
    int e;
    double f = split(x, &e) - 1.0, k = e;
    double s = f / (2.0 + f), z = s * s;
    double tail = z * horner(c, (int)(sizeof c / sizeof *c), z), half = 0.5 * f * f;
    return k * ln2_high - ((half - fma(s, half + tail, k * ln2_low)) - f);
}

/* ln x as an unevaluated sum of two doubles, relative error below 2^-64 */
static double log_pair(double x, double *low)
{
    static const double c[] = {/* 2/5, 2/7, ... */
        2.0 / 5, 2.0 / 7, 2.0 / 9, 2.0 / 11, 2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21, 2.0 / 23};
    static const double two_thirds = 0x1.5555555555555p-1, two_thirds_low = 0x1.5555555555555p-55;
    int e;
    double m = split(x, &e), k = e, f = m - 1.0;
    double d = m + 1.0, d_low = m - (d - 1.0);
    double s = f / d, s_low = (fma(-s, d, f) - s * d_low) / d;
    double z = s * s, z_low = fma(s, s, -z) + 2.0 * s * s_low;
    double cube = z * s, cube_low = fma(z, s, -cube) + fma(z_low, s, z * s_low);
    double a = two_thirds * cube, a_low = fma(two_thirds, cube, -a) + fma(two_thirds, cube_low, two_thirds_low * cube);
    double tail = z * z * s * horner(c, (int)(sizeof c / sizeof *c), z);
    double whole = k * ln2_high, h = 2.0 * s;
    double sum1 = whole + h, rest1 = h - (sum1 - whole);
    double sum2 = sum1 + a, rest2 = a - (sum2 - sum1);
    double rest = rest1 + rest2 + (tail + (a_low + 2.0 * s_low + k * ln2_low));
    double high = sum2 + rest;
    *low = rest - (high - sum2);
    return high;
}

double er_math_pow(double x, double y)
{
    if (y == 0.0 || x == 1.0) return 1.0;
    if (x != x || y != y || x < 0.0) return (double)NAN;
    if (x == 0.0) return y > 0.0 ? 0.0 : (double)INFINITY;
    if (x > 0x1.fffffffffffffp+1023) return y > 0.0 ? x : 0.0;
    double low, high = log_pair(x, &low), p = y * high;
    if (p > 800.0) return (double)INFINITY;
    if (p < -800.0) return 0.0;
    return exp_pair(p, fma(y, low, fma(y, high, -p)));
}

/* --- fp32, through double: one rounding ----------------------------------------------------------------------- */
float er_math_expf(float x)
{
    return er_inline_expf(x);
}

float er_math_logf(float x)
{
    return (float)er_math_log((double)x);
}

float er_math_tanhf(float x)
{
    double v = (double)x, a = fabs(v);
    if (a < 0x1p-10) return (float)(v * (1.0 - v * v / 3.0));
    if (a > 20.0) return x > 0.0f ? 1.0f : -1.0f;
    return (float)(1.0 - 2.0 / (er_math_exp(2.0 * v) + 1.0));
}

/* Two interpolations at Chebyshev nodes: erf(x)/x on [0, 1] in u = 2 x^2 - 1, e^(x^2) erfc(x) on [1, 4] in
 * u = (x - 2.5)/1.5. From 4 on the result is 1. */
float er_math_erff(float x)
{
    static const double near[] = {0x1.ee51eb23cb88cp-1, -0x1.1fd1629215218p-3, 0x1.454368013bc4dp-6,
        -0x1.2b902b7b1a38cp-9, 0x1.c82aa346d1b99p-13, -0x1.2639920bc06b9p-16, 0x1.4864d6bda3458p-20,
        -0x1.429da96fb5181p-24, 0x1.1c6a2a4908255p-28, -0x1.c1a515de8637ap-33};
    static const double far[] = {0x1.afbb3f3b7343bp-3, -0x1.c8ca440df5167p-4, 0x1.cba83be345892p-5,
        -0x1.ba7456837b480p-6, 0x1.9940676877938p-7, -0x1.6d189fa998f49p-8, 0x1.3b0f820acb939p-9,
        -0x1.0766f767d168dp-10, 0x1.ac97c4844baffp-12, -0x1.58efcf742f85ap-13, 0x1.09f5408a6f805p-14,
        -0x1.58030d5032daep-16, 0x1.01346ec23329ap-17, -0x1.53230afa4f438p-18, 0x1.d7f0babd87886p-20};
    double v = (double)x, a = fabs(v);
    if (x != x) return x;
    if (a >= 4.0) return x > 0.0f ? 1.0f : -1.0f;
    if (a <= 1.0) return (float)(v * horner(near, (int)(sizeof near / sizeof *near), 2.0 * v * v - 1.0));
    double tail = er_math_exp(-a * a) * horner(far, (int)(sizeof far / sizeof *far), (a - 2.5) / 1.5);
    return (float)(x > 0.0f ? 1.0 - tail : tail - 1.0);
}
