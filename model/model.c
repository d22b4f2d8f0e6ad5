/* SPDX-License-Identifier: Apache-2.0 */
/* A source (weights.h) becomes a model: every tensor is found, checked, hashed and, unless it can be used in place,
 * converted. */
#include "model/model.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/tick.h"
#include "model/kernels.h"
#include "model/quant.h"
#include "model/weights.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1 << 16, ROPE_POSITIONS = 8192 };

struct er_model_owner {
    er_source source;
    void **buffers;
    size_t buffer_count, buffer_capacity;
};

/* One tensor on its way. */
typedef struct filling {
    er_model *model;
    er_hasher *hasher;
    float *chunk; /* the values of some rows, as fp32 */
    int64_t chunk_values;
    int weights; /* how matrices are held */
} filling;

static int own(struct er_model_owner *owner, void *out, size_t count, size_t size, er_err *err)
{
    void *p = NULL;
    ER_TRY(er_grow(&owner->buffers, &owner->buffer_capacity, owner->buffer_count + 1, err));
    ER_TRY(er_alloc_at(&p, count, size, "weights", err));
    owner->buffers[owner->buffer_count++] = p;
    memcpy(out, &p, sizeof p);
    return 0;
}

/* Of a tensor with two names a writer keeps one, not always the embedding's. */
static er_tensor *find_tied(const er_source *s, const er_slot *embedding)
{
    char name[ER_TENSOR_NAME];
    er_slot head = *embedding;
    while (head.row->kind != ER_SLOT_HEAD) head.row++;
    er_slot_name(name, &s->config, &head, s->gguf);
    return er_tensors_find(&s->tensors, name);
}

static int find_tensor(er_tensor **out, const er_source *s, const er_slot *slot, er_err *err)
{
    char name[ER_TENSOR_NAME];
    er_slot_name(name, &s->config, slot, s->gguf);
    er_tensor *t = er_tensors_find(&s->tensors, name);
    if (!t && s->config.tied && slot->row->kind == ER_SLOT_EMBEDDING) t = find_tied(s, slot);
    const char *path = s->tensors.count ? s->tensors.at[0].path : "?";
    if (!t) return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' is missing", path, name);
    if (!er_dtype_block(t->dtype))
        return er_fail(err, ER_E_UNSUPPORTED, "%s: tensor '%s' has type %s", t->path, name, t->type);
    int gain = slot->dims == 1;
    long long wanted[2] = {gain ? slot->cols : slot->rows, gain ? 1 : slot->cols};
    long long got[2] = {t->dims ? t->shape[0] : 1, t->dims > 1 ? t->shape[1] : 1};
    if (t->dims != slot->dims || got[0] != wanted[0] || got[1] != wanted[1])
        return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' (%s) has %d dimensions, %lld x %lld, expected %lld x %lld",
                       t->path, name, t->type, t->dims, got[0], got[1], wanted[0], wanted[1]);
    t->used = 1;
    *out = t;
    return 0;
}

static int aligned(const void *p, int64_t to) { return (uintptr_t)p % (uintptr_t)to == 0; }

