/* SPDX-License-Identifier: Apache-2.0 */
#include "model/pass.h"

#include "base/memory.h"

#include <string.h>

void er_pass_round(const er_pass *p, int64_t layer, const char *what, float *x, int64_t n)
{
    er_work *w = p->work;
    if (!er_round(x, n, p->config->compute)) return;
#pragma omp critical(er_beyond)
    if (!w->beyond) {
        w->beyond = what;
        w->beyond_layer = layer;
    }
}

void er_norm_rows(const er_config *c, const er_norm *norm, float *y, const float *x, int64_t rows, int64_t width)
{
    if (!norm->gain) {
        if (y != x) memcpy(y, x, (size_t)(rows * width) * sizeof *y);
    } else if (c->norm == ER_NORM_RMS) {
        er_rms_norm(y, x, norm->gain, rows, width, (float)c->norm_eps);
    } else {
        er_layer_norm(y, x, norm->gain, norm->shift, rows, width, (float)c->norm_eps);
    }
    if (norm->gain) er_round(y, rows * width, c->compute);
}

const float *er_norm_read(const er_config *c, const er_norm *norm, float *room, const float *x, int64_t rows,
                          int64_t width)
{
    if (!norm->gain) return x;
    er_norm_rows(c, norm, room, x, rows, width);
    return room;
}

void er_norm_back(const er_config *c, const er_norm *norm, float *x_grad, const float *y_grad, const float *x,
                  int64_t rows, int64_t width, int accumulate)
{
    if (!norm->gain) {
        if (accumulate)
            er_add(x_grad, y_grad, rows * width);
        else
            memcpy(x_grad, y_grad, (size_t)(rows * width) * sizeof *x_grad);
    } else if (c->norm == ER_NORM_RMS) {
        er_rms_norm_back(x_grad, y_grad, x, norm->gain, rows, width, (float)c->norm_eps, accumulate);
    } else {
        er_layer_norm_back(x_grad, y_grad, x, norm->gain, rows, width, (float)c->norm_eps, accumulate);
    }
    er_round(x_grad, rows * width, c->compute);
}

/* --- taps --------------------------------------------------------------------------------------------------------- */

enum { NO_MATRIX = -1 }; /* ends what a holder shows of a block */

static int wants(const er_pass *p, int64_t layer, int backward)
{
    const er_tap *tap = p->tap;
    return er_tap_at(tap, layer) && (backward ? tap->backward != NULL : tap->forward != NULL);
}

static int is_watched(const er_pass *p, int64_t layer, enum er_matrix_id matrix, int backward)
{
    return wants(p, layer, backward) && (!p->tap->matrices || p->tap->matrices & 1u << matrix);
}

static int is_shown(const er_pass *p, int64_t layer, int backward)
{
    return wants(p, layer, backward) && p->view->model->relay && !p->tap->local;
}

/* All shards together: which matrix comes next. */
static int share_which(const er_pass *p, int64_t layer, int32_t *which, er_err *err)
{
    const er_model *m = p->view->model;
    return er_model_share(m, er_model_shard_of(m, layer), which, sizeof *which, err);
}

static int share_rows(const er_pass *p, int64_t layer, const float *rows, int64_t width, er_err *err)
{
    const er_model *m = p->view->model;
    void *bytes = (void *)(uintptr_t)rows; /* the holder's are only read */
    return er_model_share(m, er_model_shard_of(m, layer), bytes, (size_t)(p->tokens * width) * sizeof *rows, err);
}

/* in (T, cols); out (T, rows): the output, or its gradient. */
static int call_tap(const er_pass *p, int64_t layer, int which, const float *in, float *out, int backward, er_err *err)
{
    const er_tap *tap = p->tap;
    return backward ? tap->backward(tap->context, layer, (enum er_matrix_id)which, in, out, p->tokens, err)
                    : tap->forward(tap->context, layer, (enum er_matrix_id)which, in, out, p->tokens, err);
}

