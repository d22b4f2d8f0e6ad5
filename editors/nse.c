/* SPDX-License-Identifier: Apache-2.0 */
#include "editors/nse.h"

#include "base/memory.h"
#include "editors/history.h"
#include "editors/hyper_rows.h"
#include "editors/memit.h"
#include "editors/memit_seq.h"
#include "editors/solve.h"
#include "model/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What this method keeps behind the editor's opaque history. */
typedef struct nse {
    const er_eigen *eigen;
    int64_t f, stride, rows;
    er_history *white; /* the same keys, for layers that move all neurons */
    float *keys;       /* (rows, f) */
    size_t capacity;
} nse;

/* --- the system of some neurons ------------------------------------------------------------------------------------ */

typedef struct scored {
    double sum;
    int64_t at;
} scored;

static int falling(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->sum > y->sum || x->sum < y->sum) return x->sum > y->sum ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

static int rising(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int64_t er_nse_neurons(int64_t *out, void *scratch, const float *keys, int64_t stride, int64_t n, int64_t f,
                       double threshold)
{
    scored *list = scratch;
    double total = 0.0, sum = 0.0;
    int64_t count = 0;
    for (int64_t j = 0; j < f; j++) {
        list[j] = (scored){0.0, j};
        for (int64_t i = 0; i < n; i++) list[j].sum += fabs((double)keys[i * stride + j]);
    }
    qsort(list, (size_t)f, sizeof *list, falling);
    for (int64_t j = f - 1; j >= 0; j--) total += list[j].sum;
    while (count < f && (threshold >= 1.0 || (sum += list[count].sum) <= threshold * total)) count++;
    if (!count) count = 1;
    for (int64_t j = 0; j < count; j++) out[j] = list[j].at;
    qsort(out, (size_t)count, sizeof *out, rising);
    return count;
}

/* to (n, m) = the columns `at` of from, rows stride apart */
static void pick(double *to, const float *from, int64_t stride, int64_t n, const int64_t *at, int64_t m)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++) to[i * m + j] = (double)from[i * stride + at[j]];
}

typedef struct part_system {
    int64_t m, f;
    double *c;    /* (m, f): rows of the eigenvectors' matrix, each column times its eigenvalue */
    double *u;    /* (m, f): the same without */
    double *x;    /* (m, n): the keys, then the solution */
    double *k;    /* (rows + n, m) */
    er_factor s;
} part_system;

static void part_free(part_system *p)
{
    er_free(p->c);
    er_free(p->u);
    er_free(p->x);
    er_free(p->k);
    er_factor_free(&p->s);
}

/* The lower triangle of lambda C_II + sum of k k^T, block row by block row. */
static int part_fill(part_system *p, int64_t keys, double *turned, er_err *err)
{
    const int64_t m = p->m, f = p->f;
    ER_TRY(er_factor_reserve(&p->s, m, err));
    er_transpose(turned, keys, p->k, m, keys, m);
    for (int64_t i = 0; i < m; i += ER_FACTOR_BLOCK) {
        const int64_t rows = m - i < ER_FACTOR_BLOCK ? m - i : ER_FACTOR_BLOCK, end = i + rows;
        int64_t ld;
        double *row = er_factor_row(&p->s, i, &ld);
        er_product64(row, ld, p->c + i * f, f, p->u, f, rows, end, f, 1, 0);
        er_product64(row, ld, turned + i * keys, keys, p->k, m, rows, end, keys, 0, 1);
    }
    return er_factor_grow(&p->s, m, "NSE's system of the chosen neurons", err);
}

