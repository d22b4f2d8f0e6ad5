/* SPDX-License-Identifier: Apache-2.0 */
#include "model/model_move.h"

#include "model/quant.h"

#include <string.h>

int er_slot_transposed(const er_slot *slot) { return slot->row->order == ER_ORDER_CONV1D && slot->dims == 2; }

/* The output of a GGUF tensor that is output o of the slot. */
static int64_t plain_output(const er_config *c, const er_slot *slot, int64_t o)
{
    int64_t row = 0, before = 0;
    int part = 0;
    er_slot_place(c, slot, o, &part, &row);
    for (int p = 0; p < part; p++) before += er_matrix_rows(c, slot->row->which + p);
    return before + row;
}

/* Rows of a slot that is transposed or goes head by head, from a file that is neither. */
static void widen_reordered(float *out, const er_moving *m, const er_config *c, int64_t first, int64_t n)
{
    enum { SOME = 256 };
    const er_tensor *t = m->from;
    const er_slot *slot = &m->slot;
    const int64_t cols = slot->cols;
    if (er_slot_transposed(slot)) {
        float some[SOME];
        for (int64_t o = 0; o < cols; o++) {
            int64_t from = plain_output(c, slot, o) * slot->rows + first;
            for (int64_t r = 0; r < n; r++) {
                if (r % SOME == 0) er_widen(some, t->data, t->dtype, from + r, n - r < SOME ? n - r : SOME);
                out[r * cols + o] = some[r % SOME];
            }
        }
    } else if (slot->dims == 1) {
        for (int64_t o = 0; o < cols; o++) er_widen(out + o, t->data, t->dtype, plain_output(c, slot, o), 1);
    } else {
        for (int64_t r = 0; r < n; r++)
            er_widen(out + r * cols, t->data, t->dtype, plain_output(c, slot, first + r) * cols, cols);
    }
}

/* Rows first .. first+n-1 of the tensor in Hugging Face's order, as fp32. */
void er_move_widen(float *out, const er_moving *m, const er_config *c, int64_t first, int64_t n)
{
    const er_tensor *t = m->from;
    const int64_t cols = m->slot.cols;
    if (m->reordered) {
        widen_reordered(out, m, c, first, n);
    } else if (!m->head_dim) {
        er_widen(out, t->data, t->dtype, first * cols, n * cols);
    } else if (m->slot.dims == 1) {
        for (int64_t i = 0; i < cols; i++)
            er_widen(out + i, t->data, t->dtype, er_slot_source_row(i, m->head_dim), 1);
    } else {
        for (int64_t r = 0; r < n; r++)
            er_widen(out + r * cols, t->data, t->dtype, er_slot_source_row(first + r, m->head_dim) * cols, cols);
    }
    if (m->minus_one)
        for (int64_t i = 0; i < n * cols; i++) out[i] -= 1.0f;
}

static void copy_value(void *to, int64_t at, const void *from, int64_t i, int dtype)
{
    if (dtype == ER_F32) ((float *)to)[at] = ((const float *)from)[i];
    else ((uint16_t *)to)[at] = ((const uint16_t *)from)[i];
}

/* Values of rows first .. first+n-1 of the tensor go to their parts. */
void er_move_scatter(const er_moving *m, const er_config *c, const void *values, int64_t first, int64_t n)
{
    const er_slot *slot = &m->slot;
    const int64_t cols = slot->cols, size = er_dtype_bytes(m->dtype);
    int transposed = er_slot_transposed(slot), part = 0;
    int64_t row = 0;
    if (transposed || slot->dims == 1) { /* by outputs */
        int64_t inputs = transposed ? slot->rows : 1;
        for (int64_t o = 0; o < cols; o++) {
            er_slot_place(c, slot, o, &part, &row);
            for (int64_t i = 0; i < n; i++) copy_value(m->to[part], row * inputs + first + i, values, i * cols + o, m->dtype);
        }
        return;
    }
    for (int64_t r = 0; r < n; r++) {
        er_slot_place(c, slot, first + r, &part, &row);
        memcpy((uint8_t *)m->to[part] + row * cols * size, (const uint8_t *)values + r * cols * size,
               (size_t)(cols * size));
    }
}
