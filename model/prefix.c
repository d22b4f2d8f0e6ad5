/* SPDX-License-Identifier: Apache-2.0 */
#include "model/prefix.h"

#include <stdlib.h>
#include <string.h>

typedef struct entry {
    const int32_t *ids;
    int64_t most, text;
} entry;

/* Texts in order of their ids, and the best way to cut the first i of them. */
typedef struct cut {
    entry *sorted;   /* (texts) */
    int64_t *common; /* (texts) leading ids of sorted[i-1] and sorted[i] that both may share */
    int64_t *saved;  /* (texts + 1) positions saved among the first i */
    int64_t *start;  /* (texts + 1) where the last group of that cut starts */
    int64_t *shared; /* (texts + 1) and what its texts share, 0: a text on its own */
} cut;

static int64_t common_ids(const entry *a, const entry *b)
{
    const int64_t most = a->most < b->most ? a->most : b->most;
    int64_t n = 0;
    while (n < most && a->ids[n] == b->ids[n]) n++;
    return n;
}

static int by_ids(const void *left, const void *right)
{
    const entry *a = left, *b = right;
    const int64_t n = common_ids(a, b);
    if (n < a->most && n < b->most) return a->ids[n] < b->ids[n] ? -1 : 1;
    if (a->most != b->most) return a->most < b->most ? -1 : 1;
    return a->text < b->text ? -1 : a->text > b->text;
}

/* A group of g neighbours that share n ids saves (g - 1) n positions. */
static void choose(const cut *c, int64_t texts)
{
    for (int64_t i = 0; i < texts; i++) {
        int64_t shared = c->sorted[i].most;
        if (c->saved[i] >= c->saved[i + 1]) {
            c->saved[i + 1] = c->saved[i];
            c->start[i + 1] = i;
            c->shared[i + 1] = 0;
        }
        for (int64_t j = i + 1; j < texts; j++) {
            if (c->common[j] < shared) shared = c->common[j];
            if (!shared) break;
            if (c->saved[i] + (j - i) * shared <= c->saved[j + 1]) continue;
            c->saved[j + 1] = c->saved[i] + (j - i) * shared;
            c->start[j + 1] = i;
            c->shared[j + 1] = shared;
        }
    }
}

static int cut_texts(cut *c, const int32_t *const *ids, const int64_t *most, int64_t texts, er_err *err)
{
    ER_TRY(er_alloc(&c->sorted, (size_t)texts, err));
    ER_TRY(er_alloc(&c->common, (size_t)texts, err));
    ER_TRY(er_alloc(&c->saved, (size_t)texts + 1, err));
    ER_TRY(er_alloc(&c->start, (size_t)texts + 1, err));
    ER_TRY(er_alloc(&c->shared, (size_t)texts + 1, err));
    for (int64_t i = 0; i < texts; i++) c->sorted[i] = (entry){ids[i], most ? most[i] : 0, i};
    qsort(c->sorted, (size_t)texts, sizeof *c->sorted, by_ids);
    for (int64_t i = 1; i < texts; i++) c->common[i] = common_ids(&c->sorted[i - 1], &c->sorted[i]);
    choose(c, texts);
    return 0;
}

/* From the last group to the first; bases are numbered on the way. */
static void give_bases(er_prefixes *p, const cut *c)
{
    for (int64_t end = p->texts; end > 0; end = c->start[end]) {
        const int64_t shared = c->shared[end], row = p->texts + p->bases;
        if (!shared) continue;
        for (int64_t i = c->start[end]; i < end; i++) {
            p->base[c->sorted[i].text] = row;
            p->length[c->sorted[i].text] = shared;
        }
        p->ids[row] = c->sorted[end - 1].ids;
        p->length[row] = 0;
        p->end[row] = shared;
        p->bases++;
    }
}