int er_nse_solve_rows(double *v, const float *keys, int64_t stride, int64_t n, const int64_t *at, int64_t m,
                      const float *past, int64_t rows, const er_eigen *eigen, double lambda, double *condition,
                      er_err *err)
{
    const int64_t f = eigen->n, all = rows + n;
    part_system p = {.m = m, .f = f};
    double *turned = NULL;
    int code = er_alloc(&p.c, (size_t)(m * f), err);
    if (!code) code = er_alloc(&p.u, (size_t)(m * f), err);
    if (!code) code = er_alloc(&p.x, (size_t)(m * n), err);
    if (!code) code = er_alloc(&p.k, (size_t)(all * m), err);
    if (!code) code = er_alloc(&turned, (size_t)(m * all), err);
    for (int64_t i = 0; !code && i < m; i++) {
        for (int64_t e = 0; e < f; e++) {
            p.u[i * f + e] = eigen->vectors[e * f + at[i]];
            p.c[i * f + e] = lambda * eigen->values[e] * p.u[i * f + e];
        }
    }
    if (!code) {
        pick(p.k, past, f, rows, at, m);
        pick(p.k + rows * m, keys, stride, n, at, m);
        code = part_fill(&p, all, turned, err);
    }
    if (!code) {
        er_transpose(p.x, n, p.k + rows * m, m, n, m);
        er_factor_forward(&p.s, p.x, n, n, 0);
        er_factor_back(&p.s, p.x, n, n);
        memset(v, 0, (size_t)(n * f) * sizeof *v);
        for (int64_t i = 0; i < m; i++)
            for (int64_t k = 0; k < n; k++) v[k * f + at[i]] = p.x[i * n + k];
        *condition = er_factor_condition(&p.s);
    }
    er_free(turned);
    part_free(&p);
    return code;
}

/* --- history ------------------------------------------------------------------------------------------------------ */

static void history_free(er_history *history)
{
    nse *h = (nse *)(void *)history;
    if (!h) return;
    er_history_drop(h->white);
    er_free(h->keys);
    er_free(h);
}

static int history_new(er_history **out, const er_edit_context *edit, int64_t step, const er_layer_stats *stats,
                       er_err *err)
{
    nse *h = NULL;
    if (!stats || !stats->eigen) return er_fail(err, ER_E_INTERNAL, "nse: no second moment");
    ER_TRY(er_alloc(&h, 1, err));
    *h = (nse){.eigen = stats->eigen, .f = stats->eigen->n, .stride = er_memit_key_floats(&edit->model->config)};
    int code = er_memit_seq_history(&h->white, edit, step, stats, err);
    if (code) er_free(h);
    else *out = (er_history *)(void *)h;
    return code;
}

static int history_add(er_history *history, const float *keys, int64_t n, er_err *err)
{
    nse *h = (nse *)(void *)history;
    ER_TRY(er_history_join(h->white, keys, n, err));
    ER_TRY(er_grow(&h->keys, &h->capacity, (size_t)((h->rows + n) * h->f), err));
    for (int64_t i = 0; i < n; i++)
        memcpy(h->keys + (h->rows + i) * h->f, keys + i * h->stride, (size_t)h->f * sizeof *keys);
    h->rows += n;
    return 0;
}

static void history_used(const er_history *history, int64_t *rows, int64_t *rank)
{
    er_history_size(((const nse *)(const void *)history)->white, rows, rank);
}

/* --- the editor --------------------------------------------------------------------------------------------------- */

static int64_t passes(const er_hyper *h) { return h->max_iterations - 1; }

/* Those whose residual is worth a pass and not out of reach. */
static int joins(const er_edit_context *edit, const float *values, const float *keys, int64_t n, uint8_t *join, er_err *err)
{
    const er_config *c = &edit->model->config;
    const int64_t d = c->hidden, wide = er_memit_key_floats(c);
    (void)err;
    for (int64_t i = 0; i < n; i++) {
        double square = 0.0;
        for (int64_t j = 0; j < d; j++) {
            double r = (double)values[i * d + j] - (double)keys[i * wide + c->inner + j];
            square += r * r;
        }
        join[i] = sqrt(square) > edit->hyper->alpha && sqrt(square) < edit->hyper->upper_bound;
    }
    return 0;
}

static int solve_keys(const er_edit_context *edit, er_history *history, const float *keys, int64_t n, double *v,
                      er_update *u, er_err *err)
{
    const nse *h = (const nse *)(const void *)history;
    const er_hyper *hyper = edit->hyper;
    int64_t *at = NULL;
    scored *scratch = NULL;
    int code = er_alloc(&at, (size_t)h->f, err);
    if (!code) code = er_alloc(&scratch, (size_t)h->f, err);
    if (!code) {
        int64_t m = er_nse_neurons(at, scratch, keys, h->stride, n, h->f, hyper->neuron_threshold);
        u->notes.neurons = m;
        code = m == h->f ? er_history_solve(h->white, keys, n, v, &u->condition, err)
                         : er_nse_solve_rows(v, keys, h->stride, n, at, m, h->keys, h->rows, h->eigen,
                                             hyper->mom2_update_weight, &u->condition, err);
    }
    er_free(at);
    er_free(scratch);
    return code;
}

