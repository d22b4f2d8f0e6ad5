/* SPDX-License-Identifier: Apache-2.0 */
#include "model/quant.h"

#include "base/error.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 32, HALF = BLOCK / 2 };

static void widen_q8_0(float *out, const uint8_t *p);
static void widen_q4_0(float *out, const uint8_t *p);
static void widen_q4_1(float *out, const uint8_t *p);
static void widen_q5_0(float *out, const uint8_t *p);
static void widen_q5_1(float *out, const uint8_t *p);

static const struct {
    int64_t elements;
    size_t bytes;
    void (*widen)(float *out, const uint8_t *p);
} blocks[ER_DTYPE_COUNT] = {
    [ER_F32] = {1, 4, NULL},
    [ER_F16] = {1, 2, NULL},
    [ER_BF16] = {1, 2, NULL},
    [ER_Q8_0] = {BLOCK, 2 + BLOCK, widen_q8_0},
    [ER_Q4_0] = {BLOCK, 2 + HALF, widen_q4_0},
    [ER_Q4_1] = {BLOCK, 4 + HALF, widen_q4_1},
    [ER_Q5_0] = {BLOCK, 6 + HALF, widen_q5_0},
    [ER_Q5_1] = {BLOCK, 8 + HALF, widen_q5_1},
    [ER_Q2_K] = {ER_BLOCK_MOST, 84, er_widen_q2_k},
    [ER_Q3_K] = {ER_BLOCK_MOST, 110, er_widen_q3_k},
    [ER_Q4_K] = {ER_BLOCK_MOST, 144, er_widen_q4_k},
    [ER_Q5_K] = {ER_BLOCK_MOST, 176, er_widen_q5_k},
    [ER_Q6_K] = {ER_BLOCK_MOST, 210, er_widen_q6_k},
};

static int known(int dtype) { return dtype >= 0 && dtype < ER_DTYPE_COUNT; }

int64_t er_dtype_block(int dtype) { return known(dtype) ? blocks[dtype].elements : 0; }

size_t er_dtype_block_bytes(int dtype) { return known(dtype) ? blocks[dtype].bytes : 0; }

size_t er_dtype_span(int dtype, int64_t n)
{
    int64_t block = er_dtype_block(dtype);
    return block ? (size_t)(n / block) * er_dtype_block_bytes(dtype) : 0;
}

static float half_at(const uint8_t *p)
{
    uint16_t bits;
    memcpy(&bits, p, sizeof bits);
    return er_f16_to_float(bits);
}

static void widen_bf16(float *out, const uint8_t *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, p + 2 * i, sizeof bits);
        uint32_t wide = (uint32_t)bits << 16;
        memcpy(&out[i], &wide, sizeof wide);
    }
}

/* er_f16_to_float without branches, which compilers vectorise. A subnormal is what its fraction adds to 2^-14. */
static void widen_f16(float *restrict out, const uint8_t *restrict p, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, p + 2 * i, sizeof bits);
        uint32_t magnitude = bits & 0x7fffu, normal = (magnitude << 13) + (112u << 23);
        uint32_t above = magnitude << 13 | 113u << 23, small;
        float value;
        memcpy(&value, &above, sizeof value);
        value -= 0x1p-14f;
        memcpy(&small, &value, sizeof small);
        uint32_t wide = magnitude < 0x400 ? small : normal;
        wide |= magnitude >= 0x7c00 ? 0x7f800000u : 0;
        wide |= magnitude > 0x7c00 ? 0x400000u : 0;
        wide |= (uint32_t)(bits & 0x8000) << 16;
        memcpy(&out[i], &wide, sizeof wide);
    }
}

static void widen_q8_0(float *out, const uint8_t *p)
{
    float d = half_at(p);
    for (int i = 0; i < BLOCK; i++) out[i] = d * (float)(int8_t)p[2 + i];
}

