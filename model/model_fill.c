/* SPDX-License-Identifier: Apache-2.0 */
/* A source (weights.h) becomes a model: every tensor is found, checked, hashed and, unless it can be used in place,
 * converted. Orientation and order of files end here: behind this file a matrix is (outputs, inputs). */
#include "base/memory.h"
#include "base/tick.h"
#include "model/families.h"
#include "model/model_parts.h"
#include "model/quant.h"

#include <string.h>

enum { CHUNK = 1 << 16, ROPE_POSITIONS = 8192, MOST_PARTS = 3 };

typedef struct filling {
    er_model *model;
    er_hasher *hasher;
    float *chunk;   /* the values of some rows, as fp32 */
    uint16_t *half; /* the same, narrowed */
    int64_t chunk_values;
    int weights; /* how matrices are held */
} filling;

/* One tensor on its way. */
typedef struct moving {
    const er_slot *slot;
    const er_tensor *from;
    int dtype;            /* of to */
    void *to[MOST_PARTS]; /* one for each part */
    int64_t head_dim;     /* of rows that GGUF permutes; 0: they stand as they are */
    int minus_one;        /* GGUF holds 1 + gain */
} moving;

int er_model_own(er_model *model, void *out, size_t count, size_t size, er_err *err)
{
    struct er_model_owner *owner = model->owner;
    void *p = NULL;
    ER_TRY(er_grow(&owner->buffers, &owner->buffer_capacity, owner->buffer_count + 1, err));
    ER_TRY(er_alloc_at(&p, count, size, "weights", err));
    owner->buffers[owner->buffer_count++] = p;
    memcpy(out, &p, sizeof p);
    return 0;
}

/* Files of a bare model leave the prefix of its class out. */
static er_tensor *find_name(const er_source *s, const char *name)
{
    const char *base = er_family_find(s->config.family)->base;
    er_tensor *t = er_tensors_find(&s->tensors, name);
    size_t n = strlen(base);
    if (t || s->gguf || strncmp(name, base, n) != 0) return t;
    return er_tensors_find(&s->tensors, name + n);
}

/* Of a tensor with two names a writer keeps one, not always the embedding's. */
static er_tensor *find_tied(const er_source *s)
{
    const er_family *family = er_family_find(s->config.family);
    for (size_t i = 0; i < family->row_count; i++) {
        const er_slot_row *row = &family->rows[i];
        if (row->kind == ER_SLOT_HEAD) return find_name(s, s->gguf ? row->gguf : row->hf);
    }
    return NULL;
}

static int find_tensor(er_tensor **out, const er_source *s, const er_slot *slot, er_err *err)
{
    char name[ER_TENSOR_NAME];
    er_slot_name(name, &s->config, slot, s->gguf);
    er_tensor *t = find_name(s, name);
    if (!t && s->config.tied && slot->row->kind == ER_SLOT_EMBEDDING) t = find_tied(s);
    const char *path = s->tensors.count ? s->tensors.at[0].path : "?";
    if (!t) return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' is missing", path, name);
    if (!er_dtype_block(t->dtype))
        return er_fail(err, ER_E_UNSUPPORTED, "%s: tensor '%s' has type %s", t->path, name, t->type);
    int vector = slot->dims == 1;
    long long wanted[2] = {vector ? slot->cols : slot->rows, vector ? 1 : slot->cols};
    long long got[2] = {t->dims ? t->shape[0] : 1, t->dims > 1 ? t->shape[1] : 1};
    if (t->dims != slot->dims || got[0] != wanted[0] || got[1] != wanted[1])
        return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' (%s) has %d dimensions, %lld x %lld, expected %lld x %lld",
                       t->path, name, t->type, t->dims, got[0], got[1], wanted[0], wanted[1]);
    t->used = 1;
    *out = t;
    return 0;
}

static int aligned(const void *p, int64_t to) { return (uintptr_t)p % (uintptr_t)to == 0; }

/* Rows first .. first+n-1 of the tensor in Hugging Face's order, as fp32. */
static void widen_rows(float *out, const moving *m, int64_t first, int64_t n)
{
    const er_tensor *t = m->from;
    const int64_t cols = m->slot->cols;
    if (!m->head_dim) {
        er_widen(out, t->data, t->dtype, first * cols, n * cols);
    } else if (m->slot->dims == 1) {
        for (int64_t i = 0; i < cols; i++)
            er_widen(out + i, t->data, t->dtype, er_slot_source_row(i, m->head_dim), 1);
    } else {
        for (int64_t r = 0; r < n; r++)
            er_widen(out + r * cols, t->data, t->dtype, er_slot_source_row(first + r, m->head_dim) * cols, cols);
    }
    if (m->minus_one)
        for (int64_t i = 0; i < n * cols; i++) out[i] -= 1.0f;
}

