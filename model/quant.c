/* SPDX-License-Identifier: Apache-2.0 */
#include "model/quant.h"

#include "base/error.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 32, HALF = BLOCK / 2 };

static const struct {
    int64_t elements;
    size_t bytes;
} blocks[ER_DTYPE_COUNT] = {
    [ER_F32] = {1, 4},         [ER_F16] = {1, 2},         [ER_BF16] = {1, 2},
    [ER_Q8_0] = {BLOCK, 2 + BLOCK}, [ER_Q4_0] = {BLOCK, 2 + HALF}, [ER_Q4_1] = {BLOCK, 4 + HALF},
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

void er_widen(float *out, const void *data, int dtype, int64_t first, int64_t n)
{
    int64_t block = er_dtype_block(dtype);
    ER_ALWAYS(block && first % block == 0 && n % block == 0);
    const uint8_t *p = (const uint8_t *)data + er_dtype_span(dtype, first);
    size_t step = er_dtype_block_bytes(dtype);
    if (dtype == ER_F32 && n) memcpy(out, p, (size_t)n * sizeof *out);
    if (dtype == ER_BF16) widen_bf16(out, p, n);
    if (dtype == ER_F16)
        for (int64_t i = 0; i < n; i++) out[i] = half_at(p + 2 * i);
    for (int64_t i = 0; block == BLOCK && i < n; i += BLOCK, p += step) {
        if (dtype == ER_Q8_0) widen_q8_0(out + i, p);
        if (dtype == ER_Q4_0) widen_q4_0(out + i, p);
        if (dtype == ER_Q4_1) widen_q4_1(out + i, p);
    }
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
