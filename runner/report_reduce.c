/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/report_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- bins -------------------------------------------------------------------------------------------------------- */

static int64_t batches_of(const er_report *r)
{
    int64_t most = 0;
    for (int64_t i = 0; i < r->target_count; i++)
        if (r->targets[i].batch >= most) most = r->targets[i].batch + 1;
    return most;
}

static void add_case(struct er_bin *b, const er_report_case *c, int64_t counts[2][ER_REPORT_GROUPS])
{
    b->n++;
    for (int g = 0; g < ER_REPORT_GROUPS; g++) {
        if (!isnan(c->success[g])) b->success[g] += c->success[g], counts[0][g]++;
        if (!isnan(c->accuracy[g])) b->accuracy[g] += c->accuracy[g], counts[1][g]++;
    }
}

void er_report_bins(er_bins *out, const er_report *r, const char *moment)
{
    static const int64_t fewest = 10;
    int64_t counts[ER_MOST_BINS][2][ER_REPORT_GROUPS] = {{{0}}}, batches = batches_of(r), any = 0;
    memset(out, 0, sizeof *out);
    for (int64_t i = 0; i < r->case_count; i++) {
        if (r->cases[i].index >= out->cases) out->cases = r->cases[i].index + 1;
        any += !strcmp(r->cases[i].moment, moment);
    }
    int64_t bins = batches > 1 ? batches : fewest;
    if (bins > ER_MOST_BINS) bins = ER_MOST_BINS;
    if (bins > out->cases) bins = out->cases;
    if (!any) return;
    out->count = (int)bins;
    for (int b = 0; b < out->count; b++) {
        out->bin[b].first = (b * out->cases + bins - 1) / bins; /* the first index whose bin is b, see below */
        out->bin[b].last = ((b + 1) * out->cases + bins - 1) / bins - 1;
    }
    for (int64_t i = 0; i < r->case_count; i++) {
        const er_report_case *c = &r->cases[i];
        int64_t b = c->index * bins / out->cases;
        if (!strcmp(c->moment, moment)) add_case(&out->bin[b], c, counts[b]);
    }
    for (int b = 0; b < out->count; b++) {
        for (int g = 0; g < ER_REPORT_GROUPS; g++) { /* 0 / 0 is NAN: nothing to say */
            out->bin[b].success[g] /= (double)counts[b][0][g];
            out->bin[b].accuracy[g] /= (double)counts[b][1][g];
        }
    }
}

/* --- losses ------------------------------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, int64_t n, double q)
{
    double at = q * (double)(n - 1);
    int64_t i = (int64_t)at;
    double next = i + 1 < n ? sorted[i + 1] : sorted[i];
    return sorted[i] + (at - (double)i) * (next - sorted[i]);
}

int er_report_losses(er_losses *out, const er_report *r, er_err *err)
{
    int64_t steps = 0;
    double *column = NULL, *all = NULL;
    *out = (er_losses){0};
    for (int64_t i = 0; i < r->target_count; i++)
        if (r->targets[i].steps > steps) steps = r->targets[i].steps;
    if (!steps) return 0;
    ER_TRY(er_alloc(&column, (size_t)r->target_count, err));
    int code = er_alloc(&all, 3 * (size_t)steps, err);
    for (int64_t s = 0; !code && s < steps; s++) {
        int64_t n = 0;
        for (int64_t i = 0; i < r->target_count; i++) {
            const er_report_target *t = &r->targets[i];
            double x = t->steps ? (double)t->total[s < t->steps ? s : t->steps - 1] : (double)NAN;
            if (isfinite(x)) column[n++] = x;
        }
        if (!n) break;
        qsort(column, (size_t)n, sizeof *column, by_value);
        all[s] = quantile(column, n, 0.25);
        all[steps + s] = quantile(column, n, 0.5);
        all[2 * steps + s] = quantile(column, n, 0.75);
        out->count = s + 1;
    }
    er_free(column);
    if (code || !out->count) er_free(all);
    if (!code && out->count) *out = (er_losses){out->count, all, all + steps, all + 2 * steps};
    return code;
}

/* --- small ------------------------------------------------------------------------------------------------------- */

int64_t er_report_edits_at(const er_report *r, const char *moment)
{
    if (!strcmp(moment, "before")) return 0;
    if (!strcmp(moment, "at_end"))
        return (int64_t)json_integer_value(json_object_get(json_object_get(r->summary, "protocol"), "count"));
    if (strncmp(moment, "after_", 6) != 0) return -1;
    char *end;
    long long n = strtoll(moment + 6, &end, 10);
    return *end || end == moment + 6 || n < 0 ? -1 : n;
}

int64_t er_report_edits_after(const er_report *r, int64_t batch)
{
    const json_t *protocol = json_object_get(r->summary, "protocol");
    const int64_t size = (int64_t)json_integer_value(json_object_get(protocol, "batch"));
    const int64_t count = (int64_t)json_integer_value(json_object_get(protocol, "count"));
    const int64_t most = (int64_t)1 << 30; /* of what a damaged file says the product stays whole */
    const int64_t end = (batch < most ? batch + 1 : most) * (size > 0 && size < most ? size : 1);
    return count > 0 && end > count ? count : end;
}

int er_report_same_matrix(const er_report_layer *a, const er_report_layer *b)
{
    return a->layer == b->layer && !strcmp(a->matrix, b->matrix);
}

int64_t er_report_layer_list(const er_report *r, const er_report_layer **first, int64_t most)
{
    int64_t count = 0;
    for (int64_t i = 0; i < r->layer_count; i++) {
        int64_t k = 0;
        while (k < count && !er_report_same_matrix(first[k], &r->layers[i])) k++;
        if (k == count && count < most) first[count++] = &r->layers[i];
    }
    return count;
}

void er_report_layer_name(char out[32], const er_report_layer *l)
{
    snprintf(out, 32, "%lld%s%s", (long long)l->layer, *l->matrix ? " " : "", l->matrix);
}
