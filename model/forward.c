/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks forward: how attention and MLP join the residual stream (model/config.h has the formulas). */
#include "base/memory.h"
#include "base/tick.h"
#include "model/pass.h"

/* One half of a block that follows the other half: attention, or the MLP. */
typedef struct half {
    int (*forward)(const er_pass *, int64_t, float *, const float *, struct er_tape_block *, const er_rows_work *,
                   er_err *);
    enum er_norm_id before, after;
} half;

static const half halves[2] = {
    {er_attention, ER_NORM_ATTENTION, ER_NORM_ATTENTION_OUT},
    {er_mlp, ER_NORM_MLP, ER_NORM_MLP_OUT},
};

static const char stream[] = "the stream";

/* How half `which` meets the stream x, token by token; out: what its matrices give. */
typedef struct meeting {
    const er_pass *p;
    int64_t layer;
    float *x, *out;
    int which;
    struct er_tape_block *tape;
} meeting;

/* The stream before a half is kept for the way back, and its norm is what the half reads. */
static void enter(const meeting *m, int which, int64_t from, int64_t to)
{
    const er_pass *p = m->p;
    const int64_t d = p->config->hidden, at = from * d;
    float *kept = !m->tape ? NULL : which ? m->tape->x_mid : m->tape->x_in;
    if (kept) er_copy(kept + at, m->x + at, (to - from) * d);
    er_norm_read(p->config, er_pass_norm(p, m->layer, halves[which].before), p->work->normed + at, m->x + at, to - from, d);
}

static void enter_first(const void *context, int64_t from, int64_t to) { enter(context, 0, from, to); }

/* x += o(out), or x = o(x + out) in a POST block; then into the other half. */
static void join(const void *context, int64_t from, int64_t to)
{
    const meeting *m = context;
    const er_pass *p = m->p;
    const er_config *c = p->config;
    const er_norm *after = er_pass_norm(p, m->layer, halves[m->which].after);
    const int64_t d = c->hidden, at = from * d, n = (to - from) * d;
    float *x = m->x + at, *out = m->out + at, *normed = p->work->out + at;
    if (c->block == ER_BLOCK_POST) {
        er_add(x, out, n);
        er_pass_round(p, m->layer, stream, x, n);
        if (m->tape && m->tape->before_out[m->which]) er_copy(m->tape->before_out[m->which] + at, x, n);
        er_norm_rows(c, after, x, x, to - from, d);
    } else {
        er_norm_rows(c, after, normed, out, to - from, d);
        er_add(x, normed, n);
        er_pass_round(p, m->layer, stream, x, n);
    }
    if (m->which == 0) enter(m, 1, from, to);
}

/* x += o(F(n(x))), or x = o(x + F(n(x))) in a POST block. */
static int add_half(const er_pass *p, int64_t layer, float *x, int which, struct er_tape_block *tape, er_err *err)
{
    float *kept = tape && p->config->block != ER_BLOCK_POST ? tape->before_out[which] : NULL;
    const meeting m = {p, layer, x, kept ? kept : p->work->out, which, tape};
    const er_rows_work first = {enter_first, &m, p->tokens}, after = {join, &m, p->tokens};
    if (which == 0) er_rows_run(&first, 2.0 * (double)p->tokens * (double)p->config->hidden);
    const float *in = er_pass_norm(p, layer, halves[which].before)->gain ? p->work->normed : x;
    return halves[which].forward(p, layer, m.out, in, tape, &after, err);
}

/* x += A(n1(x)) + M(n2(x)) */
static int add_both(const er_pass *p, int64_t layer, float *x, struct er_tape_block *tape, er_err *err)
{
    const er_config *c = p->config;
    const er_norm *second = er_pass_norm(p, layer, ER_NORM_MLP);
    er_work *w = p->work;
    const int64_t n = p->tokens * c->hidden;
    if (tape) er_copy(tape->x_in, x, n);
    const float *in = er_norm_read(c, er_pass_norm(p, layer, ER_NORM_ATTENTION), w->normed, x, p->tokens, c->hidden);
    ER_TRY(er_attention(p, layer, w->out, in, tape, NULL, err));
    if (second->gain) in = er_norm_read(c, second, w->normed, x, p->tokens, c->hidden);
    ER_TRY(er_mlp(p, layer, w->side, in, tape, NULL, err));
    er_add(x, w->out, n);
    er_pass_round(p, layer, stream, x, n);
    er_add(x, w->side, n);
    er_pass_round(p, layer, stream, x, n);
    return 0;
}

static int run_block(const er_pass *p, int64_t layer, float *x, struct er_tape_block *tape, er_err *err)
{
    if (p->config->block == ER_BLOCK_PARALLEL) return add_both(p, layer, x, tape, err);
    ER_TRY(add_half(p, layer, x, 0, tape, err));
    return add_half(p, layer, x, 1, tape, err);
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
        ER_TRY(er_check_length(model, a->start + a->count, err));
    }
    return 0;
}

int er_forward(const er_view *view, er_cache *cache, const er_span *spans, int64_t span_count, float *x, int64_t from,
               int64_t to, er_tape *tape, const er_tap *tap, er_work *work, er_err *err)
{
    const er_pass p = {view,       &view->model->config, cache, spans,
                       span_count, er_spans_tokens(spans, span_count), tap, work};
    ER_TRY(check_spans(view->model, cache, spans, span_count, from, to, err));
    if (!p.tokens) return 0;
    ER_TRY(er_work_reserve(work, spans, span_count, 0, err));
    if (tape) ER_TRY(er_tape_reserve(tape, from, to, p.tokens, work, err));
    const er_model *m = view->model;
    const size_t bytes = (size_t)(p.tokens * p.config->hidden) * sizeof *x;
    for (int64_t l = from; l < to; l++) {
        if (er_model_holds(m, l)) {
            ER_TRY(run_block(&p, l, x, tape ? &tape->block[l - from] : NULL, err));
            ER_TRY(er_pass_heard(&p, l, 0, err));
        } else {
            ER_TRY(er_pass_hear(&p, l, 0, err));
        }
        ER_TRY(er_pass_show_block(&p, l, x, 0, err));
        if (tap && tap->block) er_pass_round(&p, l, stream, x, p.tokens * p.config->hidden); /* it may have added something */
        if (l + 1 < to) ER_TRY(er_model_pass(m, l, l + 1, x, bytes, err));
        er_tick();
    }
    return from < to ? er_model_share(m, er_model_shard_of(m, to - 1), x, bytes, err) : 0;
}

int er_forward_keys(const er_view *view, er_cache *cache, const er_span *spans, int64_t span_count, const float *x,
                    int64_t layer, er_work *work, er_err *err)
{
    const er_config *c = &view->model->config;
    const er_pass p = {view, c, cache, spans, span_count, er_spans_tokens(spans, span_count), NULL, work};
    ER_TRY(check_spans(view->model, cache, spans, span_count, layer, layer + 1, err));
    if (!p.tokens || !er_model_holds(view->model, layer)) return 0;
    ER_TRY(er_work_reserve(work, spans, span_count, 0, err));
    const float *in = er_norm_read(c, er_pass_norm(&p, layer, ER_NORM_ATTENTION), work->normed, x, p.tokens, c->hidden);
    return er_attention_keys(&p, layer, in, err);
}
