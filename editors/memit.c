/* SPDX-License-Identifier: Apache-2.0 */
#include "editors/memit.h"

#include "base/memory.h"
#include "editors/history.h"
#include "editors/keys.h"
#include "editors/solve.h"
#include "editors/stabilise_rows.h"
#include "editors/symbols.h"
#include "editors/target.h"
#include "editors/white.h"

static const er_option rows[] = {
    ER_HYPER_ROWS("4, 5, 6, 7, 8", "25", "0.5", "1e-3", "4"),
    {"mom2_update_weight", ER_OPT_DOUBLE, offsetof(er_hyper, mom2_update_weight), "15000", 0, 1e12, NULL, ER_OPT_SOLVE,
     "lambda: how many average keys the update preserves"},
    ER_RIDGE_ROW("0"),
    ER_BLUE_ROW("false"),
    ER_STABILISE_ROWS("0", "0", "none", "0", "0", "0"),
};

int er_memit_options(er_option_table *out, er_hyper *hyper, er_arena *arena, er_err *err)
{
    (void)arena;
    (void)err;
    *out = (er_option_table){"editor.", rows, sizeof rows / sizeof rows[0], hyper, NULL};
    return 0;
}

int er_memit_check(const er_hyper *h, const er_config *config, int64_t batch, er_err *err)
{
    ER_TRY(er_hyper_check(h, config, batch, 0, "memit", err));
    if (!(h->mom2_update_weight > 0)) return er_fail(err, ER_E_INPUT, "editor.mom2_update_weight: must be above 0");
    return 0;
}

unsigned er_memit_needs(const er_hyper *h)
{
    (void)h;
    return ER_NEEDS_EIGEN;
}

int64_t er_memit_key_floats(const er_config *c) { return c->inner + c->hidden; }

int er_memit_target(const er_edit_context *edit, const er_view *view, const er_prompt *prompts, int64_t count,
                    er_target *out, er_work *work, er_err *err)
{
    const er_int_list *layers = &edit->hyper->layers;
    er_target_plan plan = {.layer = layers->at[layers->count - 1], .init = ER_INIT_BLOCK_OUTPUT,
                           .above = er_hyper_loss_above(edit->hyper, &view->model->config)};
    return er_target_optimise(edit, view, &plan, prompts, count, out, work, err);
}

int er_memit_keys(const er_edit_context *edit, const er_view *view, int64_t step, const er_prompt *prompts,
                  int64_t count, float *keys, er_work *work, er_err *err)
{
    const er_int_list *layers = &edit->hyper->layers;
    return er_keys_memit(view, layers->at[step], layers->at[layers->count - 1], 0, prompts, count, keys, work, err);
}

double er_memit_left(const er_edit_context *edit, int64_t step)
{
    return (double)(edit->hyper->layers.count - step);
}

int er_memit_update(er_update *out, const er_edit_context *edit, double divisor, const float *values, const float *keys,
                    int64_t n, er_err *err)
{
    const er_config *c = &edit->model->config;
    er_update u = {.kind = ER_UPDATE_FACTORS, .outputs = c->hidden, .inputs = c->inner, .rank = n};
    ER_TRY(er_alloc(&u.u, (size_t)(c->hidden * n), err));
    int code = er_alloc(&u.v, (size_t)(c->inner * n), err);
    if (!code)
        code = er_residual(u.u, values, keys + c->inner, c->inner + c->hidden, n, c->hidden, divisor, &u.z_error, err);
    if (code) {
        er_update_free(&u);
        return code;
    }
    *out = u;
    return 0;
}

int er_memit_solve_rows(double *v, const float *keys, int64_t stride, int64_t n, const er_eigen *eigen, double lambda,
                        double *condition, er_err *err)
{
    er_white w;
    ER_TRY(er_white_make(&w, eigen, lambda, 0.0, err));
    int code = er_white_solve(v, keys, stride, n, &w, 1.0, "MEMIT's system I + K^T (lambda C)^-1 K", condition, err);
    er_white_free(&w);
    return code;
}

