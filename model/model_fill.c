/* SPDX-License-Identifier: Apache-2.0 */
/* A source (weights.h) becomes a model: every tensor is found and checked, then hashed and, unless it can be used in
 * place, converted into one block of memory, which processes of a machine may share. Orientation and order of files end
 * here: behind this file a matrix is (outputs, inputs). */
#include "base/file.h"
#include "base/memory.h"
#include "base/tick.h"
#include "model/families.h"
#include "model/model_move.h"
#include "model/model_parts.h"
#include "model/quant.h"

#include <omp.h>
#include <string.h>

/* AHEAD: pieces that the disk is asked for before they are needed */
enum { PIECE = 1 << 18, AHEAD = 64, LINE = 64 };

/* Some rows of a tensor: what one thread reads, hashes and puts in place at a time. Pieces follow from shapes alone. */
typedef struct piece {
    int64_t tensor, row, rows;
    int64_t lost; /* values that were too large */
    er_hash hash;
} piece;

typedef struct filling {
    er_model *model;
    int weights; /* how matrices are held */
    er_moving *tensors;
    int64_t count;
    piece *pieces;
    int64_t piece_count, piece_values; /* the largest piece */
    size_t bytes; /* of the block */
    size_t hashes_at; /* in the block of a shard: the pieces' hashes, which its other processes have not made */
    uint8_t *block;
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
    int vector = slot->dims == 1, turned = s->gguf && er_slot_transposed(slot);
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

static void hash_head(er_hasher *h, const er_config *c, const er_slot *slot)
{
    char name[ER_TENSOR_NAME];
    er_slot_name(name, c, slot, 0);
    er_hasher_text(h, name);
    er_hasher_number(h, slot->dims);
    er_hasher_number(h, slot->rows);
    er_hasher_number(h, slot->cols);
}

/* Values become fp32 for the hash and, where the tensor is not used in place, go to their parts, through wide and half. */
static void move_piece(const filling *f, piece *p, float *wide, uint16_t *half)
{
    const er_moving *m = &f->tensors[p->tensor];
    const int64_t values = p->rows * m->slot.cols;
    const void *from = wide;
    if (m->in_place && m->dtype == ER_F32) from = m->from->data + (size_t)(p->row * m->slot.cols) * sizeof *wide;
    else er_move_widen(wide, m, &f->model->config, p->row, p->rows);
    p->hash = er_hash_bytes(from, (size_t)values * sizeof *wide);
    if (m->in_place) return;
    if (m->dtype != ER_F32) p->lost = er_narrow(half, m->dtype, wide, values);
    er_move_scatter(m, &f->model->config, m->dtype == ER_F32 ? (const void *)wide : half, p->row, p->rows);
}

/* Asks for a piece's bytes of the file. Rows that stand elsewhere in it (permuted ones) lie close by. */
static void read_ahead(const filling *f, int64_t index)
{
    if (index >= f->piece_count) return;
    const piece *p = &f->pieces[index];
    if (!f->tensors[p->tensor].held) return;
    const er_tensor *t = f->tensors[p->tensor].from;
    const size_t rows = (size_t)f->tensors[p->tensor].slot.rows, each = t->bytes / rows;
    er_map_ahead(t->data + (size_t)p->row * each, (size_t)p->rows * each);
}

/* Values of part p of a slot: of a matrix or bias its share, else the whole. */
static int64_t part_values(const er_config *c, const er_slot *slot, int part)
{
    if (slot->row->kind != ER_SLOT_MATRIX && slot->row->kind != ER_SLOT_BIAS) return slot->rows * slot->cols;
    int which = slot->row->which + part;
    return er_matrix_rows(c, which) * (slot->dims == 2 ? er_matrix_cols(c, which) : 1);
}

/* The shard that hashes a tensor: one of those that hold it. */
static int hashing_shard(const er_model *m, const er_slot *slot)
{
    if (slot->layer >= 0) return er_model_shard_of(m, slot->layer);
    switch (slot->row->kind) {
    case ER_SLOT_PROJECT_OUT:
    case ER_SLOT_HEAD:
    case ER_SLOT_HEAD_BIAS:
    case ER_SLOT_FINAL_GAIN:
    case ER_SLOT_FINAL_SHIFT: return er_model_last(m);
    default: return 0;
    }
}

static int is_held(const er_model *m, const er_slot *slot)
{
    if (er_model_is(m, hashing_shard(m, slot))) return 1;
    return slot->row->kind == ER_SLOT_EMBEDDING && m->config.tied && er_model_is(m, er_model_last(m));
}

static int is_gain(const er_slot *slot)
{
    return slot->row->kind == ER_SLOT_GAIN || slot->row->kind == ER_SLOT_FINAL_GAIN;
}

/* Finds a tensor and decides where it will lie. */
static int lay_out(filling *f, er_moving *m, const er_slot *slot, er_err *err)
{
    const er_source *s = &f->model->owner->source;
    const er_config *c = &f->model->config;
    er_tensor *t = NULL;
    ER_TRY(find_tensor(&t, s, slot, err));
    *m = (er_moving){.slot = *slot, .from = t, .dtype = slot->dims == 1 ? ER_F32 : f->weights};
    m->head_dim = s->gguf && slot->row->permuted ? c->head_dim : 0;
    m->minus_one = s->gguf && c->gain_plus_one && is_gain(slot);
    m->reordered = s->gguf && slot->row->order != ER_ORDER_PLAIN;
    m->held = is_held(f->model, slot);
    if (!m->held) return 0;
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

static int put(er_model *m, const er_moving *x, er_err *err)
{
    const er_slot *slot = &x->slot;
    if (!x->in_place) er_map_rest(x->from->data, x->from->bytes); /* a copy is held, the file's bytes are done with */
    er_layer *layer = slot->layer < 0 ? NULL : &m->layers[slot->layer];
    if (!x->held && slot->dims == 1) return 0;
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
    f->count = er_slot_count(c);
    ER_TRY(er_alloc(&f->tensors, (size_t)f->count, err));
    for (int64_t i = 0; i < f->count; i++) {
        er_slot slot = er_slot_at(c, i);
        ER_TRY(lay_out(f, &f->tensors[i], &slot, err));
    }
    return 0;
}

static int cut_pieces(filling *f, er_err *err)
{
    size_t capacity = 0;
    for (int64_t i = 0; i < f->count; i++) {
        const er_slot *slot = &f->tensors[i].slot;
        int64_t step = slot->cols < PIECE ? PIECE / slot->cols : 1;
        for (int64_t row = 0; row < slot->rows; row += step) {
            int64_t rows = slot->rows - row < step ? slot->rows - row : step;
            ER_TRY(er_grow(&f->pieces, &capacity, (size_t)f->piece_count + 1, err));
            f->pieces[f->piece_count++] = (piece){.tensor = i, .row = row, .rows = rows};
            if (rows * slot->cols > f->piece_values) f->piece_values = rows * slot->cols;
        }
    }
    return 0;
}

/* Pieces in any order by any thread: each writes its own rows and its own hash. */
static int move_all(filling *f, er_err *err)
{
    const int threads = omp_get_max_threads();
    const size_t each = (size_t)f->piece_values;
    float *wide = NULL;
    uint16_t *half = NULL;
    int code = er_alloc(&wide, (size_t)threads * each, err);
    if (!code) code = er_alloc(&half, (size_t)threads * each, err);
    if (!code) {
#pragma omp parallel for schedule(dynamic)
        for (int64_t i = 0; i < f->piece_count; i++) {
            size_t mine = (size_t)omp_get_thread_num() * each;
            if (!f->tensors[f->pieces[i].tensor].held) continue;
            read_ahead(f, i + AHEAD);
            move_piece(f, &f->pieces[i], wide + mine, half + mine);
            if (omp_get_thread_num() == 0) er_tick();
        }
    }
    er_free(wide);
    er_free(half);
    return code;
}

/* The hash of the configuration and of every tensor: name, shape, hashes of its pieces. */
static int hash_all(filling *f, er_err *err)
{
    er_hasher *h = NULL;
    ER_TRY(er_hasher_new(&h, err));
    er_hasher_text(h, "errata model 2");
    er_config_hash(h, &f->model->config);
    for (int64_t i = 0; i < f->piece_count; i++) {
        const piece *p = &f->pieces[i];
        if (p->row == 0) hash_head(h, &f->model->config, &f->tensors[p->tensor].slot);
        er_hasher_hash(h, &p->hash);
    }
    f->model->weights = er_hasher_end(h);
    er_hasher_free(h);
    return 0;
}

static int fill_all(filling *f, er_err *err)
{
    ER_TRY(move_all(f, err));
    for (int64_t i = 0; i < f->piece_count; i++) {
        const piece *p = &f->pieces[i];
        const er_moving *m = &f->tensors[p->tensor];
        if (p->lost)
            return er_fail(err, ER_E_NUMERIC, "%s: tensor '%s': %lld values are too large for %s", m->from->path,
                           m->from->name, (long long)p->lost, er_dtype_name(m->dtype));
    }
    if (!f->model->relay) return hash_all(f, err);
    for (int64_t i = 0; i < f->piece_count; i++)
        memcpy(f->block + f->hashes_at + (size_t)i * sizeof(er_hash), &f->pieces[i].hash, sizeof(er_hash));
    return 0;
}

/* Every shard hashed its own tensors; all come to know all hashes, and so the hash of the whole. packed: room for them. */
static int join_hashes(filling *f, er_hash *packed, er_err *err)
{
    er_model *m = f->model;
    for (int s = 0; s <= er_model_last(m); s++) {
        int64_t n = 0, k = 0;
        for (int64_t i = 0; i < f->piece_count; i++)
            if (hashing_shard(m, &f->tensors[f->pieces[i].tensor].slot) == s)
                memcpy(&packed[n++], f->block + f->hashes_at + (size_t)i * sizeof(er_hash), sizeof(er_hash));
        ER_TRY(er_model_share(m, s, packed, (size_t)n * sizeof *packed, err));
        for (int64_t i = 0; i < f->piece_count; i++)
            if (hashing_shard(m, &f->tensors[f->pieces[i].tensor].slot) == s) f->pieces[i].hash = packed[k++];
    }
    return hash_all(f, err);
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
    f->block = base;
    for (int64_t i = 0; i < f->count; i++) {
        er_moving *m = &f->tensors[i];
        for (int p = 0; p < m->slot.parts && m->held && !m->in_place; p++) m->to[p] = (uint8_t *)base + m->at[p];
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
    er_hash *packed = NULL;
    int owner = 1, code = lay_out_all(f, err);
    if (!code) code = check_unused(&m->owner->source, err);
    if (!code) code = cut_pieces(f, err);
    if (!code && m->relay) code = er_alloc(&packed, (size_t)f->piece_count, err);
    f->hashes_at = f->bytes;
    if (m->relay) f->bytes += (size_t)f->piece_count * sizeof(er_hash);
    code = agree(shared, code, NULL, err); /* nobody waits for memory that another does not want */
    if (!code) code = take_block(f, shared, &owner, err);
    if (!code) code = agree(shared, owner ? fill_all(f, err) : 0, &m->weights, err);
    if (!code && m->relay) code = join_hashes(f, packed, err);
    er_free(packed);
    if (code) return code;
    for (int64_t i = 0; i < f->count; i++) ER_TRY(put(m, &f->tensors[i], err));
    if (m->config.tied) m->head = m->embedding;
    return 0;
}

int er_model_fill(er_model *model, int weights, const er_shared_memory *shared, er_err *err)
{
    filling f = {.model = model, .weights = weights};
    int code = fill_model(&f, shared, err);
    er_free(f.tensors);
    er_free(f.pieces);
    return code;
}
