/* SPDX-License-Identifier: Apache-2.0 */
/* A source (weights.h) becomes a model: every tensor is found and checked, then hashed and, unless it can be used in
 * place, converted into one block of memory, which processes of a machine may share. Orientation and order of files end
 * here: behind this file a matrix is (outputs, inputs). */
#include "base/memory.h"
#include "base/tick.h"
#include "model/families.h"
#include "model/model_parts.h"
#include "model/quant.h"

#include <string.h>

enum { CHUNK = 1 << 16, ROPE_POSITIONS = 8192, MOST_PARTS = 3, LINE = 64 };

/* One tensor on its way. */
typedef struct moving {
    er_slot slot;
    const er_tensor *from;
    int dtype;              /* of to */
    int in_place;           /* `to` lies in the file's map */
    size_t at[MOST_PARTS];  /* where else each part lies in the block */
    void *to[MOST_PARTS];   /* one for each part */
    int64_t head_dim;       /* of rows that GGUF permutes; 0: they stand as they are */
    int minus_one;          /* GGUF holds 1 + gain */
    int reordered;          /* GGUF holds the outputs one below the other, whatever the order in Hugging Face's file */
} moving;

typedef struct filling {
    er_model *model;
    er_hasher *hasher;
    float *chunk;   /* the values of some rows, as fp32 */
    uint16_t *half; /* the same, narrowed */
    int64_t chunk_values;
    int weights;    /* how matrices are held */
    moving *tensors;
    int64_t count;
    size_t bytes;   /* of the block */
} filling;

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

static int is_transposed(const er_slot *slot) { return slot->row->order == ER_ORDER_CONV1D && slot->dims == 2; }

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
    int vector = slot->dims == 1, turned = s->gguf && is_transposed(slot);
    long long wanted[2] = {vector || turned ? slot->cols : slot->rows, vector ? 1 : turned ? slot->rows : slot->cols};
    long long got[2] = {t->dims ? t->shape[0] : 1, t->dims > 1 ? t->shape[1] : 1};
    if (t->dims != slot->dims || got[0] != wanted[0] || got[1] != wanted[1])
        return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' (%s) has %d dimensions, %lld x %lld, expected %lld x %lld",
                       t->path, name, t->type, t->dims, got[0], got[1], wanted[0], wanted[1]);
    t->used = 1;
    *out = t;
    return 0;
}

