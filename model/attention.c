/* SPDX-License-Identifier: Apache-2.0 */
/* A(x):  q, k, v = x Wq^T, x Wk^T, x Wv^T, biases added;  q, k normed, rotated;  out = attend(q, k, v) Wo^T + bo. */
#include "model/pass.h"

#include <math.h>
#include <omp.h>
#include <string.h>

/* Norm of the queries or keys (T, heads, head_dim) of tokens from .. to-1: each head alone or the whole row; none: the
 * identity. */
static void norm_heads(const er_pass *p, const er_norm *norm, float *y, const float *x, int64_t heads, int64_t from,
                       int64_t to)
{
    const er_config *c = p->config;
    const int64_t each = c->qk_norm == ER_QK_HEAD ? heads : 1, width = heads * c->head_dim;
    er_norm_rows(c, norm, y + from * width, x + from * width, (to - from) * each, width / each);
}

static void norm_heads_back(const er_pass *p, const er_norm *norm, float *x_grad, const float *y_grad, const float *x,
                            int64_t heads, int64_t from, int64_t to)
{
    const er_config *c = p->config;
    const int64_t each = c->qk_norm == ER_QK_HEAD ? heads : 1, width = heads * c->head_dim, at = from * width;
    er_norm_back(c, norm, x_grad + at, y_grad + at, x + at, (to - from) * each, width / each, 0);
}

/* What lies between the matrices of attention. */
typedef struct middle {
    const er_pass *p;
    int64_t layer;
    float *q, *attended, *taped;          /* q NULL: keys and values alone; taped: probabilities, or NULL */
    const float *plain_q, *plain_k;       /* before their norms */
    const float *attended_grad;           /* back */
    const struct er_tape_block *tape;
} middle;

