/* SPDX-License-Identifier: Apache-2.0 */
#include "editors/keys.h"

#include "base/memory.h"

#include <string.h>

enum { CHUNK_FLOATS = 1 << 23 }; /* of the widest activation: 32 MiB */

/* The texts of one chunk of requests, request by request, template by template. */
typedef struct texts {
    const er_prompt *prompts;
    int64_t count;    /* requests */
    int64_t rows;     /* texts */
    int64_t tokens;
    int64_t f, d;
    int64_t layer;    /* where the tap listens */
    int64_t *length;  /* (rows) */
    er_span *spans;   /* (rows) */
    int32_t *ids;     /* (tokens) */
    float *x;         /* (tokens, d) */
    float *keys;      /* (rows, f): input of the down projection at the subject */
    float *outputs;   /* (count, d): its output at the plain texts, NULL where nobody asks */
    int64_t last;     /* where the plain texts' outputs are taken when they have run on */
} texts;

static void texts_free(texts *t)
{
    er_free(t->length);
    er_free(t->spans);
    er_free(t->ids);
    er_free(t->x);
    er_free(t->keys);
    er_free(t->outputs);
}

static int64_t prompt_tokens(const er_prompt *p)
{
    int64_t tokens = 0;
    for (int64_t c = 0; c < p->templates; c++) tokens += p->keys[c].count;
    return tokens;
}

/* How many requests from `prompts` on fit into one chunk, at least one. */
static int64_t chunk_of(const er_prompt *prompts, int64_t count, int64_t f)
{
    int64_t n = 1, tokens = prompt_tokens(prompts);
    while (n < count) {
        tokens += prompt_tokens(prompts + n);
        if (tokens > CHUNK_FLOATS / f) break;
        n++;
    }
    return n;
}

static int texts_make(texts *t, const er_view *view, int64_t layer, const er_prompt *prompts, int64_t count,
                      int outputs, er_err *err)
{
    const er_config *c = &view->model->config;
    *t = (texts){.prompts = prompts, .count = count, .layer = layer, .f = c->inner, .d = c->hidden};
    for (int64_t i = 0; i < count; i++) {
        t->rows += prompts[i].templates;
        t->tokens += prompt_tokens(prompts + i);
    }
    ER_TRY(er_alloc(&t->length, (size_t)t->rows, err));
    ER_TRY(er_alloc(&t->spans, (size_t)t->rows, err));
    ER_TRY(er_alloc(&t->ids, (size_t)t->tokens, err));
    ER_TRY(er_alloc(&t->x, (size_t)(t->tokens * t->d), err));
    ER_TRY(er_alloc(&t->keys, (size_t)(t->rows * t->f), err));
    if (outputs) ER_TRY(er_alloc(&t->outputs, (size_t)(t->count * t->d), err));
    int64_t row = 0, token = 0;
    for (int64_t i = 0; i < count; i++) {
        for (int64_t k = 0; k < prompts[i].templates; k++, row++) {
            const er_text_row *text = &prompts[i].keys[k];
            t->length[row] = text->count;
            t->spans[row] = (er_span){row, 0, text->count};
            memcpy(t->ids + token, text->ids, (size_t)text->count * sizeof *t->ids);
            token += text->count;
        }
    }
    return er_embed(view->model, t->x, t->ids, t->spans, t->rows, err);
}

static int listen(void *context, int64_t layer, enum er_matrix_id which, const float *in, float *out,
                  int64_t tokens, er_err *err)
{
    texts *t = context;
    (void)which;
    (void)err;
    if (layer != t->layer) return 0;
    ER_ALWAYS(tokens == t->tokens);
    int64_t row = 0, token = 0;
    for (int64_t i = 0; i < t->count; i++) {
        for (int64_t k = 0; k < t->prompts[i].templates; k++, row++) {
            token += t->length[row]; /* the subject's last token is the text's last */
            memcpy(t->keys + row * t->f, in + (token - 1) * t->f, (size_t)t->f * sizeof *in);
            if (k == 0 && t->outputs)
                memcpy(t->outputs + i * t->d, out + (token - 1) * t->d, (size_t)t->d * sizeof *out);
        }
    }
    return 0;
}

/* All texts through blocks 0 .. layer. */
static int run_all(texts *t, const er_view *view, er_work *work, er_err *err)
{
    er_cache *cache;
    er_tap tap = {.context = t, .forward = listen, .matrices = 1u << ER_MATRIX_DOWN};
    ER_TRY(er_cache_new(&cache, view->model, t->rows, t->length, 0, t->layer + 1, err));
    int code = er_forward(view, cache, t->spans, t->rows, t->x, 0, t->layer + 1, NULL, &tap, work, err);
    er_cache_free(cache);
    return code;
}