static int aligned(const void *p, int64_t to) { return (uintptr_t)p % (uintptr_t)to == 0; }

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
static void widen_reordered(float *out, const moving *m, const er_config *c, int64_t first, int64_t n)
{
    enum { PIECE = 256 };
    const er_tensor *t = m->from;
    const er_slot *slot = &m->slot;
    const int64_t cols = slot->cols;
    if (is_transposed(slot)) {
        float some[PIECE];
        for (int64_t o = 0; o < cols; o++) {
            int64_t from = plain_output(c, slot, o) * slot->rows + first;
            for (int64_t r = 0; r < n; r++) {
                if (r % PIECE == 0) er_widen(some, t->data, t->dtype, from + r, n - r < PIECE ? n - r : PIECE);
                out[r * cols + o] = some[r % PIECE];
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
static void widen_rows(float *out, const moving *m, const er_config *c, int64_t first, int64_t n)
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
    const er_slot *slot = &m->slot;
    const er_config *c = &f->model->config;
    const int64_t cols = slot->cols, size = er_dtype_bytes(m->dtype);
    int transposed = is_transposed(slot), part = 0;
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
static int convert(filling *f, const moving *m, er_err *err)
{
    const er_slot *slot = &m->slot;
    int64_t step = f->chunk_values / slot->cols;
    for (int64_t row = 0; row < slot->rows; row += step) {
        int64_t n = slot->rows - row < step ? slot->rows - row : step, values = n * slot->cols;
        widen_rows(f->chunk, m, &f->model->config, row, n);
        er_hasher_add(f->hasher, f->chunk, (size_t)values * sizeof *f->chunk);
        int64_t lost = !m->in_place && m->dtype != ER_F32 ? er_narrow(f->half, m->dtype, f->chunk, values) : 0;
        if (lost)
            return er_fail(err, ER_E_NUMERIC, "%s: tensor '%s': %lld values are too large for %s", m->from->path,
                           m->from->name, (long long)lost, er_dtype_name(m->dtype));
        if (!m->in_place) scatter(f, m, m->dtype == ER_F32 ? (const void *)f->chunk : f->half, row, n);
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

/* Finds a tensor and decides where it will lie. */
static int lay_out(filling *f, moving *m, const er_slot *slot, er_err *err)
{
    const er_source *s = &f->model->owner->source;
    const er_config *c = &f->model->config;
    er_tensor *t = NULL;
    ER_TRY(find_tensor(&t, s, slot, err));
    *m = (moving){.slot = *slot, .from = t, .dtype = slot->dims == 1 ? ER_F32 : f->weights};
    m->head_dim = s->gguf && slot->row->permuted ? c->head_dim : 0;
    m->minus_one = s->gguf && c->gain_plus_one && is_gain(slot);
    m->reordered = s->gguf && slot->row->order != ER_ORDER_PLAIN;
    m->in_place = t->dtype == m->dtype && !m->head_dim && !m->minus_one && slot->row->order == ER_ORDER_PLAIN &&
                  aligned(t->data, er_dtype_bytes(m->dtype));
    const uint8_t *next = t->data;
    for (int p = 0; p < slot->parts; p++) {
        size_t bytes = (size_t)(part_values(c, slot, p) * er_dtype_bytes(m->dtype));
        m->to[p] = m->in_place ? (void *)(uintptr_t)next : NULL; /* read-only from here on */
        m->at[p] = f->bytes;
        next += bytes;
        if (!m->in_place) f->bytes += (bytes + LINE - 1) / LINE * LINE;
    }
    return 0;
}

static int fill(filling *f, const moving *m, er_err *err)
{
    hash_head(f, &m->slot);
    if (m->in_place && m->dtype == ER_F32) er_hasher_add(f->hasher, m->from->data, m->from->bytes);
    else ER_TRY(convert(f, m, err));
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

static int put(er_model *m, const moving *x, er_err *err)
{
    const er_slot *slot = &x->slot;
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

static int lay_out_all(filling *f, er_err *err)
{
    const er_config *c = &f->model->config;
    f->chunk_values = CHUNK;
    f->count = er_slot_count(c);
    ER_TRY(er_alloc(&f->tensors, (size_t)f->count, err));
    for (int64_t i = 0; i < f->count; i++) {
        er_slot slot = er_slot_at(c, i);
        if (slot.cols > f->chunk_values) f->chunk_values = slot.cols;
        ER_TRY(lay_out(f, &f->tensors[i], &slot, err));
    }
    return 0;
}

static int fill_all(filling *f, er_err *err)
{
    ER_TRY(er_alloc(&f->chunk, (size_t)f->chunk_values, err));
    ER_TRY(er_alloc(&f->half, (size_t)f->chunk_values, err));
    ER_TRY(er_hasher_new(&f->hasher, err));
    er_hasher_text(f->hasher, "errata model 1");
    er_config_hash(f->hasher, &f->model->config);
    for (int64_t i = 0; i < f->count; i++) ER_TRY(fill(f, &f->tensors[i], err));
    f->model->weights = er_hasher_end(f->hasher);
    return 0;
}

/* A tensor that no slot wanted is a part of the model that the engine does not know. */
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

/* The block: shared, or our own; whether it is ours to fill. */
static int take_block(filling *f, const er_shared_memory *shared, int *owner, er_err *err)
{
    void *base = NULL;
    *owner = 1;
    if (shared) ER_TRY(shared->take(shared->context, f->bytes, &base, owner, err));
    if (!base) *owner = 1;
    if (!base) ER_TRY(er_model_own(f->model, &base, f->bytes + 1, 1, err));
    for (int64_t i = 0; i < f->count; i++) {
        moving *m = &f->tensors[i];
        for (int p = 0; p < m->slot.parts && !m->in_place; p++) m->to[p] = (uint8_t *)base + m->at[p];
    }
    return 0;
}

static int agree(const er_shared_memory *shared, int code, er_hash *hash, er_err *err)
{
    return shared ? shared->settle(shared->context, code, hash, err) : code;
}

static int fill_model(filling *f, const er_shared_memory *shared, er_err *err)
{
    er_model *m = f->model;
    int owner = 1, code = lay_out_all(f, err);
    if (!code) code = check_unused(&m->owner->source, err);
    ER_TRY(agree(shared, code, NULL, err)); /* nobody waits for memory that another does not want */
    ER_TRY(take_block(f, shared, &owner, err));
    code = owner ? fill_all(f, err) : 0;
    ER_TRY(agree(shared, code, &m->weights, err));
    for (int64_t i = 0; i < f->count; i++) ER_TRY(put(m, &f->tensors[i], err));
    if (m->config.tied) m->head = m->embedding;
    return 0;
}

int er_model_fill(er_model *model, int weights, const er_shared_memory *shared, er_err *err)
{
    filling f = {.model = model, .weights = weights};
    int code = fill_model(&f, shared, err);
    er_hasher_free(f.hasher);
    er_free(f.tensors);
    er_free(f.chunk);
    er_free(f.half);
    return code;
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
