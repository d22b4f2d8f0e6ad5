/* SPDX-License-Identifier: Apache-2.0 */
#include "editors/lora.h"
#include "editors/symbols.h"

#include "base/memory.h"
#include "editors/lora_parts.h"
#include "editors/train_rows.h"

#include <stdio.h>
#include <string.h>

/* --- options ----------------------------------------------------------------------------------------------------- */

static const er_option lora_rows[] = {
    ER_TRAIN_ROWS("[]", "layers with adapters, ascending; none named: all", "70", "5e-3", "0"),
    {"lora_type", ER_OPT_CHOICE, offsetof(er_hyper, lora_type), "lora", 0, 0, "lora|adalora", 0,
     "adalora: singular values between the factors, which a penalty keeps orthogonal"},
    {"rank", ER_OPT_INT, offsetof(er_hyper, rank), "8", 1, 65536, NULL, 0, "rank of an adapter"},
    {"lora_alpha", ER_OPT_DOUBLE, offsetof(er_hyper, lora_alpha), "32", 0, 1e6, NULL, 0,
     "the adapters' product is scaled by lora_alpha / rank"},
    {"lora_dropout", ER_OPT_DOUBLE, offsetof(er_hyper, lora_dropout), "0", 0, 1, NULL, 0,
     "dropout before the adapters (0)"},
    {"norm_constraint", ER_OPT_DOUBLE, offsetof(er_hyper, norm_constraint), "0", 0, 1e6, NULL, ER_OPT_OFF,
     "published files say false; there is no bound"},
    {"target_modules", ER_OPT_TEXT, offsetof(er_hyper, target_modules), "[q_proj, v_proj]", 0, 0, NULL, ER_OPT_LIST,
     "matrices with adapters, by the last part of their names"},
};

static int options(er_option_table *out, er_hyper *hyper, er_arena *arena, er_err *err)
{
    (void)arena, (void)err;
    *out = (er_option_table){"editor.", lora_rows, sizeof lora_rows / sizeof *lora_rows, hyper, NULL};
    return 0;
}

/* --- which matrices ---------------------------------------------------------------------------------------------- */

/* The next name of a list; *at moves behind it. 0 at its end. */
static int next_name(char name[ER_LORA_NAME], const char **at)
{
    *at += strspn(*at, "[], \"'");
    const size_t n = strcspn(*at, "[], \"'");
    if (!n) return 0;
    snprintf(name, ER_LORA_NAME, "%.*s", (int)(n < ER_LORA_NAME - 1 ? n : ER_LORA_NAME - 1), *at);
    *at += n;
    return 1;
}

/* As peft compares: the whole name, or its end behind a point. */
static int is_called(const char *module, const char *name)
{
    const size_t m = strlen(module), n = strlen(name);
    if (m < n || strcmp(module + m - n, name) != 0) return 0;
    return m == n || module[m - n - 1] == '.';
}

static int is_target(const er_hyper *h, const er_config *c, int64_t layer, int which)
{
    char module[ER_LORA_NAME], name[ER_LORA_NAME];
    if (!er_lora_module(module, c, layer, which)) return 0;
    for (const char *at = h->target_modules; at && next_name(name, &at);)
        if (is_called(module, name)) return 1;
    return 0;
}

static int64_t edited(er_edited *out, const er_hyper *h, const er_config *c)
{
    const int64_t layers = h->layers.count ? h->layers.count : c->layers;
    int64_t n = 0;
    for (int64_t i = 0; i < layers; i++) {
        const int64_t layer = h->layers.count ? h->layers.at[i] : i;
        for (int which = 0; which < ER_MATRIX_COUNT; which++) {
            if (!is_target(h, c, layer, which)) continue;
            if (out) out[n] = (er_edited){layer, which};
            n++;
        }
    }
    return n;
}

/* Every name must be some matrix's. */
static int check_targets(const er_hyper *h, const er_config *c, er_err *err)
{
    char module[ER_LORA_NAME], name[ER_LORA_NAME], known[ER_MATRIX_COUNT][ER_LORA_NAME];
    const char *names[ER_MATRIX_COUNT];
    size_t count = 0;
    for (int which = 0; which < ER_MATRIX_COUNT; which++) {
        if (!er_lora_module(module, c, 0, which)) continue;
        const char *dot = strrchr(module, '.');
        snprintf(known[count], ER_LORA_NAME, "%s", dot ? dot + 1 : module);
        names[count] = known[count];
        count++;
    }
    for (const char *at = h->target_modules; at && next_name(name, &at);) {
        int found = 0;
        for (int64_t layer = 0; !found && layer < c->layers; layer++)
            for (int which = 0; !found && which < ER_MATRIX_COUNT; which++)
                found = er_lora_module(module, c, layer, which) && is_called(module, name);
        if (found) continue;
        const char *near = er_nearest(name, names, count);
        return er_fail(err, ER_E_INPUT, "editor.target_modules: the model has no '%s'; its matrices end in %s%s%s", name,
                       near ? near : names[0], near ? "" : ", ...", near ? " (nearest)" : "");
    }
    return 0;
}

static int check(const er_hyper *h, const er_config *config, int64_t batch, er_err *err)
{
    ER_TRY(er_train_check(h, config, batch, err));
    if (h->lora_dropout != 0)
        return er_fail(err, ER_E_UNSUPPORTED, "editor.lora_dropout: %g; built is 0, an edit without chance", h->lora_dropout);
    if (h->norm_constraint != 0)
        return er_fail(err, ER_E_UNSUPPORTED, "editor.norm_constraint: %g; lora has no bound, published files say false",
                       h->norm_constraint);
    if (!(h->lora_alpha > 0)) return er_fail(err, ER_E_INPUT, "editor.lora_alpha: must be above 0");
    ER_TRY(check_targets(h, config, err));
    if (edited(NULL, h, config) < 1)
        return er_fail(err, ER_E_INPUT, "editor.target_modules: '%s' names no matrix of the edited layers",
                       h->target_modules ? h->target_modules : "");
    return 0;
}

const er_editor er_editor_lora = {
    .name = "lora",
    .symbols = "W: each matrix of target_modules\nA, B: its trained factors, (rank, inputs) and (outputs, rank)\nL: the loss",
    .template_list = "rome",
    .rule = ER_RULE_ROME,
    .formula = "W <- W + (lora_alpha / rank) B A, A and B by Adam on L = mean nll of the target's ids; A uniform in "
               "+-1/sqrt(inputs), B from 0; adalora: B diag(e) A, e from 0",
    .options = options,
    .check = check,
    .needs = er_train_needs,
    .template_lengths = er_train_template_lengths,
    .edited = edited,
    .train = &er_lora_training,
};
