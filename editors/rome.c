/* SPDX-License-Identifier: Apache-2.0 */
#include "editors/rome.h"

#include "base/memory.h"
#include "editors/keys.h"
#include "editors/solve.h"
#include "editors/stabilise_rows.h"
#include "editors/symbols.h"
#include "editors/target.h"

#include <math.h>

/* clang-format off */
static const er_option rows[] = {ER_ROME_ROWS, ER_STABILISE_ROWS("0", "0", "none", "0", "0", "0")};
/* clang-format on */

static int options(er_option_table *out, er_hyper *hyper, er_arena *arena, er_err *err)
{
    (void)arena;
    (void)err;
    *out = (er_option_table){"editor.", rows, sizeof rows / sizeof rows[0], hyper, NULL};
    return 0;
}

int er_rome_check(const er_hyper *h, const er_config *config, int64_t batch, const char *method, er_err *err)
{
    ER_TRY(er_hyper_check(h, config, batch, 1, method, err));
    if (h->layers.count != 1) return er_fail(err, ER_E_INPUT, "editor.layers: %s edits one layer", method);
    const er_int_list *pairs = &h->context_template_length_params;
    if (pairs->count % 2)
        return er_fail(err, ER_E_INPUT, "editor.context_template_length_params: must be pairs of tokens and texts");
    return 0;
}

static int check(const er_hyper *h, const er_config *config, int64_t batch, er_err *err)
{
    return er_rome_check(h, config, batch, "rome", err);
}

unsigned er_rome_needs(const er_hyper *h) { return h->mom2_adjustment ? ER_NEEDS_EIGEN : ER_NEEDS_NOTHING; }

int er_rome_template_lengths(const er_hyper *h, int64_t (*lengths)[2], int64_t *count, const char **braces)
{
    const er_int_list *pairs = &h->context_template_length_params;
    if (pairs->count / 2 > *count) return ER_E_INTERNAL;
    *count = pairs->count / 2;
    for (int64_t i = 0; i < *count; i++) {
        lengths[i][0] = pairs->at[2 * i];
        lengths[i][1] = pairs->at[2 * i + 1];
    }
    *braces = "";
    return 0;
}

int64_t er_rome_key_floats(const er_config *c) { return 2 * c->inner + c->hidden; }

int er_rome_target(const er_edit_context *edit, const er_view *view, const er_prompt *prompts, int64_t count,
                   er_target *out, er_work *work, er_err *err)
{
    er_target_plan plan = {.layer = edit->hyper->layers.at[0], .init = ER_INIT_MLP_OUTPUT};
    return er_target_optimise(edit, view, &plan, prompts, count, out, work, err);
}

static int keys(const er_edit_context *edit, const er_view *view, int64_t step, const er_prompt *prompts,
                int64_t count, float *out, er_work *work, er_err *err)
{
    return er_keys_rome(view, edit->hyper->layers.at[step], ER_KEYS_ROME, prompts, count, out, work, err);
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* v (f) = u of the key at `key`, of which the division by the key behind it sees the rounded elements, so that
 * W' k0 = v* as closely as floats can say it. */
static int direction(float *v, const float *key, int64_t f, const er_eigen *eigen, double *division, er_err *err)
{
    double *buffer;
    ER_TRY(er_alloc(&buffer, (size_t)(3 * f), err));
    double *u = buffer, *k = buffer + f, *scratch = buffer + 2 * f;
    er_to_doubles(k, key, f, 1, f);
    int code = 0;
    if (eigen) {
        code = er_eigen_inverse(u, k, 1, eigen, scratch, err);
    } else {
        er_to_doubles(u, key, f, 1, f);
    }
    double norm = code ? 1.0 : sqrt(dot(u, u, f));
    if (!code && !(norm > 0.0 && isfinite(norm)))
        code = er_fail(err, ER_E_NUMERIC, "the key's direction u has norm %g", norm);
    if (!code) {
        for (int64_t i = 0; i < f; i++) u[i] /= norm;
        er_to_floats(v, u, f);
        er_to_doubles(u, v, f, 1, f);
        er_to_doubles(k, key + f, f, 1, f);
        double length = sqrt(dot(k, k, f));
        *division = dot(k, u, f);
        if (!(fabs(*division) > 1e-6 * length) || !isfinite(*division))
            code = er_fail(err, ER_E_NUMERIC, "the key of the division (norm %.3g) is orthogonal to u (k.u = %.3g)",
                           length, *division);
    }
    er_free(buffer);
    return code;
}

int er_rome_solve(const er_edit_context *edit, int64_t step, const float *values, const float *key, int64_t n,
                  const er_layer_stats *stats, er_history *history, const float *w, er_update *out, er_err *err)
{
    const er_config *c = &edit->model->config;
    er_update u = {.kind = ER_UPDATE_FACTORS, .outputs = c->hidden, .inputs = c->inner, .rank = n};
    double division = 1.0;
    (void)step;
    (void)history;
    (void)w;
    if (n > 1) return er_fail(err, ER_E_INTERNAL, "one fact at a time, not %lld", (long long)n);
    int adjust = edit->hyper->mom2_adjustment;
    if (adjust && !(stats && stats->eigen))
        return er_fail(err, ER_E_INTERNAL, "mom2_adjustment without a second moment");
    ER_TRY(er_alloc(&u.u, (size_t)(c->hidden * n), err));
    int code = er_alloc(&u.v, (size_t)(c->inner * n), err);
    if (!code && n) code = direction(u.v, key, c->inner, adjust ? stats->eigen : NULL, &division, err);
    if (!code && n)
        code = er_residual(u.u, values, key + 2 * c->inner, c->hidden, 1, c->hidden, division, &u.z_error, err);
    if (code) {
        er_update_free(&u);
        return code;
    }
    *out = u;
    return 0;
}

static const er_face_preset presets[] = {{ER_PARITY_EASYEDIT, "mom2_adjustment", "false"}, {0}};

const er_editor er_editor_rome = {
    .name = "rome",
    .symbols = ER_SYMBOL_KEY "k0: the key behind no template\n" ER_SYMBOL_C ER_SYMBOL_TARGET ER_SYMBOL_ONE_W,
    .template_list = "rome",
    .rule = ER_RULE_ROME,
    .presets = presets,
    .formula = "W += r u^T, r = (v* - W k0) / (k0.u), u = C^-1 mean(k) / |C^-1 mean(k)|; without mom2_adjustment "
               "u = mean(k) / |mean(k)|",
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