/* Queries and keys of tokens normed and rotated; keys and values take their places in the cache. */
static void prepare(const void *context, int64_t from, int64_t to)
{
    const middle *m = context;
    const er_pass *p = m->p;
    const er_cache *cache = p->cache;
    const er_work *w = p->work;
    const size_t bytes = (size_t)cache->width * sizeof *w->k;
    if (m->q) {
        norm_heads(p, er_pass_norm(p, m->layer, ER_NORM_Q), m->q, m->plain_q, p->config->heads, from, to);
        er_pass_rotate(p, m->layer, m->q, p->config->heads, 0, from, to);
    }
    norm_heads(p, er_pass_norm(p, m->layer, ER_NORM_K), w->k, m->plain_k, p->config->kv_heads, from, to);
    er_pass_rotate(p, m->layer, w->k, p->config->kv_heads, 0, from, to);
    for (int64_t t = from; t < to; t++) {
        const struct er_place *at = &w->place[t];
        int64_t row = p->spans[at->span].row;
        memcpy(er_cache_at(cache, cache->k, m->layer, row, at->position), w->k + t * cache->width, bytes);
        memcpy(er_cache_at(cache, cache->v, m->layer, row, at->position), w->v + t * cache->width, bytes);
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

static void attend(const void *context, int64_t from, int64_t to)
{
    const middle *m = context;
    const er_pass *p = m->p;
    const er_config *c = p->config;
    const int64_t width = c->heads * c->head_dim, group = c->heads / c->kv_heads;
    const int windowed = er_windowed(c, m->layer);
    const float scale = score_scale(c);
    const er_work *w = p->work;
    for (int64_t t = from; t < to; t++) {
        const struct er_place *at = &w->place[t];
        int64_t row = p->spans[at->span].row;
        er_seen seen = seen_from(p, m->layer, row, p->cache->row[row].base_length, at->position);
        for (int64_t h = 0; h < c->heads; h++) {
            er_seen own = at_head(&seen, h / group * c->head_dim);
            float *weights = m->taped ? m->taped + at->weights[windowed] + h * seen.count
                                      : w->weights + omp_get_thread_num() * w->longest;
            er_attend(m->attended + t * width + h * c->head_dim, weights, m->q + t * width + h * c->head_dim, &own,
                      c->head_dim, scale);
        }
    }
    er_pass_round(p, m->layer, "attention", m->attended + from * width, (to - from) * width);
}

int er_attention_keys(const er_pass *p, int64_t layer, const float *in, er_err *err)
{
    const er_mapping maps[] = {{ER_MATRIX_K, p->work->k}, {ER_MATRIX_V, p->work->v}};
    const middle m = {.p = p, .layer = layer, .plain_k = p->work->k};
    return er_pass_map(p, layer, maps, 2, in, &(er_rows_work){prepare, &m, p->tokens}, 1, err);
}

int er_attention(const er_pass *p, int64_t layer, float *out, const float *in, struct er_tape_block *tape,
                 const er_rows_work *after, er_err *err)
{
    er_work *w = p->work;
    float *q = tape ? tape->q : w->q, *attended = tape ? tape->attended : w->attended;
    float *plain_q = tape && tape->plain_q ? tape->plain_q : q, *plain_k = tape && tape->plain_k ? tape->plain_k : w->k;
    const er_mapping maps[] = {{ER_MATRIX_Q, plain_q}, {ER_MATRIX_K, plain_k}, {ER_MATRIX_V, w->v}};
    const middle m = {.p = p, .layer = layer, .q = q, .attended = attended, .taped = tape ? tape->weights : NULL,
                      .plain_q = plain_q, .plain_k = plain_k};
    const er_rows_work rest[] = {{prepare, &m, p->tokens}, {attend, &m, p->tokens}};
    ER_TRY(er_pass_map(p, layer, maps, 3, in, rest, 2, err));
    return er_pass_map(p, layer, &(er_mapping){ER_MATRIX_O, out}, 1, attended, after, after != NULL, err);
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

/* Heads of rows: task i is kv head i % kv_heads of span i / kv_heads. */
static void heads_back(const void *context, int64_t from, int64_t to)
{
    const middle *m = context;
    const er_pass *p = m->p;
    const int64_t heads = p->config->kv_heads;
    for (int64_t task = from; task < to; task++) {
        int64_t span = task / heads, first = 0;
        for (int64_t s = 0; s < span; s++) first += p->spans[s].count;
        span_head_back(p, m->layer, span, first, task % heads, m->attended_grad, m->tape);
    }
}

/* The spans' key and value gradients of tokens as rows of w->k and w->v; those of q and k as the matrices gave them. */
static void gather(const void *context, int64_t from, int64_t to)
{
    const middle *m = context;
    const er_pass *p = m->p;
    const er_config *c = p->config;
    er_work *w = p->work;
    const int64_t kv = p->cache->width, width = c->heads * c->head_dim;
    for (int64_t t = from; t < to; t++) {
        const struct er_place *at = &w->place[t];
        int64_t of = at->span * w->longest + at->position - gradient_start(p, &p->spans[at->span]);
        memcpy(w->k + t * kv, w->k_grad + of * kv, (size_t)kv * sizeof(float));
        memcpy(w->v + t * kv, w->v_grad + of * kv, (size_t)kv * sizeof(float));
    }
    er_pass_round(p, m->layer, "a gradient", w->q_grad + from * width, (to - from) * width);
    er_pass_round(p, m->layer, "a gradient", w->k + from * kv, (to - from) * kv);
    er_pass_round(p, m->layer, "a gradient", w->v + from * kv, (to - from) * kv);
    er_pass_rotate(p, m->layer, w->q_grad, c->heads, 1, from, to);
    er_pass_rotate(p, m->layer, w->k, c->kv_heads, 1, from, to);
}

/* Behind the norms of queries and keys; k_grad's rows have been gathered. */
static void unnorm(const void *context, int64_t from, int64_t to)
{
    const middle *m = context;
    const er_pass *p = m->p;
    const er_config *c = p->config;
    er_work *w = p->work;
    const struct er_tape_block *tape = m->tape;
    if (tape->plain_q)
        norm_heads_back(p, er_pass_norm(p, m->layer, ER_NORM_Q), w->q, w->q_grad, tape->plain_q, c->heads, from, to);
    if (tape->plain_k)
        norm_heads_back(p, er_pass_norm(p, m->layer, ER_NORM_K), w->k_grad, w->k, tape->plain_k, c->kv_heads, from, to);
}

int er_attention_back(const er_pass *p, int64_t layer, float *in_grad, const float *out_grad, const float *in,
                      const struct er_tape_block *tape, const er_rows_work *after, er_err *err)
{
    er_work *w = p->work;
    const middle m = {.p = p, .layer = layer, .attended_grad = w->attended, .tape = tape};
    const er_rows_work rest[] = {{heads_back, &m, p->span_count * p->config->kv_heads},
                                 {gather, &m, p->tokens},
                                 {unnorm, &m, p->tokens}};
    const er_mapping_back o = {ER_MATRIX_O, w->attended, out_grad};
    ER_TRY(er_pass_map_back(p, layer, &o, 1, tape->attended, rest, tape->plain_q || tape->plain_k ? 3 : 2, err));
    const er_mapping_back maps[] = {{ER_MATRIX_Q, in_grad, tape->plain_q ? w->q : w->q_grad},
                                    {ER_MATRIX_K, w->part[0], tape->plain_k ? w->k_grad : w->k},
                                    {ER_MATRIX_V, w->part[1], w->v}};
    return er_pass_map_back(p, layer, maps, 3, in, after, after != NULL, err);
}
