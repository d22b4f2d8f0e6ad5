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