static void hash_head(filling *f, const er_slot *slot)
{
    char name[ER_TENSOR_NAME];
    er_slot_name(name, &f->model->config, slot, 0);
    er_hasher_text(f->hasher, name);
    er_hasher_number(f->hasher, slot->dims);
    er_hasher_number(f->hasher, slot->rows);
    er_hasher_number(f->hasher, slot->cols);
}

static void copy_value(void *to, int64_t at, const void *from, int64_t i, int dtype)
{
    if (dtype == ER_F32) ((float *)to)[at] = ((const float *)from)[i];
    else ((uint16_t *)to)[at] = ((const uint16_t *)from)[i];
}

/* Values of rows first .. first+n-1 of the tensor go to their parts. */
static void scatter(const filling *f, const moving *m, const void *values, int64_t first, int64_t n)
{
    const er_slot *slot = m->slot;
    const er_config *c = &f->model->config;
    const int64_t cols = slot->cols, size = er_dtype_bytes(m->dtype);
    int transposed = slot->row->order == ER_ORDER_CONV1D && slot->dims == 2, part = 0;
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

/* Values go through the chunk into the hash and, where the tensor is not used in place, to their parts. */
static int convert(filling *f, const moving *m, int keep, er_err *err)
{
    const er_slot *slot = m->slot;
    int64_t step = f->chunk_values / slot->cols;
    for (int64_t row = 0; row < slot->rows; row += step) {
        int64_t n = slot->rows - row < step ? slot->rows - row : step, values = n * slot->cols;
        widen_rows(f->chunk, m, row, n);
        er_hasher_add(f->hasher, f->chunk, (size_t)values * sizeof *f->chunk);
        int64_t lost = keep && m->dtype != ER_F32 ? er_narrow(f->half, m->dtype, f->chunk, values) : 0;
        if (lost)
            return er_fail(err, ER_E_NUMERIC, "%s: tensor '%s': %lld values are too large for %s", m->from->path,
                           m->from->name, (long long)lost, er_dtype_name(m->dtype));
        if (keep) scatter(f, m, m->dtype == ER_F32 ? (const void *)f->chunk : f->half, row, n);
        er_tick();
    }
    return 0;
}

/* Values of part p of a slot: of a matrix or bias its share, else the whole. */
static int64_t part_values(const er_config *c, const er_slot *slot, int part)
{
    if (slot->row->kind != ER_SLOT_MATRIX && slot->row->kind != ER_SLOT_BIAS) return slot->rows * slot->cols;
    int which = slot->row->which + part;
    return er_matrix_rows(c, which) * (slot->dims == 2 ? er_matrix_cols(c, which) : 1);
}

static int is_gain(const er_slot *slot)
{
    return slot->row->kind == ER_SLOT_GAIN || slot->row->kind == ER_SLOT_FINAL_GAIN;
}

static int fill(filling *f, moving *m, const er_slot *slot, er_err *err)
{
    er_model *model = f->model;
    const er_source *s = &model->owner->source;
    const er_config *c = &model->config;
    er_tensor *t = NULL;
    ER_TRY(find_tensor(&t, s, slot, err));
    *m = (moving){.slot = slot, .from = t, .dtype = slot->dims == 1 ? ER_F32 : f->weights};
    m->head_dim = s->gguf && slot->row->permuted ? c->head_dim : 0;
    m->minus_one = s->gguf && c->gain_plus_one && is_gain(slot);
    int in_place = t->dtype == m->dtype && !m->head_dim && !m->minus_one && slot->row->order == ER_ORDER_PLAIN &&
                   aligned(t->data, er_dtype_bytes(m->dtype));
    const uint8_t *next = t->data;
    for (int p = 0; p < slot->parts; p++) {
        int64_t values = part_values(c, slot, p), size = er_dtype_bytes(m->dtype);
        if (in_place) m->to[p] = (void *)(uintptr_t)next; /* read-only from here on */
        else ER_TRY(er_model_own(model, &m->to[p], (size_t)values, (size_t)size, err));
        next += values * size;
    }
    hash_head(f, slot);
    if (in_place && m->dtype == ER_F32) er_hasher_add(f->hasher, t->data, t->bytes);
    else ER_TRY(convert(f, m, !in_place, err));
    er_tick();
    return 0;
}

/* A gain as it multiplies. */
static int put_gain(er_model *model, er_norm *norm, const float *stored, int64_t n, er_err *err)
{
    float *gain = NULL;
    norm->stored = norm->gain = stored;
    if (!model->config.gain_plus_one) return 0;
    ER_TRY(er_model_own(model, &gain, (size_t)n, sizeof *gain, err));
    for (int64_t i = 0; i < n; i++) gain[i] = 1.0f + stored[i];
    norm->gain = gain;
    return 0;
}

static int put(er_model *m, const er_slot *slot, const moving *x, er_err *err)
{
    er_layer *layer = slot->layer < 0 ? NULL : &m->layers[slot->layer];
    er_matrix whole = {x->dtype, slot->rows, slot->cols, x->to[0]};
    switch (slot->row->kind) {
    case ER_SLOT_EMBEDDING: m->embedding = whole; break;
    case ER_SLOT_POSITIONS: m->positions = whole; break;
    case ER_SLOT_PROJECT_IN: m->project_in = whole; break;
    case ER_SLOT_PROJECT_OUT: m->project_out = whole; break;
    case ER_SLOT_HEAD: m->head = whole; break;
    case ER_SLOT_HEAD_BIAS: m->head_bias = x->to[0]; break;
    case ER_SLOT_FINAL_GAIN: return put_gain(m, &m->final_norm, x->to[0], slot->cols, err);
    case ER_SLOT_FINAL_SHIFT: m->final_norm.shift = x->to[0]; break;
    case ER_SLOT_GAIN: return put_gain(m, &layer->norm[slot->row->which], x->to[0], slot->cols, err);
    case ER_SLOT_SHIFT: layer->norm[slot->row->which].shift = x->to[0]; break;
    case ER_SLOT_BIAS:
        for (int p = 0; p < slot->parts; p++) layer->bias[slot->row->which + p] = x->to[p];
        break;
    case ER_SLOT_MATRIX:
        for (int p = 0; p < slot->parts; p++) {
            int which = slot->row->which + p;
            layer->matrix[which] = (er_matrix){x->dtype, er_matrix_rows(&m->config, which),
                                               er_matrix_cols(&m->config, which), x->to[p]};
        }
        break;
    }
    return 0;
}

static int fill_slots(filling *f, er_err *err)
{
    const er_config *c = &f->model->config;
    f->chunk_values = CHUNK;
    for (int64_t i = 0, n = er_slot_count(c); i < n; i++) {
        int64_t cols = er_slot_at(c, i).cols;
        if (cols > f->chunk_values) f->chunk_values = cols;
    }
    ER_TRY(er_alloc(&f->chunk, (size_t)f->chunk_values, err));
    ER_TRY(er_alloc(&f->half, (size_t)f->chunk_values, err));
    er_hasher_text(f->hasher, "errata model 1");
    er_config_hash(f->hasher, c);
    for (int64_t i = 0, n = er_slot_count(c); i < n; i++) {
        er_slot slot = er_slot_at(c, i);
        moving m;
        ER_TRY(fill(f, &m, &slot, err));
        ER_TRY(put(f->model, &slot, &m, err));
    }
    if (c->tied) f->model->head = f->model->embedding;
    f->model->weights = er_hasher_end(f->hasher);
    return 0;
}

static int check_unused(const er_source *s, er_err *err)
{
    const er_family *family = er_family_find(s->config.family);
    for (size_t i = 0; i < s->tensors.count; i++) {
        const er_tensor *t = &s->tensors.at[i];
        int known = t->used;
        for (const char *const *end = family->ignored; *end && !known; end++) {
            size_t n = strlen(t->name), m = strlen(*end);
            known = n >= m && strcmp(t->name + n - m, *end) == 0;
        }
        if (!known)
            return er_fail(err, ER_E_UNSUPPORTED, "%s: tensor '%s' has no place in a %s model", t->path, t->name,
                           family->name);
    }
    return 0;
}

int er_model_fill(er_model *model, int weights, er_err *err)
{
    filling f = {.model = model, .weights = weights};
    int code = er_hasher_new(&f.hasher, err);
    if (!code) code = fill_slots(&f, err);
    er_hasher_free(f.hasher);
    er_free(f.chunk);
    er_free(f.half);
    return code ? code : check_unused(&model->owner->source, err);
}

static int fill_table(er_model *m, er_rope_table *out, int local, er_err *err)
{
    int64_t half = m->config.rope_dim / 2, positions = m->longest_text;
    float *cosine = NULL, *sine = NULL;
    ER_TRY(er_model_own(m, &cosine, (size_t)(positions * half), sizeof *cosine, err));
    ER_TRY(er_model_own(m, &sine, (size_t)(positions * half), sizeof *sine, err));
    for (int64_t i = 0; i < half; i++) {
        float frequency = er_rope_frequency(&m->config, i, local);
        for (int64_t p = 0; p < positions; p++) {
            float angle = (float)p * frequency;
            cosine[p * half + i] = (float)er_math_cos((double)angle);
            sine[p * half + i] = (float)er_math_sin((double)angle);
        }
    }
    *out = (er_rope_table){cosine, sine};
    return 0;
}

int er_model_fill_rope(er_model *m, er_err *err)
{
    const er_config *c = &m->config;
    m->longest_text = c->max_positions;
    if (c->positions == ER_POSITION_LEARNED) return 0;
    if (m->longest_text > ROPE_POSITIONS) m->longest_text = ROPE_POSITIONS;
    ER_TRY(fill_table(m, &m->rope[0], 0, err));
    return c->rope_local_base > 0 ? fill_table(m, &m->rope[1], 1, err) : 0;
}
