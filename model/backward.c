/* SPDX-License-Identifier: Apache-2.0 */
/* Backward of forward.c to the inputs (spec section 23). Gradients of one block, g = dL/dx'':
 *   dm = g Wd;  dgate, dup = swiglu'(dm);  g' = g + rms'(dgate Wg + dup Wu);
 *   da = g' Wo; dq, dk, dv = attend'(da), rotated back;  g'' = g' + rms'(dq Wq + dk Wk + dv Wv). */
#include "base/memory.h"
#include "base/tick.h"
#include "model/cache.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { WORTH_THREADS = 1 << 16 };

typedef struct pass {
    const er_view *view;
    const er_config *config;
    const er_cache *cache;
    const er_span *spans;
    int64_t span_count, tokens;
    const er_tap *tap;
    er_work *work;
} pass;

/* in_grad (T, cols) from out_grad (T, rows) through one matrix, shown to the tap beside the matrix's input. */
static int back(const pass *p, int64_t layer, enum er_matrix_id which, float *in_grad, const float *out_grad,
                const float *in, er_err *err)
{
    const er_matrix *w = &p->view->layers[layer].matrix[which];
    const er_tap *tap = p->tap;
    if (tap && tap->backward && (!tap->matrices || tap->matrices & 1u << which))
        ER_TRY(tap->backward(tap->context, layer, which, in, out_grad, p->tokens, err));
    er_product_back(in_grad, w->cols, out_grad, w->rows, p->tokens, w);
    return 0;
}

static int wants_inputs(const pass *p) { return p->tap && p->tap->backward; }

static int mlp_back(const pass *p, int64_t layer, float *g, const struct er_tape_block *b, er_err *err)
{
    const er_config *c = p->config;
    const float *gain = p->view->layers[layer].mlp_norm;
    er_work *w = p->work;
    const int64_t n = p->tokens * c->inner;
    /* the inputs of the matrices are cheap to make again and only a tap needs them */
    if (wants_inputs(p)) er_gated(w->inner, b->gate, b->up, n, ER_SILU);
    ER_TRY(back(p, layer, ER_MATRIX_DOWN, w->gate, g, w->inner, err)); /* w->gate holds dm */
    er_gated_back(w->inner, w->up, w->gate, b->gate, b->up, n, ER_SILU); /* dgate, dup */
    if (wants_inputs(p)) er_rms_norm(w->normed, b->x_mid, gain, p->tokens, c->hidden, (float)c->norm_eps);
    float *sum = w->out, *part = w->part;
    ER_TRY(back(p, layer, ER_MATRIX_GATE, sum, w->inner, w->normed, err));
    ER_TRY(back(p, layer, ER_MATRIX_UP, part, w->up, w->normed, err));
    er_add(sum, part, p->tokens * c->hidden);
    er_rms_norm_back(g, sum, b->x_mid, gain, p->tokens, c->hidden, (float)c->norm_eps, 1);
    return 0;
}

/* One row's gradients of one kv head: its query heads in ascending order, then its tokens in ascending order, so that
 * sums have one order whatever the rows beside it. Gradients of positions before the span are not wanted; a row with a
 * base may have some behind the base, so the scratch rows start at the split. */
static void span_head_back(const pass *p, int64_t layer, int64_t span, int64_t first, int64_t kv_head,
                           const float *attended_grad, const struct er_tape_block *b)
{
    const er_config *c = p->config;
    er_work *w = p->work;
    const er_span *s = &p->spans[span];
    const int64_t width = c->heads * c->head_dim, group = c->heads / c->kv_heads, kv = p->cache->width;
    const float scale = 1.0f / sqrtf((float)c->head_dim);
    const struct er_cache_row *row = &p->cache->row[s->row];
    const int64_t split = row->base ? row->base_length : s->start, shift = kv_head * c->head_dim;
    float *k_grad = w->k_grad + span * w->longest * kv + shift, *v_grad = w->v_grad + span * w->longest * kv + shift;
    for (int64_t i = 0; i < s->start + s->count - split; i++) {
        memset(k_grad + i * kv, 0, (size_t)c->head_dim * sizeof *k_grad);
        memset(v_grad + i * kv, 0, (size_t)c->head_dim * sizeof *v_grad);
    }
    float *scratch = w->scratch + omp_get_thread_num() * c->heads * w->longest;
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
        for (int64_t i = 0; i < s->count; i++) {
            int64_t t = first + i, at = t * width + h * c->head_dim;
            er_seen seen;
            er_cache_seen(&seen, p->cache, layer, s->row, split, s->start + i + 1);
            seen.k0 += shift;
            seen.k1 += shift;
            seen.v0 += shift;
            seen.v1 += shift;
            er_attend_back(w->q_grad + at, k_grad, v_grad, kv, attended_grad + at,
                           b->weights + w->weights_at[t] + h * seen.count, scratch, b->q + at, &seen, c->head_dim,
                           scale);
        }
    }
}