static void widen_q4_0(float *out, const uint8_t *p)
{
    float d = half_at(p);
    for (int i = 0; i < HALF; i++) {
        out[i] = d * (float)((p[2 + i] & 15) - 8);
        out[i + HALF] = d * (float)((p[2 + i] >> 4) - 8);
    }
}

static void widen_q4_1(float *out, const uint8_t *p)
{
    float d = half_at(p), m = half_at(p + 2);
    for (int i = 0; i < HALF; i++) {
        out[i] = d * (float)(p[4 + i] & 15) + m;
        out[i + HALF] = d * (float)(p[4 + i] >> 4) + m;
    }
}

/* Bits 4 of the 32 values, in the order of the values. */
static uint32_t fifth_bits(const uint8_t *p)
{
    uint32_t bits;
    memcpy(&bits, p, sizeof bits);
    return bits;
}

static void widen_q5_0(float *out, const uint8_t *p)
{
    float d = half_at(p);
    uint32_t high = fifth_bits(p + 2);
    for (int i = 0; i < HALF; i++) {
        out[i] = d * (float)(((p[6 + i] & 15) | (int)(high >> i & 1) << 4) - 16);
        out[i + HALF] = d * (float)((p[6 + i] >> 4 | (int)(high >> (i + HALF) & 1) << 4) - 16);
    }
}

static void widen_q5_1(float *out, const uint8_t *p)
{
    float d = half_at(p), m = half_at(p + 2);
    uint32_t high = fifth_bits(p + 4);
    for (int i = 0; i < HALF; i++) {
        out[i] = d * (float)((p[8 + i] & 15) | (int)(high >> i & 1) << 4) + m;
        out[i + HALF] = d * (float)(p[8 + i] >> 4 | (int)(high >> (i + HALF) & 1) << 4) + m;
    }
}

static void widen_plain(float *out, const uint8_t *p, int dtype, int64_t n)
{
    if (dtype == ER_F32 && n) memcpy(out, p, (size_t)n * sizeof *out);
    if (dtype == ER_BF16) widen_bf16(out, p, n);
    if (dtype == ER_F16) widen_f16(out, p, n);
}

/* Values from .. from+n-1 of one block. */
static void widen_part(float *out, const uint8_t *p, int dtype, int64_t from, int64_t n)
{
    float whole[ER_BLOCK_MOST];
    blocks[dtype].widen(whole, p);
    memcpy(out, whole + from, (size_t)n * sizeof *out);
}

void er_widen(float *out, const void *data, int dtype, int64_t first, int64_t n)
{
    int64_t block = er_dtype_block(dtype), within = block ? first % block : 0;
    ER_ALWAYS(block && first >= 0 && n >= 0);
    const uint8_t *p = (const uint8_t *)data + er_dtype_span(dtype, first);
    size_t step = er_dtype_block_bytes(dtype);
    if (!blocks[dtype].widen) {
        widen_plain(out, p, dtype, n);
        return;
    }
    if (within && n) {
        int64_t part = block - within < n ? block - within : n;
        widen_part(out, p, dtype, within, part);
        out += part;
        n -= part;
        p += step;
    }
    for (; n >= block; n -= block, out += block, p += step) blocks[dtype].widen(out, p);
    if (n) widen_part(out, p, dtype, 0, n);
}

int64_t er_narrow(void *out, int dtype, const float *values, int64_t n)
{
    int64_t lost = 0;
    if (dtype == ER_F32) {
        if (n) memcpy(out, values, (size_t)n * sizeof *values);
        return 0;
    }
    ER_ALWAYS(dtype == ER_F16 || dtype == ER_BF16);
    uint16_t *to = out, infinity = dtype == ER_F16 ? 0x7c00 : 0x7f80;
    for (int64_t i = 0; i < n; i++) {
        to[i] = dtype == ER_F16 ? er_float_to_f16(values[i]) : er_float_to_bf16(values[i]);
        lost += (to[i] & 0x7fff) == infinity && isfinite(values[i]);
    }
    return lost;
}
