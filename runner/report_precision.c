/* SPDX-License-Identifier: Apache-2.0 */
/* The report's section on precision.jsonl, where a run has one. */
#include "runner/report_parts.h"

#include <stdio.h>
#include <string.h>

static const char *const types[3] = {"fp32", "bf16", "fp16"};

typedef struct sums {
    int64_t layer, batches;
    char matrix[64];
    double below[3], norm[3], most[3];
} sums;

static void add_line(sums *all, int64_t *count, const json_t *line)
{
    const int64_t layer = json_integer_value(json_object_get(line, "layer"));
    const json_t *below = json_object_get(line, "below"), *norm = json_object_get(line, "norm_below");
    const char *name = json_string_value(json_object_get(line, "matrix"));
    int64_t i = 0;
    if (!name) name = "";
    while (i < *count && (all[i].layer != layer || strncmp(all[i].matrix, name, sizeof all[i].matrix - 1) != 0)) i++;
    if (i == ER_REPORT_LAYERS) return;
    if (i == *count) {
        all[(*count)++] = (sums){.layer = layer};
        snprintf(all[i].matrix, sizeof all[i].matrix, "%s", name);
    }
    all[i].batches++;
    for (int t = 0; t < 3; t++) {
        const double share = json_number_value(json_object_get(below, types[t]));
        all[i].below[t] += share;
        all[i].norm[t] += json_number_value(json_object_get(norm, types[t]));
        if (share > all[i].most[t]) all[i].most[t] = share;
    }
}

static void table(er_doc *d, const sums *all, int64_t count)
{
    static const char *const heads[] = {"layer", "matrix", "updates", "below half an ulp of fp32", "of bf16", "of fp16",
                                        "most, bf16", "their share of |update|², bf16", "fp16"};
    er_doc_section(d, "rounding", "What rounding would lose");
    er_doc_say(d, "Share of each update's elements that are smaller than half the distance of two neighbouring numbers "
               "at their weight, mean over updates: added to weights of that precision, they vanish on the whole.");
    er_doc_table(d, "rlrrrrrrr");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) er_doc_cell(d, "%s", heads[i]);
    for (int64_t i = 0; i < count; i++) {
        const double n = (double)all[i].batches / 100;
        er_doc_cell(d, "%lld", (long long)all[i].layer);
        er_doc_cell(d, "%s", all[i].matrix);
        er_doc_cell(d, "%lld", (long long)all[i].batches);
        for (int t = 0; t < 3; t++) er_doc_cell(d, "%.3g %%", all[i].below[t] / n);
        er_doc_cell(d, "%.3g %%", 100 * all[i].most[1]);
        er_doc_cell(d, "%.3g %%", all[i].norm[1] / n);
        er_doc_cell(d, "%.3g %%", all[i].norm[2] / n);
    }
    er_doc_table_end(d);
}

typedef struct measured {
    sums all[ER_REPORT_LAYERS];
    int64_t count;
} measured;

static void take(void *context, const json_t *line)
{
    measured *m = context;
    add_line(m->all, &m->count, line);
}

void er_part_precision(er_doc *d, const er_report *r)
{
    measured m = {.count = 0};
    if (!d->code) d->code = er_report_each_line(r, "precision.jsonl", take, &m, d->err);
    if (!d->code && m.count) table(d, m.all, m.count);
}
