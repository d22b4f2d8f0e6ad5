/* SPDX-License-Identifier: Apache-2.0 */
/* A(x):  q, k, v = x Wq^T, x Wk^T, x Wv^T, biases added;  q, k normed, rotated;  out = attend(q, k, v) Wo^T + bo. */
#include "model/pass.h"

#include <math.h>
#include <omp.h>
#include <string.h>

/* Norm of queries or keys (T, heads, head_dim): each head alone or the whole row; none: the identity. */
static void norm_heads(const er_pass *p, const er_norm *norm, float *y, const float *x, int64_t heads)
{
    const er_config *c = p->config;
    if (c->qk_norm == ER_QK_HEAD)
        er_norm_rows(c, norm, y, x, p->tokens * heads, c->head_dim);
    else
        er_norm_rows(c, norm, y, x, p->tokens, heads * c->head_dim);
}

static void norm_heads_back(const er_pass *p, const er_norm *norm, float *x_grad, const float *y_grad, const float *x,
                            int64_t heads)
{
    const er_config *c = p->config;
    if (c->qk_norm == ER_QK_HEAD)
        er_norm_back(c, norm, x_grad, y_grad, x, p->tokens * heads, c->head_dim, 0);
    else
        er_norm_back(c, norm, x_grad, y_grad, x, p->tokens, heads * c->head_dim, 0);
}

/* The keys and values of the active tokens take their places in the cache. */
static void remember(const er_pass *p, int64_t layer, const float *k, const float *v)
{
    const er_cache *cache = p->cache;
    size_t bytes = (size_t)cache->width * sizeof *k;
#pragma omp parallel for schedule(static) if (8 * p->tokens * cache->width > ER_WORTH_THREADS)
    for (int64_t t = 0; t < p->tokens; t++) {
        const struct er_place *at = &p->work->place[t];
        int64_t row = p->spans[at->span].row;
        memcpy(er_cache_at(cache, cache->k, layer, row, at->position), k + t * cache->width, bytes);
        memcpy(er_cache_at(cache, cache->v, layer, row, at->position), v + t * cache->width, bytes);
    }
}

static float score_scale(const er_config *c)
{
    return 1.0f / sqrtf(c->score_width != 0 ? (float)c->score_width : (float)c->head_dim);
}

/* What the query at `position` sees through the layer's window; head 0's pointers. */
static er_seen seen_from(const er_pass *p, int64_t layer, int64_t row, int64_t split, int64_t position)
{
    er_seen seen;
    er_cache_seen(&seen, p->cache, layer, row, split, er_window_start(p->config, layer, position), position + 1);
    seen.cap = (float)p->config->score_cap;
    return seen;
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

static void attend(const er_pass *p, int64_t layer, float *attended, const float *q, float *taped)
{
    const er_config *c = p->config;
    const int64_t width = c->heads * c->head_dim, group = c->heads / c->kv_heads;
    const int windowed = er_windowed(c, layer);
    const float scale = score_scale(c);
    const er_work *w = p->work;
#pragma omp parallel for schedule(static) if (p->tokens * width * w->longest > ER_WORTH_THREADS)
    for (int64_t t = 0; t < p->tokens; t++) {
        const struct er_place *at = &w->place[t];
        int64_t row = p->spans[at->span].row;
        er_seen seen = seen_from(p, layer, row, p->cache->row[row].base_length, at->position);
        for (int64_t h = 0; h < c->heads; h++) {
            er_seen own = at_head(&seen, h / group * c->head_dim);
            float *weights = taped ? taped + at->weights[windowed] + h * seen.count
                                   : w->weights + omp_get_thread_num() * w->longest;
            er_attend(attended + t * width + h * c->head_dim, weights, q + t * width + h * c->head_dim, &own,
                      c->head_dim, scale);
        }
    }
}

/* Keys, normed and rotated, and values, both as the matrices gave them, into the cache. */
static void keep_keys(const er_pass *p, int64_t layer, const float *plain_k)
{
    er_work *w = p->work;
    norm_heads(p, er_pass_norm(p, layer, ER_NORM_K), w->k, plain_k, p->config->kv_heads);
    er_pass_rotate(p, layer, w->k, p->config->kv_heads, 0);
    remember(p, layer, w->k, w->v);
}

int er_attention_keys(const er_pass *p, int64_t layer, const float *in, er_err *err)
{
    const er_mapping maps[] = {{ER_MATRIX_K, p->work->k}, {ER_MATRIX_V, p->work->v}};
    ER_TRY(er_pass_map(p, layer, maps, 2, in, err));
    keep_keys(p, layer, p->work->k);
    return 0;
}

int er_attention(const er_pass *p, int64_t layer, float *out, const float *in, struct er_tape_block *tape, er_err *err)
{
    const er_config *c = p->config;
    er_work *w = p->work;
    float *q = tape ? tape->q : w->q, *attended = tape ? tape->attended : w->attended;
    float *plain_q = tape && tape->plain_q ? tape->plain_q : q, *plain_k = tape && tape->plain_k ? tape->plain_k : w->k;
    const er_mapping maps[] = {{ER_MATRIX_Q, plain_q}, {ER_MATRIX_K, plain_k}, {ER_MATRIX_V, w->v}};
    ER_TRY(er_pass_map(p, layer, maps, 3, in, err));
    norm_heads(p, er_pass_norm(p, layer, ER_NORM_Q), q, plain_q, c->heads);
    er_pass_rotate(p, layer, q, c->heads, 0);
    keep_keys(p, layer, plain_k);
    attend(p, layer, attended, q, tape ? tape->weights : NULL);
    er_pass_round(p, layer, "attention", attended, p->tokens * c->heads * c->head_dim);
    return er_pass_map(p, layer, &(er_mapping){ER_MATRIX_O, out}, 1, attended, err);
}

/* Where the scratch rows of a span's key and value gradients start. Gradients of positions before the span are not
 * wanted; a row with a base may have some behind the base. */
static int64_t gradient_start(const er_pass *p, const er_span *span)
{
    const struct er_cache_row *row = &p->cache->row[span->row];
    return row->base ? row->base_length : span->start;
}

/* One row's gradients of one kv head: its query heads in ascending order, then its tokens in ascending order, so that
 * sums have one order whatever the rows beside it. */
static void span_head_back(const er_pass *p, int64_t layer, int64_t span, int64_t first, int64_t kv_head,
                           const float *attended_grad, const struct er_tape_block *tape)
{
    const er_config *c = p->config;
    const er_work *w = p->work;
    const er_span *s = &p->spans[span];
    const int64_t width = c->heads * c->head_dim, group = c->heads / c->kv_heads, kv = p->cache->width;
    const int64_t split = gradient_start(p, s), shift = kv_head * c->head_dim, block = span * w->longest * kv + shift;
    const int windowed = er_windowed(c, layer);
    const float scale = score_scale(c);
    float *scratch = w->scratch + omp_get_thread_num() * w->longest;
    for (int64_t i = 0; i < s->start + s->count - split; i++) {
        memset(w->k_grad + block + i * kv, 0, (size_t)c->head_dim * sizeof(float));
        memset(w->v_grad + block + i * kv, 0, (size_t)c->head_dim * sizeof(float));
    }
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
        for (int64_t i = 0; i < s->count; i++) {
            const int64_t t = first + i, at = t * width + h * c->head_dim, position = s->start + i;
            const int64_t start = er_window_start(c, layer, position);
            const int64_t block_at = block + (start > split ? start - split : 0) * kv;
            er_seen seen = seen_from(p, layer, s->row, split, position), own = at_head(&seen, shift);
            er_attend_back(w->q_grad + at, w->k_grad + block_at, w->v_grad + block_at, kv, attended_grad + at,
                           tape->weights + w->place[t].weights[windowed] + h * seen.count, scratch, tape->q + at, &own,
                           c->head_dim, scale);
        }
    }
}