static int show(const er_pass *p, int64_t layer, enum er_matrix_id matrix, const float *in, float *out, int backward,
                er_err *err)
{
    const er_matrix *w = &p->view->layers[layer].matrix[matrix];
    int32_t which = (int32_t)matrix;
    if (!is_watched(p, layer, matrix, backward)) return 0;
    if (is_shown(p, layer, backward)) {
        ER_TRY(share_which(p, layer, &which, err));
        ER_TRY(share_rows(p, layer, in, w->cols, err));
        ER_TRY(share_rows(p, layer, out, w->rows, err));
    }
    return call_tap(p, layer, which, in, out, backward, err);
}

int er_pass_heard(const er_pass *p, int64_t layer, int backward, er_err *err)
{
    int32_t end = NO_MATRIX;
    return is_shown(p, layer, backward) ? share_which(p, layer, &end, err) : 0;
}

int er_pass_hear(const er_pass *p, int64_t layer, int backward, er_err *err)
{
    er_work *work = p->work;
    while (is_shown(p, layer, backward)) {
        int32_t which = NO_MATRIX;
        ER_TRY(share_which(p, layer, &which, err));
        if (which == NO_MATRIX) return 0;
        const er_matrix *w = &p->view->layers[layer].matrix[which];
        ER_TRY(er_grow(&work->heard, &work->heard_capacity, (size_t)(p->tokens * (w->cols + w->rows)), err));
        float *in = work->heard, *out = in + p->tokens * w->cols;
        ER_TRY(share_rows(p, layer, in, w->cols, err));
        ER_TRY(share_rows(p, layer, out, w->rows, err));
        ER_TRY(call_tap(p, layer, which, in, out, backward, err));
    }
    return 0;
}

int er_pass_show_block(const er_pass *p, int64_t layer, float *x, int backward, er_err *err)
{
    const er_tap *tap = p->tap;
    if (!er_tap_at(tap, layer) || (backward ? !tap->block_grad : !tap->block)) return 0;
    if (tap->local && !er_model_holds(p->view->model, layer)) return 0;
    if (!tap->local) ER_TRY(share_rows(p, layer, x, p->config->hidden, err));
    return backward ? tap->block_grad(tap->context, layer, x, p->tokens, err)
                    : tap->block(tap->context, layer, x, p->tokens, err);
}

/* --- matrices ----------------------------------------------------------------------------------------------------- */
static const char *const matrix_of[ER_MATRIX_COUNT] = {
    [ER_MATRIX_Q] = "the queries", [ER_MATRIX_K] = "the keys",    [ER_MATRIX_V] = "the values",
    [ER_MATRIX_O] = "the attention's output", [ER_MATRIX_GATE] = "the MLP's gate", [ER_MATRIX_UP] = "the MLP's up projection",
    [ER_MATRIX_DOWN] = "the MLP's output"};

/* Whether what the product gives is the result: threads may go on from there. */
static int is_final(const er_pass *p, int64_t layer, enum er_matrix_id matrix)
{
    return !is_watched(p, layer, matrix, 0) && !p->view->layers[layer].bias[matrix] && p->config->compute == ER_F32;
}

static void follow(const er_pass *p, const er_rows_work *after, int count)
{
    for (int i = 0; i < count; i++) er_rows_run(&after[i], 4.0 * (double)p->tokens * (double)p->config->hidden);
}

int er_pass_map(const er_pass *p, int64_t layer, const er_mapping *maps, int count, const float *in,
                const er_rows_work *after, int after_count, er_err *err)
{
    const er_layer *l = &p->view->layers[layer];
    er_product_call calls[ER_PASS_MAPS] = {{0}};
    int plain = 1;
    ER_ALWAYS(count <= ER_PASS_MAPS);
    for (int i = 0; i < count; i++) {
        const er_matrix *w = &l->matrix[maps[i].which];
        calls[i] = (er_product_call){maps[i].out, w->rows, in, w->cols, p->tokens, w, 0};
        plain &= is_final(p, layer, maps[i].which);
    }
    er_products(calls, count, after, plain ? after_count : 0);
    if (plain) return 0;
    for (int i = 0; i < count; i++) {
        const enum er_matrix_id which = maps[i].which;
        const int64_t rows = calls[i].w->rows;
        if (l->bias[which]) er_add_bias(maps[i].out, l->bias[which], p->tokens, rows);
        er_pass_round(p, layer, matrix_of[which], maps[i].out, p->tokens * rows);
        if (!p->tap) continue;
        ER_TRY(show(p, layer, which, in, maps[i].out, 0, err));
        er_pass_round(p, layer, matrix_of[which], maps[i].out, p->tokens * rows); /* a tap may have added something */
    }
    follow(p, after, after_count);
    return 0;
}