int er_prefixes_find(er_prefixes *out, const int32_t *const *ids, const int64_t *count, const int64_t *most,
                     int64_t texts, er_arena *arena, er_err *err)
{
    const size_t rows = (size_t)(texts + texts / 2); /* a base has two texts at least */
    cut c = {0};
    *out = (er_prefixes){.texts = texts};
    ER_TRY(er_arena_take(arena, &out->ids, rows, err));
    ER_TRY(er_arena_take(arena, &out->base, (size_t)texts, err));
    ER_TRY(er_arena_take(arena, &out->length, rows, err));
    ER_TRY(er_arena_take(arena, &out->end, rows, err));
    for (int64_t i = 0; i < texts; i++) {
        out->ids[i] = ids[i];
        out->base[i] = -1;
        out->length[i] = 0;
        out->end[i] = count[i];
    }
    int code = cut_texts(&c, ids, most, texts, err);
    if (!code) give_bases(out, &c);
    er_free(c.sorted);
    er_free(c.common);
    er_free(c.saved);
    er_free(c.start);
    er_free(c.shared);
    return code;
}

int64_t er_prefixes_tokens(const er_prefixes *p)
{
    int64_t tokens = 0;
    for (int64_t r = 0; r < p->texts + p->bases; r++) tokens += p->end[r] - p->length[r];
    return tokens;
}

int er_prefixes_cache(er_cache **out, const er_prefixes *p, const er_model *model, int64_t from, int64_t to,
                      er_err *err)
{
    const int64_t rows = p->texts + p->bases;
    int64_t *capacity = NULL;
    ER_TRY(er_alloc(&capacity, (size_t)rows, err));
    for (int64_t r = 0; r < rows; r++) capacity[r] = p->end[r] - p->length[r];
    int code = er_cache_new(out, model, rows, capacity, from, to, err);
    er_free(capacity);
    if (code) return code;
    for (int64_t t = 0; t < p->texts; t++)
        if (p->base[t] >= 0) er_cache_share(*out, t, *out, p->base[t], p->length[t]);
    return 0;
}

void er_prefixes_spans(const er_prefixes *p, er_span *spans)
{
    for (int64_t r = 0; r < p->texts + p->bases; r++)
        spans[r] = (er_span){r, p->length[r], p->end[r] - p->length[r]};
}

int er_prefixes_embed(const er_prefixes *p, const er_model *model, float *x, er_err *err)
{
    for (int64_t r = 0; r < p->texts + p->bases; r++) {
        const er_span span = {r, p->length[r], p->end[r] - p->length[r]};
        if (!span.count) continue;
        ER_TRY(er_embed(model, x, p->ids[r] + span.start, &span, 1, err));
        x += span.count * model->config.hidden;
    }
    return 0;
}

/* Takes positions before wanted[s] out of spans and x; they are `rest`, their stream rest_x. */
static void part(er_span *spans, int64_t span_count, const int64_t *wanted, float *x, int64_t d, er_span *rest,
                 float *rest_x)
{
    float *kept = x;
    for (int64_t s = 0; s < span_count; s++) {
        const int64_t all = spans[s].count, before = wanted[s] - spans[s].start;
        const int64_t out = before < 0 ? 0 : before < all ? before : all;
        rest[s] = (er_span){spans[s].row, spans[s].start, out};
        memcpy(rest_x, x, (size_t)(out * d) * sizeof *x);
        memmove(kept, x + out * d, (size_t)((all - out) * d) * sizeof *x);
        spans[s].start += out;
        spans[s].count -= out;
        kept += spans[s].count * d;
        rest_x += out * d;
        x += all * d;
    }
}

int er_forward_wanted(const er_view *view, er_cache *cache, er_span *spans, int64_t span_count, const int64_t *wanted,
                      float *x, int64_t from, int64_t to, const er_tap *tap, er_work *work, er_err *err)
{
    const int64_t d = view->model->config.hidden;
    er_span *rest = NULL;
    float *rest_x = NULL;
    if (from < to) ER_TRY(er_forward(view, cache, spans, span_count, x, from, to - 1, NULL, tap, work, err));
    int code = er_alloc(&rest, (size_t)span_count, err);
    if (!code) code = er_alloc(&rest_x, (size_t)(er_spans_tokens(spans, span_count) * d), err);
    if (!code) part(spans, span_count, wanted, x, d, rest, rest_x);
    if (!code && from < to) code = er_forward_keys(view, cache, rest, span_count, rest_x, to - 1, work, err);
    if (!code && from < to) code = er_forward(view, cache, spans, span_count, x, to - 1, to, NULL, tap, work, err);
    er_free(rest);
    er_free(rest_x);
    return code;
}
