/* SPDX-License-Identifier: Apache-2.0 */
/* Element types and matrices as the engine sees them. */
#ifndef ER_MODEL_TENSOR_H
#define ER_MODEL_TENSOR_H

#include <stdint.h>

enum er_dtype {
    ER_F32, ER_F16, ER_BF16, ER_F64,
    ER_Q8_0, ER_Q4_0, ER_Q4_1, ER_Q5_0, ER_Q5_1,   /* blocks of 32 (model/quant.h) */
    ER_Q2_K, ER_Q3_K, ER_Q4_K, ER_Q5_K, ER_Q6_K,   /* blocks of 256 */
    ER_DTYPE_COUNT
};

/* A weight matrix W of a linear map y = W x: row-major (rows = outputs, cols = inputs), as Hugging Face's Linear
 * stores it. dtype is ER_F32, ER_BF16 or ER_F16; 16-bit weights are widened in registers, which is exact.
 * Borrowed: whoever made the model or the overlay owns data. */
typedef struct er_matrix {
    int dtype;
    int64_t rows, cols;
    const void *data;
} er_matrix;

int64_t er_dtype_bytes(int dtype); /* of one element; 0 for block types */
const char *er_dtype_name(int dtype);

/* Exact widenings and round-to-nearest-even narrowings. */
float er_bf16_to_float(uint16_t bits);
uint16_t er_float_to_bf16(float value);
float er_f16_to_float(uint16_t bits);
uint16_t er_float_to_f16(float value);

#endif
