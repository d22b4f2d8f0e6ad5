/* SPDX-License-Identifier: Apache-2.0 */
#include "model/tensor.h"

#include <stddef.h>
#include <string.h>

int64_t er_dtype_bytes(int dtype)
{
    switch (dtype) {
    case ER_F32: return 4;
    case ER_F16:
    case ER_BF16: return 2;
    case ER_F64: return 8;
    default: return 0;
    }
}

const char *er_dtype_name(int dtype)
{
    static const char *const names[ER_DTYPE_COUNT] = {"fp32", "fp16", "bf16", "fp64", "q8_0", "q4_0", "q4_1",
                                                      "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"};
    return dtype >= 0 && dtype < ER_DTYPE_COUNT ? names[dtype] : "unknown";
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

float er_bf16_to_float(uint16_t bits)
{
    return float_of((uint32_t)bits << 16);
}

uint16_t er_float_to_bf16(float value)
{
    uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40); /* NaN stays NaN */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float er_f16_to_float(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, magnitude = bits & 0x7fff;
    if (magnitude >= 0x7c00) { /* infinity, or a NaN made quiet as the hardware does */
        uint32_t payload = magnitude & 0x3ff;
        return float_of(sign | 0x7f800000u | payload << 13 | (payload ? 0x400000u : 0));
    }
    if (magnitude >= 0x400) return float_of(sign | ((magnitude << 13) + (112u << 23)));
    return float_of(sign | bits_of((float)magnitude * 0x1p-24f)); /* subnormal: a multiple of 2^-24 */
}

uint16_t er_float_to_f16(float value)
{
    uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* 65520 and more round to infinity */
    if (magnitude < 0x38800000u) { /* below 2^-14: adding 2^-1 leaves multiples of 2^-24 in the low bits, rounded */
        uint32_t sum = bits_of(float_of(magnitude) + 0.5f);
        return (uint16_t)(sign | (sum - 0x3f000000u));
    }
    uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded - (112u << 23)) >> 13);
}
