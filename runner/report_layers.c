/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of the edited layers and of the spectra of their second moments. */
#include "runner/report_parts.h"

#include <math.h>

/* --- layers ------------------------------------------------------------------------------------------------------ */

static void layer_row(er_doc *d, const er_report *r, const er_report_layer *matrix)
{
    const er_report_layer *first = NULL, *last = NULL;
    char name[32];
    double least = (double)NAN, most = (double)NAN, condition = (double)NAN;
    for (int64_t i = 0; i < r->layer_count; i++) {
        const er_report_layer *l = &r->layers[i];
        if (!er_report_same_matrix(matrix, l)) continue;
        if (!first) first = l;
        last = l;
        least = fmin(least, l->update_norm);
        most = fmax(most, l->update_norm);
        condition = fmax(condition, l->condition);
    }
    if (!last) return;
    er_report_layer_name(name, matrix);
    er_doc_cell(d, "%s", name);
    er_doc_number(d, first->z_error, 'g', 4);
    er_doc_number(d, last->z_error, 'g', 4);
    er_doc_number(d, least, 'g', 4);
    er_doc_number(d, most, 'g', 4);
    er_doc_number(d, last->weight_norm, 'g', 5);
    er_doc_number(d, condition > 0 ? condition : (double)NAN, 'g', 3);
    if (last->history_rank > 0) {
        er_doc_cell(d, "%lld of %lld", (long long)(last->history_rows + last->requests), (long long)last->history_rank);
        er_doc_cell(d, "%.2f %%", 100.0 * (double)(last->history_rows + last->requests) / (double)last->history_rank);
    } else {
        er_doc_cell(d, "–");
        er_doc_cell(d, "–");
    }
}

void er_part_layers(er_doc *d, const er_report *r)
{
    static const char *const heads[] = {"layer", "residual, first batch", "last batch", "update norm, least", "most",
                                        "weight norm", "condition, most", "history rows", "capacity used"};
    const er_report_layer *layers[ER_REPORT_LAYERS];
    int64_t n = er_report_layer_list(r, layers, ER_REPORT_LAYERS);
    er_doc_table(d, "rrrrrrrrr");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) er_doc_cell(d, "%s", heads[i]);
    for (int64_t k = 0; k < n; k++) layer_row(d, r, layers[k]);
    er_doc_table_end(d);
}

void er_part_spectra(er_doc *d, const er_report *r)
{
    er_doc_table(d, "rrrrr");
    er_doc_cell(d, "layer");
    er_doc_cell(d, "dimension");
    er_doc_cell(d, "kept by the projection");
    er_doc_cell(d, "smallest shown");
    er_doc_cell(d, "largest shown");
    for (int64_t i = 0; i < r->spectrum_count; i++) {
        const er_report_spectrum *s = &r->spectra[i];
        er_doc_cell(d, "%lld", (long long)s->layer);
        er_doc_cell(d, "%lld", (long long)s->dimension);
        if (s->kept >= 0) er_doc_cell(d, "%lld", (long long)s->kept);
        else er_doc_cell(d, "–");
        er_doc_number(d, s->count ? s->value[0] : (double)NAN, 'g', 3);
        er_doc_number(d, s->count ? s->value[s->count - 1] : (double)NAN, 'g', 3);
    }
    er_doc_table_end(d);
}

/* --- what editing did to them ------------------------------------------------------------------------------------ */

static double figure(const json_t *line, const char *of, const char *what)
{
    const json_t *v = json_object_get(json_object_get(line, of), what);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

static void change_heads(er_doc *d)
{
    static const char *const heads[] = {"layer", "matrix", "sigma of W0", "stable rank", "sigma of W", "stable rank",
                                        "sigma of W - W0", "stable rank", "its sigma against W0's"};
    er_doc_section(d, "change", "Spectra of the edited matrices");
    er_doc_table(d, "rlrrrrrrr");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) er_doc_cell(d, "%s", heads[i]);
}

typedef struct changes {
    er_doc *d;
    int64_t count;
} changes;

static void change_row(void *context, const json_t *line)
{
    static const char *const parts[] = {"clean", "edited", "update"};
    changes *c = context;
    const char *name = json_string_value(json_object_get(line, "matrix"));
    if (!c->count++) change_heads(c->d);
    er_doc_cell(c->d, "%lld", (long long)json_integer_value(json_object_get(line, "layer")));
    er_doc_cell(c->d, "%s", name ? name : "?");
    for (int i = 0; i < 3; i++) {
        er_doc_number(c->d, figure(line, parts[i], "sigma"), 'g', 4);
        er_doc_number(c->d, figure(line, parts[i], "stable_rank"), 'g', 4);
    }
    er_doc_number(c->d, figure(line, "update", "sigma") / figure(line, "clean", "sigma"), 'g', 3);
}

void er_part_change(er_doc *d, const er_report *r)
{
    changes c = {d, 0};
    if (d->code) return;
    int code = er_report_each_line(r, "spectra.jsonl", change_row, &c, d->err);
    if (!d->code) d->code = code;
    if (!c.count) return;
    er_doc_table_end(d);
    er_doc_say(d, "Sigma: the largest singular value. Stable rank: squared Frobenius norm over squared sigma, how many "
               "directions carry the matrix. An update whose sigma passes W0's rules what the matrix does.");
}
