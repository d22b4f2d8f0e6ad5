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
    c->held = from;
    while (c->held < to && !er_model_holds(model, c->held)) c->held++;
    c->held_to = c->held;
    while (c->held_to < to && er_model_holds(model, c->held_to)) c->held_to++;
    c->width = model->config.kv_heads * model->config.head_dim;
    int code = er_alloc(&c->row, (size_t)rows, err);
    for (int64_t i = 0; !code && i < rows; i++) {
        c->row[i] = (struct er_cache_row){capacity[i], c->positions, NULL, 0, 0};
        c->positions += capacity[i];
    }
    size_t floats = (size_t)((c->held_to - c->held) * c->positions * c->width);
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
    return 2 * (cache->held_to - cache->held) * cache->positions * cache->width * (int64_t)sizeof(float);
}

void er_cache_seen(er_seen *seen, const er_cache *cache, int64_t layer, int64_t row, int64_t split, int64_t start,
                   int64_t count)
{
    const struct er_cache_row *r = &cache->row[row];
    const int64_t first = start < split ? split - start : 0, second = start < split ? split : start;
    *seen = (er_seen){.split = first, .count = count - start, .stride = cache->width};
    ER_ALWAYS(!r->base || split == r->base_length);
    seen->k0 = seen->k1 = er_cache_at(cache, cache->k, layer, row, second);
    seen->v0 = seen->v1 = er_cache_at(cache, cache->v, layer, row, second);
    if (first) {
        const er_cache *c = r->base ? r->base : cache;
        const int64_t from = r->base ? r->base_row : row;
        seen->k0 = er_cache_at(c, c->k, layer, from, start);
        seen->v0 = er_cache_at(c, c->v, layer, from, start);
    }
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

/* A piece of storage; none when count is 0. */
typedef struct part {
    float **at;
    int64_t count;
} part;

/* Gives every part its place, each on its own 64-byte line; storage NULL: only counts. Returns the floats in use. */
static int64_t lay_out(const part *parts, size_t count, float *storage)
{
    int64_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (storage) *parts[i].at = parts[i].count ? storage + used : NULL;
        used += (parts[i].count + 15) / 16 * 16;
    }
    return used;
}
#define LAY_OUT(parts, storage) lay_out((parts), sizeof(parts) / sizeof *(parts), (storage))

static int64_t lay_out_block(struct er_tape_block *b, const er_model *model, int64_t layer, int64_t tokens,
                             const er_work *work, float *storage)
{
    const er_config *c = &model->config;
    const er_norm *norm = model->layers[layer].norm;
    const int64_t x = tokens * c->hidden, q = tokens * c->heads * c->head_dim, f = tokens * c->inner;
    const part parts[] = {
        {&b->x_in, x},
        {&b->plain_q, norm[ER_NORM_Q].gain ? q : 0},
        {&b->plain_k, norm[ER_NORM_K].gain ? tokens * c->kv_heads * c->head_dim : 0},
        {&b->q, q},
        {&b->attended, q},
        {&b->before_out[0], norm[ER_NORM_ATTENTION_OUT].gain ? x : 0},
        {&b->x_mid, c->block == ER_BLOCK_PARALLEL ? 0 : x},
        {&b->gate, c->gated ? f : 0},
        {&b->up, f},
        {&b->before_out[1], norm[ER_NORM_MLP_OUT].gain ? x : 0},
        {&b->weights, work->place[tokens].weights[er_windowed(c, layer)]},
    };
    return LAY_OUT(parts, storage);
}

int er_tape_reserve(er_tape *tape, int64_t from, int64_t to, int64_t tokens, const er_work *work, er_err *err)
{
    int64_t need = 0;
    struct er_tape_block none;
    for (int64_t l = from; l < to; l++)
        if (er_model_holds(tape->model, l)) need += lay_out_block(&none, tape->model, l, tokens, work, NULL);
    ER_TRY(er_grow(&tape->block, &tape->block_capacity, (size_t)(to - from), err));
    ER_TRY(er_grow(&tape->storage, &tape->storage_capacity, (size_t)need, err));
    float *next = tape->storage;
    for (int64_t l = from; l < to; l++)
        if (er_model_holds(tape->model, l))
            next += lay_out_block(&tape->block[l - from], tape->model, l, tokens, work, next);
    tape->from = from;
    tape->to = to;
    tape->tokens = tokens;
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
    er_free(work->place);
    er_free(work->projected);
    er_free(work->head_grad);
    er_free(work->logits);
    er_free(work->heard);
    er_free(work);
}

const char *er_work_beyond(er_work *work, int64_t *layer)
{
    const char *what = work->beyond;
    *layer = work->beyond_layer;
    work->beyond = NULL;
    return what;
}

static int place_tokens(er_work *w, const er_span *spans, int64_t span_count, int64_t tokens, er_err *err)
{
    const er_config *c = &w->model->config;
    ER_TRY(er_grow(&w->place, &w->place_capacity, (size_t)tokens + 1, err));
    struct er_place next = {0};
    int64_t t = 0;
    w->longest = 0;
    for (int64_t s = 0; s < span_count; s++) {
        next.span = s;
        for (int64_t i = 0; i < spans[s].count; i++) {
            const int64_t all = spans[s].start + i + 1;
            next.position = all - 1;
            w->place[t++] = next;
            next.weights[0] += c->heads * all;
            next.weights[1] += c->heads * (all < c->window ? all : c->window);
            if (all > w->longest) w->longest = all;
        }
    }
    w->place[t] = next;
    return 0;
}

static int64_t lay_out_work(er_work *w, int64_t tokens, int64_t span_count, int gradients, float *storage)
{
    const er_config *c = &w->model->config;
    const int64_t threads = omp_get_max_threads(), x = tokens * c->hidden, f = tokens * c->inner;
    const int64_t q = tokens * c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    /* key and value gradients may cover a row's inactive positions */
    const int64_t rows_grad = gradients ? kv * w->longest * span_count : 0;
    const part parts[] = {
        {&w->normed, x},
        {&w->q, q},
        {&w->k, tokens * kv},
        {&w->v, tokens * kv},
        {&w->attended, q},
        {&w->out, x},
        {&w->gate, c->gated || gradients ? f : 0},
        {&w->up, f},
        {&w->inner, f},
        {&w->weights, threads * w->longest},
        {&w->scratch, gradients ? threads * w->longest : 0},
        {&w->side, gradients || c->block == ER_BLOCK_PARALLEL ? x : 0},
        {&w->part[0], gradients ? x : 0},
        {&w->part[1], gradients ? x : 0},
        {&w->q_grad, gradients ? q : 0},
        {&w->k_grad, rows_grad},
        {&w->v_grad, rows_grad},
    };
    return LAY_OUT(parts, storage);
}

int er_work_reserve(er_work *w, const er_span *spans, int64_t span_count, int gradients, er_err *err)
{
    const int64_t tokens = er_spans_tokens(spans, span_count);
    ER_TRY(place_tokens(w, spans, span_count, tokens, err));
    const int64_t need = lay_out_work(w, tokens, span_count, gradients, NULL);
    ER_TRY(er_grow(&w->storage, &w->capacity, (size_t)need, err));
    lay_out_work(w, tokens, span_count, gradients, w->storage);
    return 0;
}