/* Gathers the spans' key and value gradients into (T, kv) and turns keys back. */
static void gather(const pass *p)
{
    const er_config *c = p->config;
    const er_model *m = p->view->model;
    er_work *w = p->work;
    const int64_t kv = p->cache->width, half = c->rope_dim / 2;
    for (int64_t t = 0; t < p->tokens; t++) {
        const struct er_place *at = &w->place[t];
        const er_span *s = &p->spans[at->span];
        const struct er_cache_row *row = &p->cache->row[s->row];
        int64_t from = at->span * w->longest + at->position - (row->base ? row->base_length : s->start);
        const float *cosine = m->rope_cos + at->position * half, *sine = m->rope_sin + at->position * half;
        memcpy(w->k + t * kv, w->k_grad + from * kv, (size_t)kv * sizeof(float));
        memcpy(w->v + t * kv, w->v_grad + from * kv, (size_t)kv * sizeof(float));
        er_rope(w->k + t * kv, cosine, sine, c->kv_heads, c->head_dim, c->rope_dim, 1, 0);
        er_rope(w->q_grad + t * c->heads * c->head_dim, cosine, sine, c->heads, c->head_dim, c->rope_dim, 1,
                0);
    }
}

static int attention_back(const pass *p, int64_t layer, float *g, const struct er_tape_block *b, er_err *err)
{
    const er_config *c = p->config;
    const float *gain = p->view->layers[layer].attention_norm;
    er_work *w = p->work;
    float *attended_grad = w->attended;
    ER_TRY(back(p, layer, ER_MATRIX_O, attended_grad, g, b->attended, err));
    const int64_t tasks = p->span_count * c->kv_heads;
#pragma omp parallel for schedule(static) if (p->tokens * c->hidden * w->longest > WORTH_THREADS)
    for (int64_t task = 0; task < tasks; task++) {
        int64_t span = task / c->kv_heads, first = 0;
        for (int64_t s = 0; s < span; s++) first += p->spans[s].count;
        span_head_back(p, layer, span, first, task % c->kv_heads, attended_grad, b);
    }
    gather(p);
    if (wants_inputs(p)) er_rms_norm(w->normed, b->x_in, gain, p->tokens, c->hidden, (float)c->norm_eps);
    float *sum = w->out, *part = w->part;
    ER_TRY(back(p, layer, ER_MATRIX_Q, sum, w->q_grad, w->normed, err));
    ER_TRY(back(p, layer, ER_MATRIX_K, part, w->k, w->normed, err));
    er_add(sum, part, p->tokens * c->hidden);
    ER_TRY(back(p, layer, ER_MATRIX_V, part, w->v, w->normed, err));
    er_add(sum, part, p->tokens * c->hidden);
    er_rms_norm_back(g, sum, b->x_in, gain, p->tokens, c->hidden, (float)c->norm_eps, 1);
    return 0;
}

int er_backward(const er_view *view, const er_cache *cache, const er_span *spans, int64_t span_count, float *x_grad,
                int64_t from, int64_t to, const er_tape *tape, const er_tap *tap, er_work *work, er_err *err)
{
    pass p = {view, &view->model->config, cache, spans, span_count, er_spans_tokens(spans, span_count), tap, work};
    if (!p.tokens) return 0;
    ER_ALWAYS(tape->from <= from && tape->to >= to && tape->tokens == p.tokens);
    ER_TRY(er_work_reserve(work, spans, span_count, 1, err));
    for (int64_t l = to - 1; l >= from; l--) {
        const struct er_tape_block *b = &tape->block[l - tape->from];
        if (tap && tap->block_grad) ER_TRY(tap->block_grad(tap->context, l, x_grad, p.tokens, err));
        ER_TRY(mlp_back(&p, l, x_grad, b, err));
        ER_TRY(attention_back(&p, l, x_grad, b, err));
        er_tick();
    }
    return 0;
}
