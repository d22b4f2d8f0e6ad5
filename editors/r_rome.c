/* SPDX-License-Identifier: Apache-2.0 */
#include "editors/r_rome.h"

#include "editors/keys.h"
#include "editors/rome.h"
#include "editors/stabilise_rows.h"
#include "editors/symbols.h"

/* clang-format off */
static const er_option rows[] = {
    ER_ROME_ROWS,
    {"enable_prompt_keys", ER_OPT_BOOL, offsetof(er_hyper, enable_prompt_keys), "false", 0, 0, NULL, ER_OPT_SOLVE,
     "u and the division take the plain prompt's key"},
    {"enable_random_prefix_keys", ER_OPT_BOOL, offsetof(er_hyper, enable_random_prefix_keys), "true", 0, 0, NULL,
     ER_OPT_SOLVE, "u and the division take the mean key over all templates"},
    {"original_implementation", ER_OPT_BOOL, offsetof(er_hyper, original_implementation), "false", 0, 0, NULL,
     ER_OPT_SOLVE, "u takes the mean key whatever the two above say; with both off the division is ROME's"},
    ER_STABILISE_ROWS("0", "0", "none", "0", "0", "0"),
};
/* clang-format on */

static int options(er_option_table *out, er_hyper *hyper, er_arena *arena, er_err *err)
{
    (void)arena;
    (void)err;
    *out = (er_option_table){"editor.", rows, sizeof rows / sizeof rows[0], hyper, NULL};
    return 0;
}

static int check(const er_hyper *h, const er_config *config, int64_t batch, er_err *err)
{
    ER_TRY(er_rome_check(h, config, batch, "r-rome", err));
    if (!h->original_implementation && !h->enable_prompt_keys == !h->enable_random_prefix_keys)
        return er_fail(err, ER_E_INPUT, "editor.enable_prompt_keys and editor.enable_random_prefix_keys: exactly one "
                       "must be true without original_implementation");
    return 0;
}

static enum er_rome_keys which_keys(const er_hyper *h)
{
    if (h->enable_random_prefix_keys) return ER_KEYS_MEAN;
    return h->original_implementation ? ER_KEYS_ROME : ER_KEYS_PLAIN;
}

static int keys(const er_edit_context *edit, const er_view *view, int64_t step, const er_prompt *prompts,
                int64_t count, float *out, er_work *work, er_err *err)
{
    const er_hyper *h = edit->hyper;
    return er_keys_rome(view, h->layers.at[step], which_keys(h), prompts, count, out, work, err);
}

static const er_face_preset presets[] = {{ER_PARITY_EASYEDIT, "mom2_adjustment", "false"},
                                         {ER_PARITY_AUTHORS, "original_implementation", "true"},
                                         {0}};

const er_editor er_editor_r_rome = {
    .name = "r-rome",
    .symbols = ER_SYMBOL_KEY ER_SYMBOL_C ER_SYMBOL_TARGET ER_SYMBOL_ONE_W,
    .template_list = "rome",
    .rule = ER_RULE_ROME,
    .presets = presets,
    .formula = "W += r u^T, r = (v* - mean(W k)) / (mean(k).u), u = C^-1 mean(k) / |C^-1 mean(k)|; without "
               "mom2_adjustment u = mean(k) / |mean(k)|; enable_prompt_keys: the plain key for every mean",
    .most_batch = 1,
    .options = options,
    .check = check,
    .needs = er_rome_needs,
    .template_lengths = er_rome_template_lengths,
    .key_floats = er_rome_key_floats,
    .target = er_rome_target,
    .keys = keys,
    .solve = er_rome_solve,
};
