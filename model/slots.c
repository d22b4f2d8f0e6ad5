/* SPDX-License-Identifier: Apache-2.0 */
/* The tensors of a model, in one order: what a family's rows say, for a configuration. */
#include "model/families.h"

#include <stdio.h>
#include <string.h>

static int in_layer(const er_slot_row *row)
{
    return row->kind == ER_SLOT_MATRIX || row->kind == ER_SLOT_BIAS || row->kind == ER_SLOT_GAIN ||
           row->kind == ER_SLOT_SHIFT;
}

static const er_family *family_of(const er_config *c)
{
    const er_family *f = er_family_find(c->family);
    ER_ALWAYS(f);
    return f;
}

static int present(const er_slot_row *row, const er_config *c) { return !row->when || row->when(c); }

/* Rows that are there: once before the layers, in each layer, once after them. */
typedef struct census {
    int64_t before, each, after;
} census;

static census count_rows(const er_config *c)
{
    const er_family *f = family_of(c);
    census n = {0, 0, 0};
    for (size_t i = 0; i < f->row_count; i++) {
        const er_slot_row *row = &f->rows[i];
        if (!present(row, c)) continue;
        if (in_layer(row)) n.each++;
        else if (n.each) n.after++;
        else n.before++;
    }
    return n;
}

static const er_slot_row *row_at(const er_config *c, int64_t index)
{
    const er_family *f = family_of(c);
    for (size_t i = 0; i < f->row_count; i++)
        if (present(&f->rows[i], c) && index-- == 0) return &f->rows[i];
    return NULL;
}

int64_t er_slot_count(const er_config *c)
{
    census n = count_rows(c);
    return n.before + n.each * c->layers + n.after;
}

int64_t er_matrix_rows(const er_config *c, int which)
{
    switch (which) {
    case ER_MATRIX_Q: return c->heads * c->head_dim;
    case ER_MATRIX_K:
    case ER_MATRIX_V: return c->kv_heads * c->head_dim;
    case ER_MATRIX_GATE:
    case ER_MATRIX_UP: return c->inner;
    default: return c->hidden;
    }
}

int64_t er_matrix_cols(const er_config *c, int which)
{
    return which == ER_MATRIX_O ? c->heads * c->head_dim : which == ER_MATRIX_DOWN ? c->inner : c->hidden;
}

static int64_t norm_width(const er_config *c, int which)
{
    if (which != ER_NORM_Q && which != ER_NORM_K) return c->hidden;
    int64_t heads = which == ER_NORM_Q ? c->heads : c->kv_heads;
    return c->qk_norm == ER_QK_HEAD ? c->head_dim : heads * c->head_dim;
}

static void set_shape(er_slot *slot, int64_t rows, int64_t cols)
{
    slot->rows = rows;
    slot->cols = cols;
    slot->dims = 2;
}

static void shape_of_parts(er_slot *slot, const er_config *c)
{
    const er_slot_row *row = slot->row;
    int64_t outputs = 0, inputs = er_matrix_cols(c, row->which);
    for (int p = 0; p < slot->parts; p++) outputs += er_matrix_rows(c, row->which + p);
    if (row->kind == ER_SLOT_BIAS) slot->cols = outputs;
    else if (row->order == ER_ORDER_CONV1D) set_shape(slot, inputs, outputs);
    else set_shape(slot, outputs, inputs);
}

static void shape_of(er_slot *slot, const er_config *c)
{
    switch (slot->row->kind) {
    case ER_SLOT_EMBEDDING:
    case ER_SLOT_HEAD: set_shape(slot, c->vocab, c->embedding_width); break;
    case ER_SLOT_POSITIONS: set_shape(slot, c->position_offset + c->max_positions, c->hidden); break;
    case ER_SLOT_PROJECT_IN: set_shape(slot, c->hidden, c->embedding_width); break;
    case ER_SLOT_PROJECT_OUT: set_shape(slot, c->embedding_width, c->hidden); break;
    case ER_SLOT_MATRIX:
    case ER_SLOT_BIAS: shape_of_parts(slot, c); break;
    case ER_SLOT_GAIN:
    case ER_SLOT_SHIFT: slot->cols = norm_width(c, slot->row->which); break;
    case ER_SLOT_HEAD_BIAS: slot->cols = c->vocab; break;
    case ER_SLOT_FINAL_GAIN:
    case ER_SLOT_FINAL_SHIFT: slot->cols = c->hidden; break;
    }
}

er_slot er_slot_at(const er_config *c, int64_t index)
{
    census n = count_rows(c);
    int64_t in_layers = n.each * c->layers;
    er_slot slot = {.layer = -1, .rows = 1, .dims = 1};
    if (index >= n.before && index < n.before + in_layers) {
        slot.layer = (index - n.before) / n.each;
        index = n.before + (index - n.before) % n.each;
    } else if (index >= n.before + in_layers) {
        index -= in_layers - n.each;
    }
    slot.row = row_at(c, index);
    ER_ALWAYS(slot.row);
    slot.parts = slot.row->parts ? slot.row->parts : 1;
    shape_of(&slot, c);
    return slot;
}

/* The prefixes are our own literals with one %d: written out, so that the compiler need not trust a variable format. */
static void put_name(char *text, size_t size, const char *prefix, int64_t layer, const char *rest)
{
    const char *mark = strstr(prefix, "%d");
    snprintf(text, size, "%.*s%lld%s%s", (int)(mark - prefix), prefix, (long long)layer, mark + 2, rest);
}

void er_slot_name(char text[ER_TENSOR_NAME], const er_config *c, const er_slot *slot, int gguf)
{
    const er_family *f = family_of(c);
    const char *name = gguf ? slot->row->gguf : slot->row->hf;
    if (slot->layer < 0) {
        snprintf(text, ER_TENSOR_NAME, "%s", name);
    } else {
        put_name(text, ER_TENSOR_NAME, gguf ? f->gguf_layer : f->hf_layer, slot->layer, name);
    }
}

int64_t er_slot_source_row(int64_t row, int64_t head_dim)
{
    int64_t head = row / head_dim, within = row % head_dim, half = head_dim / 2;
    return head * head_dim + (within % half) * 2 + within / half;
}

void er_slot_place(const er_config *c, const er_slot *slot, int64_t r, int *part, int64_t *row)
{
    *part = 0;
    *row = r;
    if (slot->row->order == ER_ORDER_BY_HEAD) { /* every part has the same heads */
        int64_t all = slot->parts * c->head_dim;
        *part = (int)(r % all / c->head_dim);
        *row = r / all * c->head_dim + r % c->head_dim;
        return;
    }
    while (*part + 1 < slot->parts && *row >= er_matrix_rows(c, slot->row->which + *part))
        *row -= er_matrix_rows(c, slot->row->which + (*part)++);
}

void er_matrix_name(char *text, size_t size, const er_config *c, int64_t layer, enum er_matrix_id which)
{
    const er_family *f = family_of(c);
    text[0] = 0;
    for (size_t i = 0; i < f->row_count; i++) {
        const er_slot_row *row = &f->rows[i];
        int parts = row->parts ? row->parts : 1;
        if (row->kind == ER_SLOT_MATRIX && (int)which >= row->which && (int)which < row->which + parts)
            put_name(text, size, f->hf_layer, layer, row->hf);
    }
}
