/* SPDX-License-Identifier: Apache-2.0 */
/* Internal to model/: element types of weights files widened to fp32.
 *
 * Block types hold 32 values q with a scale d, and Q4_1 a minimum m, both fp16:
 *     Q8_0: d, 32 x int8              value = d * q
 *     Q4_0: d, 16 bytes of two nibbles value = d * (q - 8)
 *     Q4_1: d, m, 16 bytes            value = d * q + m, rounded after the product and after the sum
 * Low nibbles are the first 16 values, high nibbles the second. */
#ifndef ER_MODEL_QUANT_H
#define ER_MODEL_QUANT_H

#include "model/tensor.h"

#include <stddef.h>
#include <stdint.h>

/* Elements that stand or fall together: 1, or 32 for block types; 0 for types that er_widen cannot read. */
int64_t er_dtype_block(int dtype);
size_t er_dtype_block_bytes(int dtype);
/* Bytes of n elements, n a multiple of the block. */
size_t er_dtype_span(int dtype, int64_t n);

/* out[0..n-1] = elements first .. first+n-1 of data, as fp32. first and n are multiples of the block; data may be
 * unaligned. dtype: any of enum er_dtype but ER_F64. */
void er_widen(float *out, const void *data, int dtype, int64_t first, int64_t n);

/* Rounds to nearest even into dtype (ER_F32, ER_F16, ER_BF16). Returns the number of finite values that became
 * infinite. */
int64_t er_narrow(void *out, int dtype, const float *values, int64_t n);

#endif
