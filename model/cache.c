/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cache.h"

#include "base/memory.h"

#include <omp.h>
#include <string.h>

int er_cache_new(er_cache **out, const er_model *model, int64_t rows, const int64_t *capacity, int64_t from,
                 int64_t to, er_err *err)
{
    er_cache *c = NULL;
    ER_TRY(er_alloc(&c, 1, err));
    c->model = model;
    c->rows = rows;
    c->from = from;
    c->to = to;
    c->width = model->config.kv_heads * model->config.head_dim;
    int code = er_alloc(&c->row, (size_t)rows, err);
    for (int64_t i = 0; !code && i < rows; i++) {
        c->row[i] = (struct er_cache_row){capacity[i], c->positions, NULL, 0, 0};
        c->positions += capacity[i];
    }
    size_t floats = (size_t)((to > from ? to - from : 0) * c->positions * c->width);
    if (!code) code = er_alloc(&c->k, floats, err);
    if (!code) code = er_alloc(&c->v, floats, err);
    if (code) {
        er_cache_free(c);
        return code;
    }
    *out = c;
    return 0;
}

void er_cache_free(er_cache *cache)
{
    if (!cache) return;
    er_free(cache->row);
    er_free(cache->k);
    er_free(cache->v);
    er_free(cache);
}

void er_cache_share(er_cache *cache, int64_t row, const er_cache *base, int64_t base_row, int64_t length)
{
    ER_ALWAYS(base->row[base_row].base == NULL && length <= base->row[base_row].capacity);
    ER_ALWAYS(base->from <= cache->from && base->to >= cache->to);
    cache->row[row].base = length ? base : NULL;
    cache->row[row].base_row = base_row;
    cache->row[row].base_length = length;
}

int64_t er_cache_bytes(const er_cache *cache)
{
    return 2 * (cache->to - cache->from) * cache->positions * cache->width * (int64_t)sizeof(float);
}

void er_cache_seen(er_seen *seen, const er_cache *cache, int64_t layer, int64_t row, int64_t split, int64_t count)
{
    const struct er_cache_row *r = &cache->row[row];
    *seen = (er_seen){.split = split, .count = count, .stride = cache->width};
    if (r->base) {
        ER_ALWAYS(split == r->base_length);
        seen->k0 = er_cache_at(r->base, r->base->k, layer, r->base_row, 0);
        seen->v0 = er_cache_at(r->base, r->base->v, layer, r->base_row, 0);
    } else {
        seen->k0 = er_cache_at(cache, cache->k, layer, row, 0);
        seen->v0 = er_cache_at(cache, cache->v, layer, row, 0);
    }
    seen->k1 = er_cache_at(cache, cache->k, layer, row, split);
    seen->v1 = er_cache_at(cache, cache->v, layer, row, split);
}

int64_t er_spans_tokens(const er_span *spans, int64_t count)
{
    int64_t tokens = 0;
    for (int64_t i = 0; i < count; i++) tokens += spans[i].count;
    return tokens;
}

int er_tape_new(er_tape **out, const er_model *model, er_err *err)
{
    ER_TRY(er_alloc(out, 1, err));
    (*out)->model = model;
    return 0;
}

void er_tape_free(er_tape *tape)
{
    if (!tape) return;
    er_free(tape->block);
    er_free(tape->storage);
    er_free(tape);
}

int64_t er_tape_bytes(const er_tape *tape) { return (int64_t)(tape->storage_capacity * sizeof(float)); }

static float *piece(float **next, int64_t count)
{
    float *p = *next;
    *next += (count + 15) / 16 * 16; /* keep every array on its own 64-byte line */
    return p;
}

