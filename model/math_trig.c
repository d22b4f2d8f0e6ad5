/* SPDX-License-Identifier: Apache-2.0 */
/* Sine and cosine for |x| < 2^20: x - n pi/2 as a sum of two doubles, then Taylor on [-pi/4, pi/4]. */
#include "model/kernels.h"

#include <math.h>

typedef struct reduced {
    double high, low; /* in [-pi/4, pi/4], a little more at the ends */
    int quadrant;
} reduced;

/* pi/2 in three parts of 53 bits. n has at most 20 bits, so x - n part1 is exact in one fma; n part2 is split into
 * two doubles, because near a multiple of pi/2 it is as large as what remains. */
static reduced reduce(double x)
{
    static const double part1 = 0x1.921fb54442d18p+0, part2 = 0x1.1a62633145c07p-54, part3 = -0x1.f1976b7ed8fbcp-110;
    double n = fma(x, 0x1.45f306dc9c883p-1, 0x1.8p52) - 0x1.8p52;
    double t = fma(-n, part1, x);
    double a = n * part2, a_low = fma(n, part2, -a);
    double s = t - a, back = s - t;
    double s_low = (t - (s - back)) - (a + back);
    s_low = fma(-n, part3, s_low - a_low);
    reduced r;
    r.high = s + s_low;
    r.low = s_low - (r.high - s);
    r.quadrant = (int)((int64_t)n & 3);
    return r;
}

static double sine(double x, double low)
{
    static const double c[] = {-0x1.5555555555555p-3, 0x1.1111111111111p-7, -0x1.a01a01a01a01ap-13,
        0x1.71de3a556c734p-19, -0x1.ae64567f544e4p-26, 0x1.6124613a86d09p-33, -0x1.ae7f3e733b81fp-41,
        0x1.952c77030ad4ap-49};
    double z = x * x, p = c[7];
    for (int i = 6; i >= 0; i--) p = fma(p, z, c[i]);
    return x + fma(x * z, p, low * fma(-0.5, z, 1.0));
}

static double cosine(double x, double low)
{
    static const double c[] = {0x1.5555555555555p-5, -0x1.6c16c16c16c17p-10, 0x1.a01a01a01a01ap-16,
        -0x1.27e4fb7789f5cp-22, 0x1.1eed8eff8d898p-29, -0x1.93974a8c07c9dp-37, 0x1.ae7f3e733b81fp-45};
    double z = x * x, p = c[6];
    for (int i = 5; i >= 0; i--) p = fma(p, z, c[i]);
    double half = 0.5 * z, w = 1.0 - half;
    return w + ((1.0 - w - half) + fma(z * z, p, -x * low));
}

static double turn(double x, int quarter)
{
    if (!(fabs(x) < 0x1p20)) return (double)NAN; /* outside the contract: say so rather than be wrong */
    reduced r = reduce(x);
    int q = (r.quadrant + quarter) & 3;
    double value = q & 1 ? cosine(r.high, r.low) : sine(r.high, r.low);
    return q & 2 ? -value : value;
}

double er_math_sin(double x)
{
    if (fabs(x) < 0x1p-30) return x;
    return turn(x, 0);
}

double er_math_cos(double x)
{
    return turn(x, 1);
}
