/* SPDX-License-Identifier: Apache-2.0 */
/* Backward of forward.c to the inputs (spec section 23). g = dL/dx'' comes in, dL/dx goes out. F' is the gradient of
 * attention or MLP with respect to its input, n' and o' that of a norm:
 *   x + o(F(n(x))):  g + n'(F'(o'(g)))
 *   o(x + F(n(x))):  h + n'(F'(h)), h = o'(g)
 *   both at once:    g + n1'(A'(g)) + n2'(M'(g)), with one norm g + n1'(A'(g) + M'(g)) */
#include "base/memory.h"
#include "base/tick.h"
#include "model/pass.h"

#include <string.h>

typedef struct half {
    int (*back)(const er_pass *, int64_t, float *, const float *, const float *, const struct er_tape_block *,
                const er_rows_work *, er_err *);
    enum er_norm_id before, after;
} half;

static const half halves[2] = {
    {er_attention_back, ER_NORM_ATTENTION, ER_NORM_ATTENTION_OUT},
    {er_mlp_back, ER_NORM_MLP, ER_NORM_MLP_OUT},
};

/* A half's input, made again where a tap sees it. */
static const float *input(const er_pass *p, int64_t layer, const er_norm *norm, const float *x)
{
    if (!er_pass_wants_inputs(p, layer)) return NULL;
    return er_norm_read(p->config, norm, p->work->normed, x, p->tokens, p->config->hidden);
}

/* Where the half's own gradient, in w->out, joins the stream's, g. */
typedef struct meeting {
    const er_pass *p;
    const er_norm *before;
    float *g;
    const float *x;     /* what the half read in the forward pass */
    const float *other; /* POST: h, which takes the place of g; else NULL */
} meeting;

static void join(const void *context, int64_t from, int64_t to)
{
    const meeting *m = context;
    const int64_t d = m->p->config->hidden, at = from * d;
    if (m->other) er_copy(m->g + at, m->other + at, (to - from) * d);
    er_norm_back(m->p->config, m->before, m->g + at, m->p->work->out + at, m->x + at, to - from, d, 1);
}

static int half_back(const er_pass *p, int64_t layer, float *g, int which, const float *x,
                     const struct er_tape_block *tape, er_err *err)
{
    const er_config *c = p->config;
    const half *h = &halves[which];
    const er_norm *before = er_pass_norm(p, layer, h->before), *after = er_pass_norm(p, layer, h->after);
    er_work *w = p->work;
    const float *out_grad = g;
    if (after->gain) {
        er_norm_back(c, after, w->side, g, tape->before_out[which], p->tokens, c->hidden, 0);
        out_grad = w->side;
    }
    const meeting m = {p, before, g, x, c->block == ER_BLOCK_POST && after->gain ? w->side : NULL};
    const er_rows_work joining = {join, &m, p->tokens};
    return h->back(p, layer, w->out, out_grad, input(p, layer, before, x), tape, &joining, err);
}

static int both_back(const er_pass *p, int64_t layer, float *g, const struct er_tape_block *tape, er_err *err)
{
    const er_config *c = p->config;
    const er_norm *n1 = er_pass_norm(p, layer, ER_NORM_ATTENTION), *n2 = er_pass_norm(p, layer, ER_NORM_MLP);
    er_work *w = p->work;
    const float *x = tape->x_in;
    ER_TRY(er_mlp_back(p, layer, w->side, g, input(p, layer, n2->gain ? n2 : n1, x), tape, NULL, err));
    ER_TRY(er_attention_back(p, layer, w->out, g, input(p, layer, n1, x), tape, NULL, err));
    if (n2->gain) {
        er_norm_back(c, n2, g, w->side, x, p->tokens, c->hidden, 1);
    } else {
        er_add(w->out, w->side, p->tokens * c->hidden);
        er_pass_round(p, layer, "a gradient", w->out, p->tokens * c->hidden);
    }
    er_norm_back(c, n1, g, w->out, x, p->tokens, c->hidden, 1);
    return 0;
}

static int block_back(const er_pass *p, int64_t layer, float *g, const struct er_tape_block *tape, er_err *err)
{
    if (p->config->block == ER_BLOCK_PARALLEL) return both_back(p, layer, g, tape, err);
    ER_TRY(half_back(p, layer, g, 1, tape->x_mid, tape, err));
    return half_back(p, layer, g, 0, tape->x_in, tape, err);
}

int er_backward(const er_view *view, const er_cache *cache, const er_span *spans, int64_t span_count, float *x_grad,
                int64_t from, int64_t to, const er_tape *tape, const er_tap *tap, er_work *work, er_err *err)
{
    const er_pass p = {view,       &view->model->config, cache, spans,
                       span_count, er_spans_tokens(spans, span_count), tap, work};
    if (!p.tokens) return 0;
    ER_ALWAYS(tape->from <= from && tape->to >= to && tape->tokens == p.tokens);
    ER_TRY(er_work_reserve(work, spans, span_count, 1, err));
    const er_model *m = view->model;
    const size_t bytes = (size_t)(p.tokens * p.config->hidden) * sizeof *x_grad;
    for (int64_t l = to - 1; l >= from; l--) {
        ER_TRY(er_pass_show_block(&p, l, x_grad, 1, err));
        if (er_model_holds(m, l)) {
            ER_TRY(block_back(&p, l, x_grad, &tape->block[l - tape->from], err));
            ER_TRY(er_pass_heard(&p, l, 1, err));
        } else {
            ER_TRY(er_pass_hear(&p, l, 1, err));
        }
        if (l > from) ER_TRY(er_model_pass(m, l, l - 1, x_grad, bytes, err));
        er_tick();
    }
    return from < to ? er_model_share(m, er_model_shard_of(m, from), x_grad, bytes, err) : 0;
}
