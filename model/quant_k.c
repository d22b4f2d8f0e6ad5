/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of 256 with scales of groups inside (layouts: quant.h). Loops go over 16 or 32 neighbouring values, so that
 * compilers vectorise them. */
#include "model/quant.h"

#include <string.h>

enum { HALF = 128, LANE = 32, GROUP = 16 };

static float half_at(const uint8_t *p)
{
    uint16_t bits;
    memcpy(&bits, p, sizeof bits);
    return er_f16_to_float(bits);
}

void er_widen_q2_k(float *out, const uint8_t *p)
{
    const uint8_t *scales = p, *low = p + 16;
    float d = half_at(p + 80), m = half_at(p + 82);
    for (int g = 0; g < 16; g++) {
        const uint8_t *q = low + g / 8 * LANE + g % 2 * GROUP;
        int shift = g % 8 / 2 * 2;
        float scale = d * (float)(scales[g] & 15), least = m * (float)(scales[g] >> 4);
        for (int i = 0; i < GROUP; i++) out[g * GROUP + i] = scale * (float)(q[i] >> shift & 3) - least;
    }
}

/* Six bits each: the low four of 0-7 and 8-15 in the nibbles of the first eight bytes, the high two of g in byte
 * 8 + g % 4. */
static int scale_q3_k(const uint8_t *p, int g)
{
    int low = p[g % 8] >> (g / 8 * 4) & 15, high = p[8 + g % 4] >> (g / 4 * 2) & 3;
    return (low | high << 4) - 32;
}

void er_widen_q3_k(float *out, const uint8_t *p)
{
    const uint8_t *high = p, *low = p + 32, *scales = p + 96;
    float d = half_at(p + 108);
    for (int g = 0; g < 16; g++) {
        const uint8_t *q = low + g / 8 * LANE + g % 2 * GROUP, *h = high + g % 2 * GROUP;
        int shift = g % 8 / 2 * 2, bit = g / 2;
        float scale = d * (float)scale_q3_k(scales, g);
        for (int i = 0; i < GROUP; i++) {
            int value = (q[i] >> shift & 3) + (h[i] >> bit & 1) * 4 - 4;
            out[g * GROUP + i] = scale * (float)value;
        }
    }
}

/* Scale and minimum of group g of 8, six bits each: of 0-3 in bytes 0-3 and 4-7; of 4-7 the low four in the nibbles of
 * bytes 8-11, the high two above those of group g - 4. */
static void scales_q4_k(int *scale, int *least, const uint8_t *p, int g)
{
    if (g < 4) {
        *scale = p[g] & 63;
        *least = p[g + 4] & 63;
    } else {
        *scale = (p[g + 4] & 15) | p[g - 4] >> 6 << 4;
        *least = p[g + 4] >> 4 | p[g] >> 6 << 4;
    }
}

void er_widen_q4_k(float *out, const uint8_t *p)
{
    float d = half_at(p), m = half_at(p + 2);
    for (int g = 0; g < 8; g++) {
        const uint8_t *q = p + 16 + g / 2 * LANE;
        int s = 0, l = 0, shift = g % 2 * 4;
        scales_q4_k(&s, &l, p + 4, g);
        float scale = d * (float)s, least = m * (float)l;
        for (int i = 0; i < LANE; i++) out[g * LANE + i] = scale * (float)(q[i] >> shift & 15) - least;
    }
}

void er_widen_q5_k(float *out, const uint8_t *p)
{
    const uint8_t *high = p + 16;
    float d = half_at(p), m = half_at(p + 2);
    for (int g = 0; g < 8; g++) {
        const uint8_t *q = p + 48 + g / 2 * LANE;
        int s = 0, l = 0, shift = g % 2 * 4;
        scales_q4_k(&s, &l, p + 4, g);
        float scale = d * (float)s, least = m * (float)l;
        for (int i = 0; i < LANE; i++) {
            int value = (q[i] >> shift & 15) | (high[i] >> g & 1) << 4;
            out[g * LANE + i] = scale * (float)value - least;
        }
    }
}

void er_widen_q6_k(float *out, const uint8_t *p)
{
    float d = half_at(p + 208);
    for (int g = 0; g < 16; g++) {
        int lane = g % 8 / 2, at = g % 2 * GROUP;
        const uint8_t *q = p + g / 8 * 64 + lane % 2 * LANE + at, *h = p + HALF + g / 8 * LANE + at;
        int shift = lane / 2 * 4, higher = lane * 2;
        float scale = d * (float)(int8_t)p[192 + g];
        for (int i = 0; i < GROUP; i++) {
            int value = ((q[i] >> shift & 15) | (h[i] >> higher & 3) << 4) - 32;
            out[g * GROUP + i] = scale * (float)value;
        }
    }
}
