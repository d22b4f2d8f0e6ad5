/* SPDX-License-Identifier: Apache-2.0 */
#include "editors/hyper_rows.h"

#include "editors/stabilise.h"

#include <inttypes.h>
#include <string.h>

static int check_layers(const er_hyper *h, const er_config *config, er_err *err)
{
    if (h->layers.count < 1) return er_fail(err, ER_E_INPUT, "editor.layers: name at least one layer");
    for (int64_t i = 0; i < h->layers.count; i++) {
        int64_t layer = h->layers.at[i];
        if (layer < 0 || layer >= config->layers)
            return er_fail(err, ER_E_INPUT, "editor.layers: the model has no layer %" PRId64 ", only 0 to %" PRId64,
                           layer, config->layers - 1);
        if (i && layer <= h->layers.at[i - 1])
            return er_fail(err, ER_E_INPUT, "editor.layers: %" PRId64 " after %" PRId64 "; layers must ascend", layer,
                           h->layers.at[i - 1]);
    }
    if (h->v_loss_layer >= config->layers)
        return er_fail(err, ER_E_INPUT, "editor.v_loss_layer: the model has no layer %" PRId64 ", only 0 to %" PRId64,
                       h->v_loss_layer, config->layers - 1);
    return 0;
}

int er_hyper_check(const er_hyper *h, const er_config *config, int64_t batch, int64_t most_batch, const char *method,
                   er_err *err)
{
    static const char *const tokens[] = {"subject_last", "last", "subject_first", "subject_first_after_last"};
    ER_TRY(check_layers(h, config, err));
    if (h->fact_token > 0 && h->fact_token < 4)
        return er_fail(err, ER_E_UNSUPPORTED, "editor.fact_token: '%s' is not built; published files say subject_last",
                       tokens[h->fact_token]);
    if (h->v_num_grad_steps < 1) return er_fail(err, ER_E_INPUT, "editor.v_num_grad_steps: must be at least 1");
    if (!(h->v_lr > 0)) return er_fail(err, ER_E_INPUT, "editor.v_lr: must be above 0");
    if (!(h->clamp_norm_factor > 0)) return er_fail(err, ER_E_INPUT, "editor.clamp_norm_factor: must be above 0");
    if (batch < 1) return er_fail(err, ER_E_INPUT, "edit.batch: must be at least 1");
    if (most_batch && batch > most_batch)
        return er_fail(err, ER_E_INPUT, "edit.batch: %s edits %" PRId64 " fact at a time, not %" PRId64, method,
                       most_batch, batch);
    return er_stabilise_check(h, batch, err);
}

int64_t er_hyper_loss_above(const er_hyper *h, const er_config *config)
{
    int64_t last = h->layers.at[h->layers.count - 1], from = h->v_loss_layer > last ? h->v_loss_layer : last;
    return h->v_loss_layer < 0 ? 0 : config->layers - 1 - from;
}

int er_memit_template_lengths(const er_hyper *hyper, int64_t (*lengths)[2], int64_t *count, const char **braces)
{
    (void)hyper;
    if (*count < 1) return ER_E_INTERNAL;
    lengths[0][0] = 10;
    lengths[0][1] = 5;
    *count = 1;
    *braces = " ";
    return 0;
}

int er_options_like(er_option_table *out, const er_preset *presets, size_t count, er_arena *arena, er_err *err)
{
    er_option *rows = NULL;
    ER_TRY(er_arena_take(arena, &rows, out->count, err));
    memcpy(rows, out->rows, out->count * sizeof *rows);
    for (size_t p = 0; p < count; p++) {
        size_t i = 0;
        while (i < out->count && strcmp(rows[i].key, presets[p].key) != 0) i++;
        if (i == out->count) return er_fail(err, ER_E_INTERNAL, "no key %s to preset", presets[p].key);
        rows[i].preset = presets[p].value;
    }
    out->rows = rows;
    return 0;
}

int er_options_more(er_option_table *out, const er_option *more, size_t count, er_arena *arena, er_err *err)
{
    er_option *rows = NULL;
    ER_TRY(er_arena_take(arena, &rows, out->count + count, err));
    memcpy(rows, out->rows, out->count * sizeof *rows);
    memcpy(rows + out->count, more, count * sizeof *more);
    out->rows = rows;
    out->count += count;
    return 0;
}