/* Rows first .. first+n-1 of the model as fp32. */
static void widen_rows(float *out, const er_tensor *t, const er_slot *slot, int64_t head_dim, int64_t first, int64_t n)
{
    if (!head_dim) {
        er_widen(out, t->data, t->dtype, first * slot->cols, n * slot->cols);
        return;
    }
    for (int64_t r = 0; r < n; r++)
        er_widen(out + r * slot->cols, t->data, t->dtype, er_slot_source_row(first + r, head_dim) * slot->cols,
                 slot->cols);
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

/* Values go through the chunk into the hash and, where the tensor is not used in place, to `out` as `dtype`. */
static int convert(filling *f, void *out, int dtype, const er_tensor *t, const er_slot *slot, er_err *err)
{
    int64_t head_dim = f->model->owner->source.gguf && slot->row->permuted ? f->model->config.head_dim : 0;
    int64_t step = f->chunk_values / slot->cols;
    for (int64_t row = 0; row < slot->rows; row += step) {
        int64_t n = slot->rows - row < step ? slot->rows - row : step, values = n * slot->cols;
        widen_rows(f->chunk, t, slot, head_dim, row, n);
        er_hasher_add(f->hasher, f->chunk, (size_t)values * sizeof *f->chunk);
        uint8_t *to = out ? (uint8_t *)out + row * slot->cols * er_dtype_bytes(dtype) : NULL;
        int64_t lost = to ? er_narrow(to, dtype, f->chunk, values) : 0;
        if (lost)
            return er_fail(err, ER_E_NUMERIC, "%s: tensor '%s': %lld values are too large for %s", t->path, t->name,
                           (long long)lost, er_dtype_name(dtype));
        er_tick();
    }
    return 0;
}

static int fill(filling *f, er_matrix *out, const er_slot *slot, er_err *err)
{
    struct er_model_owner *owner = f->model->owner;
    er_tensor *t = NULL;
    void *data = NULL;
    int dtype = slot->dims == 1 ? ER_F32 : f->weights;
    ER_TRY(find_tensor(&t, &owner->source, slot, err));
    int moved = owner->source.gguf && slot->row->permuted;
    int in_place = t->dtype == dtype && !moved && aligned(t->data, er_dtype_bytes(dtype));
    hash_head(f, slot);
    if (in_place && dtype == ER_F32) {
        er_hasher_add(f->hasher, t->data, t->bytes);
    } else {
        if (!in_place) ER_TRY(own(owner, &data, (size_t)t->elements, (size_t)er_dtype_bytes(dtype), err));
        ER_TRY(convert(f, data, dtype, t, slot, err));
    }
    er_tick();
    *out = (er_matrix){dtype, slot->rows, slot->cols, in_place ? (const void *)t->data : data};
    return 0;
}

static void put(er_model *m, const er_slot *slot, const er_matrix *x)
{
    switch (slot->row->kind) {
    case ER_SLOT_EMBEDDING: m->embedding = *x; break;
    case ER_SLOT_HEAD: m->head = *x; break;
    case ER_SLOT_FINAL_NORM: m->final_norm = x->data; break;
    case ER_SLOT_ATTENTION_NORM: m->layers[slot->layer].attention_norm = x->data; break;
    case ER_SLOT_MLP_NORM: m->layers[slot->layer].mlp_norm = x->data; break;
    case ER_SLOT_MATRIX: m->layers[slot->layer].matrix[slot->row->which] = *x; break;
    }
}

er_matrix er_view_slot(const er_view *view, const er_slot *slot)
{
    er_matrix gain = {ER_F32, 1, slot->cols, NULL};
    switch (slot->row->kind) {
    case ER_SLOT_EMBEDDING: return view->model->embedding;
    case ER_SLOT_HEAD: return view->model->head;
    case ER_SLOT_MATRIX: return view->layers[slot->layer].matrix[slot->row->which];
    case ER_SLOT_FINAL_NORM: gain.data = view->model->final_norm; break;
    case ER_SLOT_ATTENTION_NORM: gain.data = view->layers[slot->layer].attention_norm; break;
    case ER_SLOT_MLP_NORM: gain.data = view->layers[slot->layer].mlp_norm; break;
    }
    return gain;
}

static int fill_all(filling *f, er_err *err)
{
    const er_config *c = &f->model->config;
    int64_t widest = c->hidden > c->inner ? c->hidden : c->inner;
    if (widest < c->heads * c->head_dim) widest = c->heads * c->head_dim;
    f->chunk_values = widest > CHUNK ? widest : CHUNK;
    ER_TRY(er_alloc(&f->chunk, (size_t)f->chunk_values, err));
    er_hasher_text(f->hasher, "errata model 1");
    er_config_hash(f->hasher, c);
    for (int64_t i = 0, n = er_slot_count(c); i < n; i++) {
        er_slot slot = er_slot_at(c, i);
        er_matrix x;
        ER_TRY(fill(f, &x, &slot, err));
        put(f->model, &slot, &x);
    }
    if (c->tied) f->model->head = f->model->embedding;
    f->model->weights = er_hasher_end(f->hasher);
    return 0;
}

/* A tensor that no slot wanted is a part of the model that the engine does not know: a bias, scaled frequencies. */
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

/* The reference's arithmetic: exponent, power, reciprocal and angle each rounded to fp32. */
static int fill_rope(er_model *m, er_err *err)
{
    const er_config *c = &m->config;
    int64_t half = c->rope_dim / 2, positions = c->max_positions < ROPE_POSITIONS ? c->max_positions : ROPE_POSITIONS;
    float *cosine = NULL, *sine = NULL;
    ER_TRY(own(m->owner, &cosine, (size_t)(positions * half), sizeof *cosine, err));
    ER_TRY(own(m->owner, &sine, (size_t)(positions * half), sizeof *sine, err));
    for (int64_t i = 0; i < half; i++) {
        float exponent = (float)(2 * i) / (float)c->rope_dim;
        float frequency = 1.0f / (float)er_math_pow(c->rope_base, (double)exponent);
        for (int64_t p = 0; p < positions; p++) {
            float angle = (float)p * frequency;
            cosine[p * half + i] = (float)er_math_cos((double)angle);
            sine[p * half + i] = (float)er_math_sin((double)angle);
        }
    }
    m->rope_cos = cosine;
    m->rope_sin = sine;
    m->rope_positions = positions;
    return 0;
}

static int open_into(er_model *m, const char *path, int weights, er_err *err)
{
    er_source *s = &m->owner->source;
    filling f = {m, NULL, NULL, 0, weights};
    ER_TRY(er_strdup(&m->path, path, err));
    ER_TRY(er_source_open(s, path, err));
    m->config = s->config;
    m->tokenizer = s->tokenizer;
    ER_TRY(er_alloc(&m->layers, (size_t)m->config.layers, err));
    int code = er_hasher_new(&f.hasher, err);
    if (!code) code = fill_all(&f, err);
    er_hasher_free(f.hasher);
    er_free(f.chunk);
    if (!code) code = check_unused(s, err);
    er_source_forget(s);
    return code ? code : fill_rope(m, err);
}

int er_model_open(er_model **out, const char *path, int weights, er_err *err)
{
    er_model *m = NULL;
    if (weights != ER_F32 && weights != ER_BF16 && weights != ER_F16)
        return er_fail(err, ER_E_INPUT, "weights cannot be held as %s", er_dtype_name(weights));
    ER_TRY(er_alloc(&m, 1, err));
    int code = er_alloc(&m->owner, 1, err);
    if (!code) code = open_into(m, path, weights, err);
    if (code) {
        er_model_close(m);
        return code;
    }
    *out = m;
    return 0;
}

void er_model_close(er_model *model)
{
    if (!model) return;
    if (model->owner) {
        er_source_close(&model->owner->source);
        for (size_t i = 0; i < model->owner->buffer_count; i++) er_free(model->owner->buffers[i]);
        er_free(model->owner->buffers);
        er_free(model->owner);
    }
    er_free(model->layers);
    er_free(model->path);
    er_free(model);
}

int er_view_open(er_view *out, const er_model *model, er_err *err)
{
    er_view v = {model, NULL};
    ER_TRY(er_alloc(&v.layers, (size_t)model->config.layers, err));
    *out = v;
    er_view_restore(out);
    return 0;
}

void er_view_replace(er_view *view, int64_t layer, enum er_matrix_id which, const er_matrix *with)
{
    ER_ALWAYS(layer >= 0 && layer < view->model->config.layers && which < ER_MATRIX_COUNT);
    er_matrix *at = &view->layers[layer].matrix[which];
    ER_ALWAYS(with->rows == at->rows && with->cols == at->cols);
    *at = *with;
}

void er_view_restore(er_view *view)
{
    memcpy(view->layers, view->model->layers, (size_t)view->model->config.layers * sizeof *view->layers);
}

void er_view_close(er_view *view)
{
    ER_FREE(view->layers);
    view->model = NULL;
}
