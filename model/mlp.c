/* SPDX-License-Identifier: Apache-2.0 */
/* M(x) = (act(x Wg^T + bg) * (x Wu^T + bu)) Wd^T + bd, or act(x Wu^T + bu) Wd^T + bd without a gate. The input of Wd is
 * the MLP's key. */
#include "model/pass.h"

static enum er_activation kind(const er_config *c) { return (enum er_activation)c->activation; }

/* The MLP between its matrices, forward or back, token by token. */
typedef struct middle {
    const er_pass *p;
    int64_t layer;
    float *key;             /* forward: out */
    const float *gate, *up; /* gate: of gated MLPs alone */
    const float *key_grad;  /* back: in */
    float *gate_grad, *up_grad;
} middle;

static void make_key(const void *context, int64_t from, int64_t to)
{
    const middle *m = context;
    const er_config *c = m->p->config;
    const int64_t at = from * c->inner, n = (to - from) * c->inner;
    if (c->gated)
        er_gated(m->key + at, m->gate + at, m->up + at, n, kind(c));
    else
        er_activate(m->key + at, m->up + at, n, kind(c));
    er_pass_round(m->p, m->layer, "the MLP's key", m->key + at, n);
}

static void key_back(const void *context, int64_t from, int64_t to)
{
    const middle *m = context;
    const er_config *c = m->p->config;
    const int64_t at = from * c->inner, n = (to - from) * c->inner;
    if (c->gated) {
        er_gated_back(m->gate_grad + at, m->up_grad + at, m->key_grad + at, m->gate + at, m->up + at, n, kind(c));
        er_pass_round(m->p, m->layer, "a gradient", m->gate_grad + at, n);
    } else {
        er_activate_back(m->up_grad + at, m->key_grad + at, m->up + at, n, kind(c));
    }
    er_pass_round(m->p, m->layer, "a gradient", m->up_grad + at, n);
}

int er_mlp(const er_pass *p, int64_t layer, float *out, const float *in, struct er_tape_block *tape,
           const er_rows_work *after, er_err *err)
{
    er_work *w = p->work;
    float *gate = tape ? tape->gate : w->gate, *up = tape ? tape->up : w->up;
    const er_mapping maps[] = {{ER_MATRIX_GATE, gate}, {ER_MATRIX_UP, up}};
    const int gated = p->config->gated != 0;
    const middle m = {.p = p, .layer = layer, .key = w->inner, .gate = gate, .up = up};
    const er_rows_work key = {make_key, &m, p->tokens};
    ER_TRY(er_pass_map(p, layer, maps + !gated, 1 + gated, in, &key, 1, err));
    return er_pass_map(p, layer, &(er_mapping){ER_MATRIX_DOWN, out}, 1, w->inner, after, after != NULL, err);
}

int er_mlp_back(const er_pass *p, int64_t layer, float *in_grad, const float *out_grad, const float *in,
                const struct er_tape_block *tape, const er_rows_work *after, er_err *err)
{
    er_work *w = p->work;
    const int gated = p->config->gated != 0;
    const middle m = {p, layer, w->inner, tape->gate, tape->up, w->gate, w->inner, w->up};
    const er_rows_work back = {key_back, &m, p->tokens};
    const er_mapping_back down = {ER_MATRIX_DOWN, w->gate, out_grad};
    /* an MLP without a gate has one map, whose gradient is in_grad itself */
    const er_mapping_back maps[] = {{ER_MATRIX_GATE, in_grad, w->inner},
                                    {ER_MATRIX_UP, gated ? w->part[0] : in_grad, w->up}};
    /* the inputs of the matrices are cheap to make again and only a tap needs them */
    if (er_pass_wants_inputs(p, layer)) make_key(&m, 0, p->tokens);
    ER_TRY(er_pass_map_back(p, layer, &down, 1, w->inner, &back, 1, err));
    return er_pass_map_back(p, layer, maps + !gated, 1 + gated, in, after, after != NULL, err);
}
