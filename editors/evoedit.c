/* SPDX-License-Identifier: Apache-2.0 */
#include "editors/evoedit.h"

#include "base/memory.h"
#include "editors/alphaedit.h"
#include "editors/hyper_rows.h"
#include "editors/memit.h"
#include "editors/solve.h"
#include "editors/symmetric.h"
#include "model/kernels.h"

#include <math.h>
#include <string.h>

/* What this method keeps behind the editor's opaque history. */
typedef struct evo {
    er_projection p;
    double l2, tau;
    int64_t f, stride, used;
    double *q; /* (used, f), orthonormal, in the range of p */
    size_t capacity;
} evo;

static const evo *see(const er_history *h) { return (const evo *)(const void *)h; }

int er_evo_make(er_history **out, const er_eigen *eigen, const er_keep *keep, double l2, double tau, int64_t stride,
                er_err *err)
{
    er_projection p;
    evo *h = NULL;
    ER_TRY(er_projection_make(&p, eigen, keep, err));
    ER_TRY(er_alloc(&h, 1, err));
    *h = (evo){.p = p, .l2 = l2, .tau = tau, .f = eigen->n, .stride = stride};
    *out = (er_history *)(void *)h;
    return 0;
}

void er_evo_drop(er_history *h)
{
    if (!h) return;
    er_free(((evo *)(void *)h)->q);
    er_free(h);
}

void er_evo_size(const er_history *h, int64_t *rows, int64_t *rank)
{
    *rows = see(h)->used;
    *rank = see(h)->p.rank;
}

/* b (n, f) -= (b Q^T) Q */
static int remove_used(const evo *h, double *b, int64_t n, er_err *err)
{
    double *c;
    if (!h->used) return 0;
    ER_TRY(er_alloc(&c, (size_t)(n * h->used), err));
    er_product64(c, h->used, b, h->f, h->q, h->f, n, h->used, h->f, 1, 0);
    for (int64_t i = 0; i < n * h->used; i++) c[i] = -c[i];
    er_product64(b, h->f, c, h->used, h->q, h->f, n, h->f, h->used, 0, 1);
    er_free(c);
    return 0;
}

/* *b (n, f) = keys P_t, to be er_freed. Q is taken out twice: what the first time leaves is rounding of a long key. */
static int project(const evo *h, double **b, const float *keys, int64_t n, er_err *err)
{
    double *scratch = NULL;
    ER_TRY(er_alloc(b, (size_t)(n * h->f), err));
    int code = er_alloc(&scratch, (size_t)(n * h->f), err);
    if (!code) {
        er_to_doubles(*b, keys, h->stride, n, h->f);
        er_projection_apply(*b, *b, n, &h->p, scratch);
        code = remove_used(h, *b, n, err);
    }
    if (!code) code = remove_used(h, *b, n, err);
    er_free(scratch);
    if (code) ER_FREE(*b);
    return code;
}

int er_evo_solve(const er_history *history, const float *keys, int64_t n, double *v, double *condition, er_err *err)
{
    const evo *h = see(history);
    er_factor s = {0};
    double *b = NULL;
    ER_TRY(project(h, &b, keys, n, err));
    int code = er_factor_reserve(&s, n, err);
    for (int64_t i = 0; !code && i < n; i += ER_FACTOR_BLOCK) {
        int64_t m = n - i < ER_FACTOR_BLOCK ? n - i : ER_FACTOR_BLOCK, ld;
        double *row = er_factor_row(&s, i, &ld);
        er_product64(row, ld, b + i * h->f, h->f, b, h->f, m, i + m, h->f, 1, 0);
        for (int64_t j = 0; j < m; j++) row[j * ld + i + j] += h->l2;
    }
    if (!code) code = er_factor_grow(&s, n, "EvoEdit's key system", err);
    if (!code) {
        memcpy(v, b, (size_t)(n * h->f) * sizeof *v);
        er_factor_forward(&s, v, h->f, h->f, 0);
        er_factor_back(&s, v, h->f, h->f);
        *condition = er_factor_condition(&s);
    }
    er_factor_free(&s);
    er_free(b);
    return code;
}