typedef struct summing {
    const er_pass *p;
    int64_t layer, width;
    const er_mapping_back *maps;
    int count;
    const er_rows_work *after; /* NULL: none */
} summing;

static void sum_rows(const void *context, int64_t from, int64_t to)
{
    const summing *s = context;
    const int64_t at = from * s->width, n = (to - from) * s->width;
    for (int i = 1; i < s->count; i++) {
        er_add(s->maps[0].in_grad + at, s->maps[i].in_grad + at, n);
        er_pass_round(s->p, s->layer, "a gradient", s->maps[0].in_grad + at, n);
    }
    if (s->after) s->after->run(s->after->context, from, to);
}

int er_pass_map_back(const er_pass *p, int64_t layer, const er_mapping_back *maps, int count, const float *in,
                     const er_rows_work *after, int after_count, er_err *err)
{
    er_product_call calls[ER_PASS_MAPS] = {{0}};
    summing sum = {p, layer, 0, maps, count, NULL};
    ER_ALWAYS(count <= ER_PASS_MAPS && after_count <= ER_PASS_AFTER);
    for (int i = 0; i < count; i++) {
        const er_matrix *w = &p->view->layers[layer].matrix[maps[i].which];
        float *shown = (float *)(uintptr_t)maps[i].out_grad; /* taps of gradients only read */
        if (p->tap) ER_TRY(show(p, layer, maps[i].which, in, shown, 1, err));
        calls[i] = (er_product_call){maps[i].in_grad, w->cols, maps[i].out_grad, w->rows, p->tokens, w, 1};
        sum.width = w->cols;
    }
    er_rows_work all[1 + ER_PASS_AFTER] = {{sum_rows, &sum, p->tokens}};
    const int sums = count > 1, joined = sums && after_count > 0; /* behind a sum: token by token as sums are */
    if (joined) sum.after = &after[0];
    for (int i = joined; i < after_count; i++) all[sums + i - joined] = after[i];
    const int alls = sums + after_count - joined, plain = p->config->compute == ER_F32;
    er_products(calls, count, all, plain ? alls : 0);
    if (plain) return 0;
    for (int i = 0; i < count; i++)
        er_pass_round(p, layer, "a gradient", maps[i].in_grad, p->tokens * calls[i].w->cols);
    follow(p, all, alls);
    return 0;
}

void er_pass_rotate(const er_pass *p, int64_t layer, float *x, int64_t heads, int inverse, int64_t from, int64_t to)
{
    const er_config *c = p->config;
    if (c->positions == ER_POSITION_LEARNED || er_layer_in(&c->unrotated, layer)) return;
    const er_rope_table *table = &p->view->model->rope[c->rope_local_base != 0 && er_layer_in(&c->windowed, layer)];
    const int64_t half = c->rope_dim / 2, width = heads * c->head_dim;
    for (int64_t t = from; t < to; t++) {
        int64_t at = p->work->place[t].position * half;
        er_rope(x + t * width, table->cosine + at, table->sine + at, heads, c->head_dim, c->rope_dim, inverse,
                c->positions == ER_POSITION_PAIRS);
    }
    er_pass_round(p, layer, inverse ? "a gradient" : "rotated queries or keys", x + from * width, (to - from) * width);
}

int er_check_length(const er_model *model, int64_t length, er_err *err)
{
    if (length <= model->longest_text) return 0;
    return er_fail(err, ER_E_INPUT, "a text of %lld tokens is longer than the %lld positions of the model",
                   (long long)length, (long long)model->longest_text);
}
