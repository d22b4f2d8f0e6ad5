/* SPDX-License-Identifier: Apache-2.0 */
/* Internal to model/: element types of weights files widened to fp32.
 *
 * Block types hold 32 or 256 values q with a scale d and, where the table has m, a minimum, both fp16. The formulas are
 * evaluated in fp32 from left to right, each operation rounded, as the format's Python package does.
 *     blocks of 32: the first 16 values in low nibbles, the other 16 in high ones; fifth bits by value in a word h
 *         Q8_0: d, 32 x int8                         d * q
 *         Q4_0: d, 16 bytes                          d * (q - 8)
 *         Q4_1: d, m, 16 bytes                       d * q + m
 *         Q5_0: d, h, 16 bytes                       d * (q - 16)
 *         Q5_1: d, m, h, 16 bytes                    d * q + m
 *     blocks of 256, in groups of 16 or 32 with a scale s and where m is a minimum l of their own (small integers):
 *         Q2_K: 16 bytes (s low, l high nibble), 64 bytes, d, m    (d * s) * q - (m * l)      groups of 16
 *         Q3_K: 32 bytes of third bits, 64 bytes, 12 bytes of s, d (d * (s - 32)) * (q - 4)   groups of 16
 *         Q4_K: d, m, 12 bytes of s and l, 128 bytes               (d * s) * q - (m * l)      groups of 32
 *         Q5_K: the same, 32 bytes of fifth bits before the 128    (d * s) * q - (m * l)      groups of 32
 *         Q6_K: 128 bytes, 64 bytes of high bits, 16 int8 s, d     (d * s) * (q - 32)         groups of 16
 *       quarters: values l, l + 32, l + 64, l + 96 of a half lie in the same byte (the two-bit types), values l and
 *       l + 32 of a quarter in the same byte (Q4_K, Q5_K), values l and l + 64 of a half in the same byte (Q6_K). */
#ifndef ER_MODEL_QUANT_H
#define ER_MODEL_QUANT_H

#include "model/tensor.h"

#include <stddef.h>
#include <stdint.h>

enum { ER_BLOCK_MOST = 256 };

/* Elements that stand or fall together: 1, or 32 or 256 for block types; 0 for types that er_widen cannot read. */
int64_t er_dtype_block(int dtype);
size_t er_dtype_block_bytes(int dtype);
/* Bytes of n elements, n a multiple of the block. */
size_t er_dtype_span(int dtype, int64_t n);

/* out[0..n-1] = elements first .. first+n-1 of data, as fp32: any range. data may be unaligned and holds every block
 * that the range touches. dtype: any of enum er_dtype but ER_F64. */
void er_widen(float *out, const void *data, int dtype, int64_t first, int64_t n);

/* Rounds to nearest even into dtype (ER_F32, ER_F16, ER_BF16). Returns the number of finite values that became
 * infinite. */
int64_t er_narrow(void *out, int dtype, const float *values, int64_t n);

/* One block of 256 at p; internal to quant*.c. */
void er_widen_q2_k(float *out, const uint8_t *p);
void er_widen_q3_k(float *out, const uint8_t *p);
void er_widen_q4_k(float *out, const uint8_t *p);
void er_widen_q5_k(float *out, const uint8_t *p);
void er_widen_q6_k(float *out, const uint8_t *p);

#endif