/* The spans' key and value gradients as (T, kv). */
static void gather(const er_pass *p)
{
    const er_work *w = p->work;
    const int64_t kv = p->cache->width;
#pragma omp parallel for schedule(static) if (8 * p->tokens * kv > ER_WORTH_THREADS)
    for (int64_t t = 0; t < p->tokens; t++) {
        const struct er_place *at = &w->place[t];
        int64_t from = at->span * w->longest + at->position - gradient_start(p, &p->spans[at->span]);
        memcpy(w->k + t * kv, w->k_grad + from * kv, (size_t)kv * sizeof(float));
        memcpy(w->v + t * kv, w->v_grad + from * kv, (size_t)kv * sizeof(float));
    }
}

/* Gradients of q, k, v as the matrices gave them; returns those of q and k (w->v holds the third). */
static void attend_back(const er_pass *p, int64_t layer, const float **q_grad, const float **k_grad,
                        const float *attended_grad, const struct er_tape_block *tape)
{
    const er_config *c = p->config;
    er_work *w = p->work;
    const int64_t tasks = p->span_count * c->kv_heads;
#pragma omp parallel for schedule(static) if (p->tokens * c->hidden * w->longest > ER_WORTH_THREADS)
    for (int64_t task = 0; task < tasks; task++) {
        int64_t span = task / c->kv_heads, first = 0;
        for (int64_t s = 0; s < span; s++) first += p->spans[s].count;
        span_head_back(p, layer, span, first, task % c->kv_heads, attended_grad, tape);
    }
    gather(p);
    er_pass_round(p, layer, "a gradient", w->q_grad, p->tokens * c->heads * c->head_dim);
    er_pass_round(p, layer, "a gradient", w->k, p->tokens * p->cache->width);
    er_pass_round(p, layer, "a gradient", w->v, p->tokens * p->cache->width);
    er_pass_rotate(p, layer, w->q_grad, c->heads, 1);
    er_pass_rotate(p, layer, w->k, c->kv_heads, 1);
    *q_grad = w->q_grad;
    *k_grad = w->k;
    if (tape->plain_q) {
        norm_heads_back(p, er_pass_norm(p, layer, ER_NORM_Q), w->q, w->q_grad, tape->plain_q, c->heads);
        *q_grad = w->q;
    }
    if (tape->plain_k) { /* k_grad's rows have been gathered */
        norm_heads_back(p, er_pass_norm(p, layer, ER_NORM_K), w->k_grad, w->k, tape->plain_k, c->kv_heads);
        *k_grad = w->k_grad;
    }
}

int er_attention_back(const er_pass *p, int64_t layer, float *in_grad, const float *out_grad, const float *in,
                      const struct er_tape_block *tape, er_err *err)
{
    er_work *w = p->work;
    const float *q_grad, *k_grad;
    const er_mapping_back o = {ER_MATRIX_O, w->attended, out_grad};
    ER_TRY(er_pass_map_back(p, layer, &o, 1, tape->attended, err));
    attend_back(p, layer, &q_grad, &k_grad, w->attended, tape);
    const er_mapping_back maps[] = {{ER_MATRIX_Q, in_grad, q_grad},
                                    {ER_MATRIX_K, w->part[0], k_grad},
                                    {ER_MATRIX_V, w->part[1], w->v}};
    return er_pass_map_back(p, layer, maps, 3, in, err);
}