int er_memit_solve_past(const er_edit_context *edit, int64_t step, const float *values, const float *keys, int64_t n,
                        const er_layer_stats *stats, er_history *history, const er_memit_past *past, er_update *out,
                        er_err *err)
{
    er_history *own = NULL;
    er_update u;
    double *v = NULL;
    if (!history) ER_TRY(past->fresh(&own, edit, step, stats, err));
    int code = er_memit_update(&u, edit, er_memit_left(edit, step), values, keys, n, err);
    if (!code) {
        code = er_alloc(&v, (size_t)(n * u.inputs), err);
        if (!code && n) code = past->solve(edit, history ? history : own, keys, n, v, &u, err);
        if (!code) er_to_floats(u.v, v, n * u.inputs);
        er_free(v);
        if (code) er_update_free(&u);
    }
    past->drop(own);
    if (!code) *out = u;
    return code;
}

static int solve_keys(const er_edit_context *edit, er_history *history, const float *keys, int64_t n, double *v,
                      er_update *u, er_err *err)
{
    (void)edit;
    return er_history_solve(history, keys, n, v, &u->condition, err);
}

int er_memit_solve_history(const er_edit_context *edit, int64_t step, const float *values, const float *keys, int64_t n,
                           const er_layer_stats *stats, er_history *history, er_history_maker *fresh, er_update *out,
                           er_err *err)
{
    const er_memit_past past = {fresh, solve_keys, er_history_drop};
    return er_memit_solve_past(edit, step, values, keys, n, stats, history, &past, out, err);
}

int er_memit_solve_white(const er_edit_context *edit, const er_memit_kind *kind, const float *values, const float *keys,
                         int64_t n, const er_layer_stats *stats, er_update *out, er_err *err)
{
    const double lambda = edit->hyper->mom2_update_weight;
    er_update u;
    er_white white = {0};
    double *v = NULL;
    if (!stats || !stats->eigen) return er_fail(err, ER_E_INTERNAL, "no second moment");
    ER_TRY(er_memit_update(&u, edit, kind->divisor, values, keys, n, err));
    int code = er_alloc(&v, (size_t)(n * u.inputs), err);
    if (!code && n) code = er_white_make(&white, stats->eigen, lambda, kind->ridge, err);
    if (!code && n)
        code = er_white_solve(v, keys, er_memit_key_floats(&edit->model->config), n, &white, kind->epsilon,
                              "the keys' system, epsilon I + K^T (lambda C)^-1 K", &u.condition, err);
    if (!code) er_to_floats(u.v, v, n * u.inputs);
    er_white_free(&white);
    er_free(v);
    if (code) {
        er_update_free(&u);
        return code;
    }
    *out = u;
    return 0;
}

int er_memit_solve(const er_edit_context *edit, int64_t step, const float *values, const float *keys, int64_t n,
                   const er_layer_stats *stats, er_history *history, const float *w, er_update *out, er_err *err)
{
    (void)history;
    (void)w;
    const er_memit_kind kind = {er_memit_left(edit, step), edit->hyper->update_norm_lambda, 1.0};
    return er_memit_solve_white(edit, &kind, values, keys, n, stats, out, err);
}

const er_editor er_editor_memit = {
    .name = "memit",
    .symbols = ER_SYMBOL_KEYS ER_SYMBOL_C ER_SYMBOL_TARGETS ER_SYMBOL_R ER_SYMBOL_EACH_W,
    .template_list = "memit",
    .formula = "W += (R / layers left) ((lambda C + K K^T)^-1 K)^T, R = v* - current, lambda = mom2_update_weight",
    .options = er_memit_options,
    .check = er_memit_check,
    .needs = er_memit_needs,
    .template_lengths = er_memit_template_lengths,
    .key_floats = er_memit_key_floats,
    .target = er_memit_target,
    .keys = er_memit_keys,
    .solve = er_memit_solve,
};