static int listen_plain(void *context, int64_t layer, enum er_matrix_id which, const float *in, float *out,
                        int64_t tokens, er_err *err)
{
    texts *t = context;
    int64_t token = 0;
    (void)which, (void)in, (void)tokens, (void)err;
    if (layer != t->last || !t->outputs) return 0;
    for (int64_t i = 0; i < t->count; i++) {
        token += t->length[i];
        memcpy(t->outputs + i * t->d, out + (token - 1) * t->d, (size_t)t->d * sizeof *out);
    }
    return 0;
}

/* The plain texts move to the front of x (and of spans and lengths) and run on through blocks layer+1 .. last. */
static int run_plain(texts *t, const er_view *view, int64_t last, er_work *work, er_err *err)
{
    int64_t from = 0, to = 0, row = 0;
    for (int64_t i = 0; i < t->count; i++) {
        int64_t count = t->length[row];
        memmove(t->x + to * t->d, t->x + from * t->d, (size_t)(count * t->d) * sizeof *t->x);
        for (int64_t k = 0; k < t->prompts[i].templates; k++) from += t->length[row + k];
        row += t->prompts[i].templates;
        t->length[i] = count;
        t->spans[i] = (er_span){i, 0, count};
        to += count;
    }
    if (last == t->layer) return 0;
    t->last = last;
    er_cache *cache;
    er_tap tap = {.context = t, .forward = listen_plain, .matrices = 1u << ER_MATRIX_DOWN};
    ER_TRY(er_cache_new(&cache, view->model, t->count, t->length, t->layer + 1, last + 1, err));
    int code = er_forward(view, cache, t->spans, t->count, t->x, t->layer + 1, last + 1, NULL, &tap, work, err);
    er_cache_free(cache);
    return code;
}

/* Rows first .. end-1 of `rows`, their mean rounded once; in is scaled in fp64 and added in ascending order. */
static double mean_at(const float *rows, int64_t f, int64_t first, int64_t end, int64_t j)
{
    double sum = 0.0;
    for (int64_t k = first; k < end; k++) sum += (double)rows[k * f + j];
    return sum / (double)(end - first);
}

static int memit_chunk(texts *t, const er_view *view, int64_t last, float *keys, er_work *work, er_err *err)
{
    int64_t row = 0, token = 0;
    ER_TRY(run_all(t, view, work, err));
    ER_TRY(run_plain(t, view, last, work, err));
    for (int64_t i = 0; i < t->count; i++) {
        int64_t n = t->prompts[i].templates;
        const float *own = t->keys + row * t->f;
        float *out = keys + i * (t->f + t->d);
        for (int64_t j = 0; j < t->f; j++)
            out[j] = n > 1 ? (float)(((double)own[j] + mean_at(own, t->f, 1, n, j)) / 2.0) : own[j];
        row += n;
        token += t->length[i];
        memcpy(out + t->f, t->outputs ? t->outputs + i * t->d : t->x + (token - 1) * t->d, (size_t)t->d * sizeof *out);
    }
    return 0;
}

static int rome_chunk(texts *t, const er_view *view, float *keys, er_work *work, er_err *err)
{
    int64_t row = 0;
    ER_TRY(run_all(t, view, work, err));
    for (int64_t i = 0; i < t->count; i++) {
        int64_t n = t->prompts[i].templates;
        const float *own = t->keys + row * t->f;
        float *out = keys + i * (2 * t->f + t->d);
        for (int64_t j = 0; j < t->f; j++) out[j] = (float)mean_at(own, t->f, 0, n, j);
        memcpy(out + t->f, own, (size_t)t->f * sizeof *out);
        memcpy(out + 2 * t->f, t->outputs + i * t->d, (size_t)t->d * sizeof *out);
        row += n;
    }
    return 0;
}

int er_keys_memit(const er_view *view, int64_t layer, int64_t last, const er_prompt *prompts, int64_t count,
                  float *keys, er_work *work, er_err *err)
{
    const er_config *c = &view->model->config;
    const int outputs = er_config_norms_output(c);
    int code = 0;
    for (int64_t i = 0, n; !code && i < count; i += n) {
        texts t;
        n = chunk_of(prompts + i, count - i, c->inner);
        code = texts_make(&t, view, layer, prompts + i, n, outputs, err);
        if (!code) code = memit_chunk(&t, view, last, keys + i * (c->inner + c->hidden), work, err);
        texts_free(&t);
    }
    return code;
}

int er_keys_rome(const er_view *view, int64_t layer, const er_prompt *prompts, int64_t count, float *keys,
                 er_work *work, er_err *err)
{
    const er_config *c = &view->model->config;
    int code = 0;
    for (int64_t i = 0, n; !code && i < count; i += n) {
        texts t;
        n = chunk_of(prompts + i, count - i, c->inner);
        code = texts_make(&t, view, layer, prompts + i, n, 1, err);
        if (!code) code = rome_chunk(&t, view, keys + i * (2 * c->inner + c->hidden), work, err);
        texts_free(&t);
    }
    return code;
}
