/* SPDX-License-Identifier: Apache-2.0 */
/* M(x) = (act(x Wg^T + bg) * (x Wu^T + bu)) Wd^T + bd, or act(x Wu^T + bu) Wd^T + bd without a gate. The input of Wd is
 * the MLP's key. */
#include "model/pass.h"

static enum er_activation kind(const er_config *c) { return (enum er_activation)c->activation; }

static void make_key(const er_pass *p, int64_t layer, float *key, const float *gate, const float *up)
{
    const int64_t n = p->tokens * p->config->inner;
    if (p->config->gated)
        er_gated(key, gate, up, n, kind(p->config));
    else
        er_activate(key, up, n, kind(p->config));
    er_pass_round(p, layer, "the MLP's key", key, n);
}

int er_mlp(const er_pass *p, int64_t layer, float *out, const float *in, struct er_tape_block *tape, er_err *err)
{
    er_work *w = p->work;
    float *gate = tape ? tape->gate : w->gate, *up = tape ? tape->up : w->up;
    const er_mapping maps[] = {{ER_MATRIX_GATE, gate}, {ER_MATRIX_UP, up}};
    const int gated = p->config->gated != 0;
    ER_TRY(er_pass_map(p, layer, maps + !gated, 1 + gated, in, err));
    make_key(p, layer, w->inner, gate, up);
    return er_pass_map(p, layer, &(er_mapping){ER_MATRIX_DOWN, out}, 1, w->inner, err);
}

int er_mlp_back(const er_pass *p, int64_t layer, float *in_grad, const float *out_grad, const float *in,
                const struct er_tape_block *tape, er_err *err)
{
    const er_config *c = p->config;
    er_work *w = p->work;
    const int64_t n = p->tokens * c->inner;
    float *key_grad = w->gate, *gate_grad = w->inner, *up_grad = w->up;
    const er_mapping_back down = {ER_MATRIX_DOWN, key_grad, out_grad};
    /* the inputs of the matrices are cheap to make again and only a tap needs them */
    if (er_pass_wants_inputs(p, layer)) make_key(p, layer, w->inner, tape->gate, tape->up);
    ER_TRY(er_pass_map_back(p, layer, &down, 1, w->inner, err));
    if (!c->gated) {
        const er_mapping_back only = {ER_MATRIX_UP, in_grad, up_grad};
        er_activate_back(up_grad, key_grad, tape->up, n, kind(c));
        er_pass_round(p, layer, "a gradient", up_grad, n);
        return er_pass_map_back(p, layer, &only, 1, in, err);
    }
    const er_mapping_back maps[] = {{ER_MATRIX_GATE, in_grad, gate_grad}, {ER_MATRIX_UP, w->part[0], up_grad}};
    er_gated_back(gate_grad, up_grad, key_grad, tape->gate, tape->up, n, kind(c));
    er_pass_round(p, layer, "a gradient", gate_grad, n);
    er_pass_round(p, layer, "a gradient", up_grad, n);
    return er_pass_map_back(p, layer, maps, 2, in, err);
}
