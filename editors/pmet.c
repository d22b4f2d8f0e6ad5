/* SPDX-License-Identifier: Apache-2.0 */
#include "editors/pmet.h"

#include "editors/keys.h"
#include "editors/memit.h"
#include "editors/stabilise_rows.h"
#include "editors/symbols.h"
#include "editors/target.h"

#include <math.h>

static const er_option rows[] = {
    ER_HYPER_ROWS("4, 5, 6, 7, 8", "20", "0.5", "0.5", "1"),
    {"mom2_update_weight", ER_OPT_DOUBLE, offsetof(er_hyper, mom2_update_weight), "15000", 0, 1e12, NULL, ER_OPT_SOLVE,
     "lambda: how many average keys the update preserves (the authors' GPT-J file says 6000)"},
    {"nll_loss_factor", ER_OPT_DOUBLE, offsetof(er_hyper, nll_loss_factor), "1", 0, 1e6, NULL, 0,
     "weight of the nll in the loss; a tenth of it while the target is the most probable answer"},
    ER_BLUE_ROW("false"),
    ER_STABILISE_ROWS("0", "0", "none", "0", "0", "0"),
};

static int options(er_option_table *out, er_hyper *hyper, er_arena *arena, er_err *err)
{
    (void)arena;
    (void)err;
    *out = (er_option_table){"editor.", rows, sizeof rows / sizeof rows[0], hyper, NULL};
    return 0;
}

static int check(const er_hyper *h, const er_config *config, int64_t batch, er_err *err)
{
    ER_TRY(er_memit_check(h, config, batch, err));
    if (!(h->nll_loss_factor > 0)) return er_fail(err, ER_E_INPUT, "editor.nll_loss_factor: must be above 0");
    return 0;
}

static int target(const er_edit_context *edit, const er_view *view, const er_prompt *prompts, int64_t count,
                  er_target *out, er_work *work, er_err *err)
{
    const er_int_list *layers = &edit->hyper->layers;
    er_target_plan plan = {.layer = layers->at[layers->count - 1], .init = ER_INIT_MLP_OUTPUT, .pmet = 1,
                           .above = er_hyper_loss_above(edit->hyper, &view->model->config)};
    return er_target_optimise(edit, view, &plan, prompts, count, out, work, err);
}

static int keys(const er_edit_context *edit, const er_view *view, int64_t step, const er_prompt *prompts,
                int64_t count, float *out, er_work *work, er_err *err)
{
    const er_int_list *layers = &edit->hyper->layers;
    return er_keys_memit(view, layers->at[step], layers->at[layers->count - 1], 1, prompts, count, out, work, err);
}

static int solve(const er_edit_context *edit, int64_t step, const float *values, const float *key, int64_t n,
                 const er_layer_stats *stats, er_history *history, const float *w, er_update *out, er_err *err)
{
    const er_memit_kind kind = {.divisor = sqrt(er_memit_left(edit, step)), .epsilon = 1.0};
    (void)history;
    (void)w;
    return er_memit_solve_white(edit, &kind, values, key, n, stats, out, err);
}

const er_editor er_editor_pmet = {
    .name = "pmet",
    .symbols = ER_SYMBOL_KEYS ER_SYMBOL_C ER_SYMBOL_OUTPUTS ER_SYMBOL_R_OUTPUTS ER_SYMBOL_EACH_W,
    .template_list = "memit",
    .rule = ER_RULE_PMET,
    .formula = "W += (R / sqrt(layers left)) ((lambda C + K K^T)^-1 K)^T, R = v* - W K of the last edited layer, lambda = "
               "mom2_update_weight; v* optimised with a second delta on attention's output, which is dropped",
    .options = options,
    .check = check,
    .needs = er_memit_needs,
    .template_lengths = er_memit_template_lengths,
    .key_floats = er_memit_key_floats,
    .target = target,
    .keys = keys,
    .solve = solve,
};
