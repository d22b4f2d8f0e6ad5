/* SPDX-License-Identifier: Apache-2.0 */
#include "editors/alphaedit.h"

#include "editors/history.h"
#include "editors/memit.h"
#include "editors/stabilise_rows.h"
#include "editors/symbols.h"

#define THRESHOLD_TEXT "0.02"
static const double threshold_preset = 0.02;

static const er_option rows[] = {
    ER_HYPER_ROWS("4, 5, 6, 7, 8", "25", "0.5", "0.5", "0.75"),
    {"nullspace_threshold", ER_OPT_DOUBLE, offsetof(er_hyper, nullspace_threshold), THRESHOLD_TEXT, 0, 1e12, NULL,
     ER_OPT_SOLVE, "P keeps eigenvectors with an eigenvalue below; 0, or left at its default, gives way to the two below"},
    {"nullspace_rank", ER_OPT_INT, offsetof(er_hyper, nullspace_rank), "0", 0, 1e9, NULL, ER_OPT_SOLVE,
     "P keeps so many eigenvectors with the smallest eigenvalues; 0: not used"},
    {"nullspace_energy", ER_OPT_DOUBLE, offsetof(er_hyper, nullspace_energy), "0", 0, 1, NULL, ER_OPT_SOLVE,
     "P keeps the smallest eigenvalues up to this share of their sum; 0: not used"},
    {"L2", ER_OPT_DOUBLE, offsetof(er_hyper, L2), "1", 0, 1e12, NULL, ER_OPT_SOLVE,
     "ridge beside the keys' Gram matrix (the authors' files say 10)"},
    ER_BLUE_ROW("false"),
    ER_STABILISE_ROWS("0", "0", "none", "0", "0", "0"),
};

int er_alphaedit_options(er_option_table *out, er_hyper *hyper, er_arena *arena, er_err *err)
{
    (void)arena;
    (void)err;
    *out = (er_option_table){"editor.", rows, sizeof rows / sizeof rows[0], hyper, NULL};
    return 0;
}

int er_alphaedit_keep(er_keep *out, const er_hyper *h, er_err *err)
{
    int by_rank = h->nullspace_rank > 0, by_energy = h->nullspace_energy > 0, by_threshold = h->nullspace_threshold > 0;
    int preset = !(h->nullspace_threshold < threshold_preset) && !(h->nullspace_threshold > threshold_preset);
    if (by_rank && by_energy)
        return er_fail(err, ER_E_INPUT, "editor.nullspace_rank and editor.nullspace_energy: set one of them");
    if ((by_rank || by_energy) && by_threshold && !preset)
        return er_fail(err, ER_E_INPUT, "editor.nullspace_threshold and editor.nullspace_%s: set one of them (a "
                       "threshold of 0 is none)", by_rank ? "rank" : "energy");
    if (by_rank) {
        *out = (er_keep){ER_KEEP_RANK, (double)h->nullspace_rank};
    } else if (by_energy) {
        *out = (er_keep){ER_KEEP_ENERGY, h->nullspace_energy};
    } else if (by_threshold) {
        *out = (er_keep){ER_KEEP_THRESHOLD, h->nullspace_threshold};
    } else {
        return er_fail(err, ER_E_INPUT, "editor.nullspace_threshold: 0, and neither nullspace_rank nor "
                       "nullspace_energy is set");
    }
    return 0;
}

int er_alphaedit_check(const er_hyper *h, const er_config *config, int64_t batch, er_err *err)
{
    er_keep keep;
    ER_TRY(er_hyper_check(h, config, batch, 0, "alphaedit", err));
    ER_TRY(er_alphaedit_keep(&keep, h, err));
    if (h->nullspace_rank > config->inner)
        return er_fail(err, ER_E_INPUT, "editor.nullspace_rank: %lld is more than the key's %lld dimensions",
                       (long long)h->nullspace_rank, (long long)config->inner);
    if (!(h->L2 > 0)) return er_fail(err, ER_E_INPUT, "editor.L2: must be above 0");
    return 0;
}

unsigned er_alphaedit_needs(const er_hyper *h)
{
    (void)h;
    return ER_NEEDS_EIGEN;
}

int er_alphaedit_history(er_history **out, const er_edit_context *edit, int64_t step, const er_layer_stats *stats,
                         er_err *err)
{
    er_keep keep;
    (void)step;
    if (!stats || !stats->eigen) return er_fail(err, ER_E_INTERNAL, "alphaedit: no second moment");
    ER_TRY(er_alphaedit_keep(&keep, edit->hyper, err));
    int64_t stride = er_memit_key_floats(&edit->model->config);
    return er_history_make(out, stats->eigen, &keep, edit->hyper->L2, stride, err);
}

int er_alphaedit_solve(const er_edit_context *edit, int64_t step, const float *values, const float *keys, int64_t n,
                       const er_layer_stats *stats, er_history *history, const float *w, er_update *out, er_err *err)
{
    (void)w;
    return er_memit_solve_history(edit, step, values, keys, n, stats, history, er_alphaedit_history, out, err);
}

static const er_face_preset presets[] = {{ER_PARITY_AUTHORS, "L2", "10"}, {0}};

const er_editor er_editor_alphaedit = {
    .name = "alphaedit",
    .symbols = ER_SYMBOL_P ER_SYMBOL_KEYS ER_SYMBOL_ALPHAEDIT ER_SYMBOL_EACH_W,
    .template_list = "memit",
    .presets = presets,
    .formula = "W += Rs ((P (K K^T + Cc) P + L2 I)^-1 P K)^T, Rs = (v* - current) / layers left, Cc = earlier keys",
    .options = er_alphaedit_options,
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