/* Q grows by the left singular vectors of P_t K above tau: with B = (P_t K)^T and B B^T = X^T S^2 X they are X B / S. */
int er_evo_join(er_history *history, const float *keys, int64_t n, er_err *err)
{
    evo *h = (evo *)(void *)history;
    double *b = NULL, *gram = NULL, *squares = NULL;
    int64_t more = 0, f = h->f;
    ER_TRY(project(h, &b, keys, n, err));
    int code = er_alloc(&gram, (size_t)(n * n), err);
    if (!code) code = er_alloc(&squares, (size_t)n, err);
    if (!code) {
        er_product64(gram, n, b, f, b, f, n, n, f, 1, 0);
        code = er_symmetric(gram, squares, n, 1, err);
    }
    const int64_t left = h->p.rank - h->used;
    while (!code && more < n && more < left && squares[more] > h->tau * h->tau) more++;
    if (!code) code = er_grow(&h->q, &h->capacity, (size_t)((h->used + more) * f), err);
    if (!code && more) {
        double *q = h->q + h->used * f;
        er_product64(q, f, gram, n, b, f, more, f, n, 0, 0);
        for (int64_t i = 0; i < more * f; i++) q[i] /= sqrt(squares[i / f]);
        h->used += more;
    }
    er_free(b);
    er_free(gram);
    er_free(squares);
    return code;
}

/* --- the editor --------------------------------------------------------------------------------------------------- */

static int history_new(er_history **out, const er_edit_context *edit, int64_t step, const er_layer_stats *stats,
                       er_err *err)
{
    er_keep keep;
    (void)step;
    if (!stats || !stats->eigen) return er_fail(err, ER_E_INTERNAL, "evoedit: no second moment");
    ER_TRY(er_alphaedit_keep(&keep, edit->hyper, err));
    return er_evo_make(out, stats->eigen, &keep, edit->hyper->L2, edit->hyper->evo_tau,
                       er_memit_key_floats(&edit->model->config), err);
}

static int solve_keys(const er_edit_context *edit, er_history *history, const float *keys, int64_t n, double *v,
                      er_update *u, er_err *err)
{
    (void)edit;
    return er_evo_solve(history, keys, n, v, &u->condition, err);
}

static int solve(const er_edit_context *edit, int64_t step, const float *values, const float *keys, int64_t n,
                 const er_layer_stats *stats, er_history *history, const float *w, er_update *out, er_err *err)
{
    static const er_memit_past past = {history_new, solve_keys, er_evo_drop};
    (void)w;
    return er_memit_solve_past(edit, step, values, keys, n, stats, history, &past, out, err);
}

static int check(const er_hyper *h, const er_config *config, int64_t batch, er_err *err)
{
    ER_TRY(er_alphaedit_check(h, config, batch, err));
    if (!(h->evo_tau > 0)) return er_fail(err, ER_E_INPUT, "editor.evo_tau: must be above 0");
    return 0;
}

/* AlphaEdit's rows and one more. */
static int options(er_option_table *out, er_hyper *hyper, er_arena *arena, er_err *err)
{
    static const er_option tau = {"evo_tau", ER_OPT_DOUBLE, offsetof(er_hyper, evo_tau), "1e-2", 0, 1e6, NULL, ER_OPT_SOLVE,
                                  "EvoEdit: P loses the directions of the projected keys with singular values above"};
    ER_TRY(er_alphaedit_options(out, hyper, arena, err));
    return er_options_more(out, &tau, 1, arena, err);
}

const er_editor er_editor_evoedit = {
    .name = "evoedit",
    .template_list = "memit",
    .formula = "W += Rs (K^T P K + L2 I)^-1 K^T P, Rs = (v* - current) / layers left; after a batch P -= Q Q^T, Q the "
               "singular vectors of P K above evo_tau",
    .symbols = "P: at first the projection onto the directions that a corpus hardly uses (nullspace_threshold, _rank or "
               "_energy)\n"
               "Q: directions of the keys that a batch edited, which P loses\n"
               "K: keys of the batch, half the plain prompt's and half the mean behind the templates, a column each\n"
               "Rs: what the streams still lack of their targets v*, shared over the layers that are left\n"
               "L2: ridge\n"
               "W: the down projection of each edited layer, in turn",
    .options = options,
    .check = check,
    .needs = er_alphaedit_needs,
    .keep = er_alphaedit_keep,
    .template_lengths = er_memit_template_lengths,
    .key_floats = er_memit_key_floats,
    .target = er_memit_target,
    .keys = er_memit_keys,
    .solve = solve,
    .history_new = history_new,
    .history_add = er_evo_join,
    .history_free = er_evo_drop,
    .history_used = er_evo_size,
};