int er_tape_reserve(er_tape *tape, int64_t from, int64_t to, int64_t tokens, int64_t weights, er_err *err)
{
    const er_config *c = &tape->model->config;
    int64_t q = c->heads * c->head_dim;
    int64_t each = tokens * (2 * c->hidden + 2 * q + 2 * c->inner) + weights + 7 * 16;
    ER_TRY(er_grow(&tape->block, &tape->block_capacity, (size_t)(to - from), err));
    ER_TRY(er_grow(&tape->storage, &tape->storage_capacity, (size_t)((to - from) * each), err));
    float *next = tape->storage;
    for (int64_t l = 0; l < to - from; l++) {
        struct er_tape_block *b = &tape->block[l];
        b->x_in = piece(&next, tokens * c->hidden);
        b->q = piece(&next, tokens * q);
        b->attended = piece(&next, tokens * q);
        b->x_mid = piece(&next, tokens * c->hidden);
        b->gate = piece(&next, tokens * c->inner);
        b->up = piece(&next, tokens * c->inner);
        b->weights = piece(&next, weights);
    }
    tape->from = from;
    tape->to = to;
    tape->tokens = tokens;
    tape->weights = weights;
    return 0;
}

int er_work_new(er_work **out, const er_model *model, er_err *err)
{
    ER_TRY(er_alloc(out, 1, err));
    (*out)->model = model;
    return 0;
}

void er_work_free(er_work *work)
{
    if (!work) return;
    er_free(work->storage);
    er_free(work->weights_at);
    er_free(work->place);
    er_free(work);
}

static int place_tokens(er_work *w, const er_span *spans, int64_t span_count, int64_t tokens, er_err *err)
{
    const int64_t heads = w->model->config.heads;
    ER_TRY(er_grow(&w->weights_at, &w->at_capacity, (size_t)tokens + 1, err));
    ER_TRY(er_grow(&w->place, &w->place_capacity, (size_t)tokens + 1, err));
    int64_t t = 0;
    w->longest = 0;
    w->weights_at[0] = 0;
    for (int64_t s = 0; s < span_count; s++) {
        for (int64_t i = 0; i < spans[s].count; i++, t++) {
            int64_t position = spans[s].start + i;
            w->place[t] = (struct er_place){s, position};
            w->weights_at[t + 1] = w->weights_at[t] + heads * (position + 1);
            if (position + 1 > w->longest) w->longest = position + 1;
        }
    }
    return 0;
}

int er_work_reserve(er_work *w, const er_span *spans, int64_t span_count, int gradients, er_err *err)
{
    const er_config *c = &w->model->config;
    int64_t tokens = er_spans_tokens(spans, span_count), threads = omp_get_max_threads();
    ER_TRY(place_tokens(w, spans, span_count, tokens, err));
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    int64_t per_token = 2 * c->hidden + 2 * q + 2 * kv + 3 * c->inner;
    if (gradients) per_token += q + c->hidden;
    /* key and value gradients may cover a row's inactive positions */
    int64_t rows_grad = gradients ? 2 * kv * w->longest * span_count : 0;
    int64_t attention = 2 * threads * c->heads * w->longest;
    ER_TRY(er_grow(&w->storage, &w->capacity, (size_t)(tokens * per_token + rows_grad + attention + 16 * 16), err));
    float *next = w->storage;
    w->normed = piece(&next, tokens * c->hidden);
    w->q = piece(&next, tokens * q);
    w->k = piece(&next, tokens * kv);
    w->v = piece(&next, tokens * kv);
    w->attended = piece(&next, tokens * q);
    w->out = piece(&next, tokens * c->hidden);
    w->gate = piece(&next, tokens * c->inner);
    w->up = piece(&next, tokens * c->inner);
    w->inner = piece(&next, tokens * c->inner);
    w->weights = piece(&next, threads * c->heads * w->longest);
    w->scratch = piece(&next, threads * c->heads * w->longest);
    if (gradients) {
        w->part = piece(&next, tokens * c->hidden);
        w->q_grad = piece(&next, tokens * q);
        w->k_grad = piece(&next, kv * w->longest * span_count);
        w->v_grad = piece(&next, kv * w->longest * span_count);
    }
    ER_ALWAYS((size_t)(next - w->storage) <= w->capacity);
    return 0;
}
