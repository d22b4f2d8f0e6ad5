/* SPDX-License-Identifier: Apache-2.0 */
/* Internal template: one instruction set's kernels and their table. The including file defines ER_ISA and ER_TABLE. */
#include "model/kernels_table.h"

#include "model/kernels_lanes.h"

#include "model/kernels_rows.h"

#include "model/kernels_activate.h"

#include "model/kernels_attend.h"

#include "model/kernels_product.h"

#define ER_NAME_OF_(x) #x
#define ER_NAME_OF(x) ER_NAME_OF_(x)
#define ER_JOIN_(a, b) a##b
#define ER_JOIN(a, b) ER_JOIN_(a, b)

const er_kernels ER_JOIN(er_kernels_, ER_TABLE) = {
    .name = ER_NAME_OF(ER_TABLE),
    .product = product,
    .product64 = product64,
    .gram64 = gram64,
    .dot = dot,
    .norm64 = norm64,
    .add = add,
    .axpy = axpy,
    .axpy64 = axpy64,
    .rms_norm = rms_norm,
    .rms_norm_back = rms_norm_back,
    .layer_norm = layer_norm,
    .layer_norm_back = layer_norm_back,
    .add_bias = add_bias,
    .scale = scale,
    .round_bf16 = round_bf16,
    .round_f16 = round_f16,
    .activate = activate,
    .activate_back = activate_back,
    .gated = gated,
    .gated_back = gated_back,
    .softcap = softcap,
    .softcap_back = softcap_back,
    .log_sum_exp = log_sum_exp,
    .exp_shifted = exp_shifted,
    .rope = rope,
    .attend = attend,
    .attend_back = attend_back,
};