static int solve(const er_edit_context *edit, int64_t step, const float *values, const float *keys, int64_t n,
                 const er_layer_stats *stats, er_history *history, const float *w, er_update *out, er_err *err)
{
    static const er_memit_past past = {history_new, solve_keys, history_free};
    (void)w;
    return er_memit_solve_past(edit, step, values, keys, n, stats, history, &past, out, err);
}

static int check(const er_hyper *h, const er_config *config, int64_t batch, er_err *err)
{
    ER_TRY(er_memit_check(h, config, batch, err));
    if (h->blue) return er_fail(err, ER_E_INPUT, "editor.blue: nse sets its targets at the last layer");
    if (!(h->upper_bound > h->alpha))
        return er_fail(err, ER_E_INPUT, "editor.alpha and editor.upper_bound: no residual lies above %g and below %g",
                       h->alpha, h->upper_bound);
    return 0;
}

/* MEMIT's rows and four more. */
static int options(er_option_table *out, er_hyper *hyper, er_arena *arena, er_err *err)
{
    static const er_preset presets[] = {{"v_weight_decay", "0.5"}, {"clamp_norm_factor", "0.75"}, {"v_lr", "0.1"}};
    static const er_option more[] = {
        {"alpha", ER_OPT_DOUBLE, offsetof(er_hyper, alpha), "2.5", 0, 1e12, NULL, ER_OPT_SOLVE,
         "requests whose residual is not above are left alone"},
        {"upper_bound", ER_OPT_DOUBLE, offsetof(er_hyper, upper_bound), "50", 0, 1e12, NULL, ER_OPT_SOLVE,
         "requests whose residual is not below are left alone"},
        {"max_iterations", ER_OPT_INT, offsetof(er_hyper, max_iterations), "3", 2, 1000, NULL, ER_OPT_SOLVE,
         "one more than the passes over the layers"},
        {"neuron_threshold", ER_OPT_DOUBLE, offsetof(er_hyper, neuron_threshold), "1", 0, 1, NULL, ER_OPT_SOLVE,
         "share of the keys' sums that the neurons which move may hold; 1: all neurons"},
    };
    ER_TRY(er_memit_options(out, hyper, arena, err));
    ER_TRY(er_options_like(out, presets, sizeof presets / sizeof *presets, arena, err));
    return er_options_more(out, more, sizeof more / sizeof *more, arena, err);
}

const er_editor er_editor_nse = {
    .name = "nse",
    .template_list = "memit",
    .formula = "W_I += (R / layers left) ((lambda C_II + Kp_I Kp_I^T + K_I K_I^T)^-1 K_I)^T, R = v* - current, v* of the "
               "unedited model, I: neuron_threshold of the keys' sums; in max_iterations - 1 passes while alpha < |R| < "
               "upper_bound",
    .symbols = "I: neurons that hold neuron_threshold of the sums of |k|; W_I, K_I, C_II: their columns and rows\n"
               "K: keys of the batch, half the plain prompt's and half the mean behind the templates, a column each\n"
               "Kp: keys of all batches before\n"
               "C: second moment of keys, mean of k k^T over a corpus; lambda, mom2_update_weight, says how much it weighs\n"
               "v*: targets, set on the unedited model\n"
               "R: what the streams still lack of their targets, shared over the layers that are left\n"
               "W: the down projection of each edited layer, in turn",
    .options = options,
    .check = check,
    .needs = er_memit_needs,
    .template_lengths = er_memit_template_lengths,
    .key_floats = er_memit_key_floats,
    .target = er_memit_target,
    .keys = er_memit_keys,
    .solve = solve,
    .history_new = history_new,
    .history_add = history_add,
    .history_free = history_free,
    .history_used = history_used,
    .clean_targets = 1,
    .passes = passes,
    .joins = joins,
};
