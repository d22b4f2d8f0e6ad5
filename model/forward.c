/* SPDX-License-Identifier: Apache-2.0 */
/* One block, forward:   n1 = rms(x) g1;  q, k, v = n1 Wq^T, n1 Wk^T, n1 Wv^T;  q, k rotated;  x' = x + attend Wo^T
 *                       n2 = rms(x') g2; x'' = x' + (silu(n2 Wg^T) * n2 Wu^T) Wd^T */
#include "base/memory.h"
#include "base/tick.h"
#include "model/cache.h"

#include <math.h>
#include <omp.h>
#include <string.h>

/* Below this many scalar operations a parallel region costs more than it gives. */
enum { WORTH_THREADS = 1 << 16 };

/* What all steps of one pass share. */
typedef struct pass {
    const er_view *view;
    const er_config *config;
    er_cache *cache;
    const er_span *spans;
    int64_t tokens;
    er_tape *tape;
    const er_tap *tap;
    er_work *work;
} pass;

int er_embed(const er_model *model, float *x, const int32_t *ids, int64_t tokens, er_err *err)
{
    const er_matrix *e = &model->embedding;
    for (int64_t t = 0; t < tokens; t++) {
        if (ids[t] < 0 || ids[t] >= e->rows)
            return er_fail(err, ER_E_INPUT, "token id %d is outside the vocabulary of %lld", (int)ids[t],
                           (long long)e->rows);
        float *row = x + t * e->cols;
        size_t first = (size_t)(ids[t] * e->cols);
        const uint16_t *half = e->data;
        if (e->dtype == ER_F32) {
            memcpy(row, (const float *)e->data + first, (size_t)e->cols * sizeof *row);
        } else if (e->dtype == ER_BF16) {
            for (int64_t i = 0; i < e->cols; i++) row[i] = er_bf16_to_float(half[first + (size_t)i]);
        } else {
            for (int64_t i = 0; i < e->cols; i++) row[i] = er_f16_to_float(half[first + (size_t)i]);
        }
    }
    return 0;
}

static int show(const pass *p, int64_t layer, enum er_matrix_id which, const float *in, const float *out, er_err *err)
{
    const er_tap *tap = p->tap;
    if (!tap || !tap->forward || (tap->matrices && !(tap->matrices & 1u << which))) return 0;
    return tap->forward(tap->context, layer, which, in, out, p->tokens, err);
}

static int map(const pass *p, int64_t layer, enum er_matrix_id which, float *out, const float *in, er_err *err)
{
    const er_matrix *w = &p->view->layers[layer].matrix[which];
    er_product(out, w->rows, in, w->cols, p->tokens, w);
    return show(p, layer, which, in, out, err);
}

static void rotate(const pass *p, float *x, int64_t heads, int inverse)
{
    const er_model *m = p->view->model;
    const er_config *c = p->config;
    int64_t half = c->rope_dim / 2;
#pragma omp parallel for schedule(static) if (p->tokens * heads * c->head_dim > WORTH_THREADS)
    for (int64_t t = 0; t < p->tokens; t++) {
        int64_t position = p->work->place[t].position;
        er_rope(x + t * heads * c->head_dim, m->rope_cos + position * half, m->rope_sin + position * half, heads,
                c->head_dim, c->rope_dim, inverse, 0);
    }
}

/* The keys and values of the active tokens take their places in the cache. */
static void remember(const pass *p, int64_t layer, const float *k, const float *v)
{
    size_t bytes = (size_t)p->cache->width * sizeof *k;
    for (int64_t t = 0; t < p->tokens; t++) {
        const struct er_place *at = &p->work->place[t];
        int64_t row = p->spans[at->span].row;
        memcpy(er_cache_at(p->cache, p->cache->k, layer, row, at->position), k + t * p->cache->width, bytes);
        memcpy(er_cache_at(p->cache, p->cache->v, layer, row, at->position), v + t * p->cache->width, bytes);
    }
}

static er_seen at_head(const er_seen *seen, int64_t shift)
{
    er_seen s = *seen;
    s.k0 += shift;
    s.k1 += shift;
    s.v0 += shift;
    s.v1 += shift;
    return s;
}

static void attend(const pass *p, int64_t layer, const float *q, float *attended, float *taped)
{
    const er_config *c = p->config;
    const int64_t width = c->heads * c->head_dim, group = c->heads / c->kv_heads;
    const float scale = 1.0f / sqrtf((float)c->head_dim);
    er_work *w = p->work;
#pragma omp parallel for schedule(static) if (p->tokens * width * w->longest > WORTH_THREADS)
    for (int64_t t = 0; t < p->tokens; t++) {
        const struct er_place *at = &w->place[t];
        int64_t row = p->spans[at->span].row;
        er_seen seen;
        er_cache_seen(&seen, p->cache, layer, row, p->cache->row[row].base_length, at->position + 1);
        for (int64_t h = 0; h < c->heads; h++) {
            er_seen own = at_head(&seen, h / group * c->head_dim);
            float *weights = taped ? taped + w->weights_at[t] + h * seen.count
                                   : w->weights + omp_get_thread_num() * c->heads * w->longest;
            er_attend(attended + t * width + h * c->head_dim, weights, q + t * width + h * c->head_dim, &own,
                      c->head_dim, scale);
        }
    }
}

