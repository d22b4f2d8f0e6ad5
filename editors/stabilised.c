/* SPDX-License-Identifier: Apache-2.0 */
#include "editors/stabilised.h"

#include "editors/alphaedit.h"
#include "editors/history.h"
#include "editors/hyper_rows.h"
#include "editors/memit.h"
#include "editors/memit_seq.h"
#include "editors/symbols.h"

#define LIKE(presets) er_options_like(out, presets, sizeof presets / sizeof *presets, arena, err)

static int encore_options(er_option_table *out, er_hyper *hyper, er_arena *arena, er_err *err)
{
    static const er_preset presets[] = {{"v_weight_decay", "0.5"},
                                        {"clamp_norm_factor", "0.75"},
                                        {"prob_cutoff", "-2"},
                                        {"update_norm_lambda", "20"}};
    ER_TRY(er_memit_options(out, hyper, arena, err));
    return LIKE(presets);
}

static int rect_options(er_option_table *out, er_hyper *hyper, er_arena *arena, er_err *err)
{
    static const er_preset presets[] = {
        {"v_weight_decay", "0.5"}, {"clamp_norm_factor", "0.75"}, {"rect_keep", "40"}};
    ER_TRY(er_memit_options(out, hyper, arena, err));
    return LIKE(presets);
}

static int prune_options(er_option_table *out, er_hyper *hyper, er_arena *arena, er_err *err)
{
    static const er_preset presets[] = {{"v_weight_decay", "0.5"}, {"clamp_norm_factor", "0.75"}, {"prune", "delta"}};
    ER_TRY(er_memit_options(out, hyper, arena, err));
    return LIKE(presets);
}

static int sphere_options(er_option_table *out, er_hyper *hyper, er_arena *arena, er_err *err)
{
    static const er_preset presets[] = {{"L2", "10"}, {"sphere_energy", "0.5"}, {"sphere_alpha", "0.5"}};
    ER_TRY(er_alphaedit_options(out, hyper, arena, err));
    return LIKE(presets);
}

const er_editor er_editor_encore = {
    .name = "encore",
    .symbols = ER_SYMBOL_KEYS ER_SYMBOL_EARLIER ER_SYMBOL_C "lambda_n: ridge, update_norm_lambda\n" ER_SYMBOL_TARGETS
                   ER_SYMBOL_R ER_SYMBOL_EACH_W,
    .template_list = "memit",
    .formula = "W += (R / layers left) ((lambda C + lambda_n I + Kp Kp^T + K K^T)^-1 K)^T, R = v* - current, lambda = "
               "mom2_update_weight, lambda_n = update_norm_lambda, Kp = earlier keys",
    .options = encore_options,
    .check = er_memit_check,
    .needs = er_memit_needs,
    .template_lengths = er_memit_template_lengths,
    .key_floats = er_memit_key_floats,
    .target = er_memit_target,
    .keys = er_memit_keys,
    .solve = er_memit_seq_solve,
    .history_new = er_memit_seq_history,
    .history_add = er_history_join,
    .history_free = er_history_drop,
    .history_used = er_history_size,
};

#define MEMIT_LIKE                                                                                                     \
    .symbols = ER_SYMBOL_KEYS ER_SYMBOL_C ER_SYMBOL_TARGETS ER_SYMBOL_R ER_SYMBOL_EACH_W,                              \
    .template_list = "memit",                                                                                          \
    .formula = "W += (R / layers left) ((lambda C + K K^T)^-1 K)^T, R = v* - current, lambda = mom2_update_weight",    \
    .check = er_memit_check, .needs = er_memit_needs, .template_lengths = er_memit_template_lengths,                   \
    .key_floats = er_memit_key_floats, .target = er_memit_target, .keys = er_memit_keys, .solve = er_memit_solve

const er_editor er_editor_rect = {.name = "rect", .options = rect_options, MEMIT_LIKE};
const er_editor er_editor_prune = {.name = "prune", .options = prune_options, MEMIT_LIKE};

const er_editor er_editor_sphere = {
    .name = "sphere",
    .symbols = ER_SYMBOL_P ER_SYMBOL_KEYS ER_SYMBOL_ALPHAEDIT ER_SYMBOL_EACH_W,
    .template_list = "memit",
    .formula = "W += Rs ((P (K K^T + Cc) P + L2 I)^-1 P K)^T, Rs = (v* - current) / layers left, Cc = earlier keys",
    .options = sphere_options,
    .check = er_alphaedit_check,
    .needs = er_alphaedit_needs,
    .keep = er_alphaedit_keep,
    .template_lengths = er_memit_template_lengths,
    .key_floats = er_memit_key_floats,
    .target = er_memit_target,
    .keys = er_memit_keys,
    .solve = er_alphaedit_solve,
    .history_new = er_alphaedit_history,
    .history_add = er_history_join,
    .history_free = er_history_drop,
    .history_used = er_history_size,
};