static int block_attention(const pass *p, int64_t layer, float *x, struct er_tape_block *tape, er_err *err)
{
    const er_config *c = p->config;
    er_work *w = p->work;
    float *q = tape ? tape->q : w->q, *attended = tape ? tape->attended : w->attended;
    er_rms_norm(w->normed, x, p->view->layers[layer].attention_norm, p->tokens, c->hidden, (float)c->norm_eps);
    ER_TRY(map(p, layer, ER_MATRIX_Q, q, w->normed, err));
    ER_TRY(map(p, layer, ER_MATRIX_K, w->k, w->normed, err));
    ER_TRY(map(p, layer, ER_MATRIX_V, w->v, w->normed, err));
    rotate(p, q, c->heads, 0);
    rotate(p, w->k, c->kv_heads, 0);
    remember(p, layer, w->k, w->v);
    attend(p, layer, q, attended, tape ? tape->weights : NULL);
    ER_TRY(map(p, layer, ER_MATRIX_O, w->out, attended, err));
    er_add(x, w->out, p->tokens * c->hidden);
    return 0;
}

static int block_mlp(const pass *p, int64_t layer, float *x, struct er_tape_block *tape, er_err *err)
{
    const er_config *c = p->config;
    er_work *w = p->work;
    float *gate = tape ? tape->gate : w->gate, *up = tape ? tape->up : w->up;
    er_rms_norm(w->normed, x, p->view->layers[layer].mlp_norm, p->tokens, c->hidden, (float)c->norm_eps);
    ER_TRY(map(p, layer, ER_MATRIX_GATE, gate, w->normed, err));
    ER_TRY(map(p, layer, ER_MATRIX_UP, up, w->normed, err));
    er_gated(w->inner, gate, up, p->tokens * c->inner, ER_SILU);
    ER_TRY(map(p, layer, ER_MATRIX_DOWN, w->out, w->inner, err));
    er_add(x, w->out, p->tokens * c->hidden);
    return 0;
}

static int check_spans(const er_model *model, const er_cache *cache, const er_span *spans, int64_t count, int64_t from,
                       int64_t to, er_err *err)
{
    ER_ALWAYS(from >= cache->from && to <= cache->to && from <= to);
    for (int64_t s = 0; s < count; s++) {
        const er_span *a = &spans[s];
        ER_ALWAYS(a->row >= 0 && a->row < cache->rows && a->count >= 0);
        const struct er_cache_row *r = &cache->row[a->row];
        ER_ALWAYS(a->start >= r->base_length && a->start + a->count <= r->base_length + r->capacity);
        if (a->start + a->count > model->rope_positions)
            return er_fail(err, ER_E_INPUT, "a text of %lld tokens is longer than the %lld positions of the model",
                           (long long)(a->start + a->count), (long long)model->rope_positions);
    }
    return 0;
}

int er_forward(const er_view *view, er_cache *cache, const er_span *spans, int64_t span_count, float *x, int64_t from,
               int64_t to, er_tape *tape, const er_tap *tap, er_work *work, er_err *err)
{
    pass p = {view, &view->model->config, cache, spans, er_spans_tokens(spans, span_count), tape, tap, work};
    ER_TRY(check_spans(view->model, cache, spans, span_count, from, to, err));
    if (!p.tokens) return 0;
    ER_TRY(er_work_reserve(work, spans, span_count, 0, err));
    if (tape) ER_TRY(er_tape_reserve(tape, from, to, p.tokens, work->weights_at[p.tokens], err));
    size_t bytes = (size_t)(p.tokens * p.config->hidden) * sizeof *x;
    for (int64_t l = from; l < to; l++) {
        struct er_tape_block *b = tape ? &tape->block[l - from] : NULL;
        if (b) memcpy(b->x_in, x, bytes);
        ER_TRY(block_attention(&p, l, x, b, err));
        if (b) memcpy(b->x_mid, x, bytes);
        ER_TRY(block_mlp(&p, l, x, b, err));
        if (tap && tap->block) ER_TRY(tap->block(tap->context, l, x, p.tokens, err));
        er_tick();
    }
    return 0;
}

int er_head(const er_model *model, float *logits, const float *x, int64_t m, er_work *work, er_err *err)
{
    const er_config *c = &model->config;
    er_span rows = {0, 0, m};
    ER_TRY(er_work_reserve(work, &rows, 1, 0, err));
    er_rms_norm(work->normed, x, model->final_norm, m, c->hidden, (float)c->norm_eps);
    er_product(logits, c->vocab, work->normed, c->hidden, m, &model->head);
    er_tick();
    return 0;
}

int er_head_back(const er_model *model, float *x_grad, const float *logits_grad, const float *x, int64_t m,
                 er_work *work, er_err *err)
{
    const er_config *c = &model->config;
    er_span rows = {0, 0, m};
    ER_TRY(er_work_reserve(work, &rows, 1, 0, err));
    er_product_back(work->normed, c->hidden, logits_grad, c->vocab, m, &model->head);
    er_rms_norm_back(x_grad, work->normed, x, model->final_norm, m, c->hidden, (float)c->norm_eps, 0);
    er_tick();
    return 0;
}
