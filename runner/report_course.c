/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/report_course.h"

#include "runner/report_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double number(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

static json_t *moments_of(const er_report *r, const char *what)
{
    return json_object_get(json_object_get(r->summary, what), "moments");
}

/* --- rows -------------------------------------------------------------------------------------------------------- */

static void take_scores(er_course_row *row, const er_report *r)
{
    for (int g = 0; g < ER_REPORT_GROUPS; g++) {
        const char *name = er_report_groups[g].name;
        row->value[ER_COURSE_EFF + g] = er_report_score(r, row->moment, name, "success", "mean");
        row->value[ER_COURSE_EFF_ACC + g] = er_report_score(r, row->moment, name, "accuracy", "mean");
        row->error[g] = er_report_score(r, row->moment, name, "success", "stderr");
    }
    double same = er_report_score(r, row->moment, "neighborhood", "agreement", "mean");
    if (!isfinite(same)) same = er_report_score(r, row->moment, "locality", "agreement", "mean");
    row->value[ER_COURSE_SAME] = same;
    double n = er_report_score(r, row->moment, "rewrite", "accuracy", "n");
    row->cases = isfinite(n) ? (int64_t)n : 0;
}

/* Bins are youngest first. */
static void take_ages(er_course_row *row, const er_report *r)
{
    const json_t *bins = json_object_get(moments_of(r, "retention"), row->moment);
    size_t n = json_array_size(bins);
    if (!n) return;
    row->value[ER_COURSE_NEWEST] = number(json_array_get(bins, 0), "success");
    row->value[ER_COURSE_OLDEST] = number(json_array_get(bins, n - 1), "success");
}

static void take_drift(er_course_row *row, const er_report *r)
{
    const char *moment;
    json_t *in;
    json_object_foreach(moments_of(r, "drift"), moment, in) {
        if (json_integer_value(json_object_get(in, "edits")) != row->edits) continue;
        row->drift = 1;
        row->value[ER_COURSE_PERPLEXITY] = number(in, "perplexity");
        row->value[ER_COURSE_AGREEMENT] = number(in, "agreement");
        row->value[ER_COURSE_KL] = number(in, "kl");
    }
}

static int add_row(er_course *c, const char *moment, int64_t edits, er_err *err)
{
    ER_TRY(er_grow(&c->rows, &c->room, (size_t)c->count + 1, err));
    er_course_row *row = &c->rows[c->count++];
    *row = (er_course_row){.moment = moment, .edits = edits};
    for (int f = 0; f < ER_COURSE_FIGURES; f++) row->value[f] = (double)NAN;
    for (int g = 0; g < ER_REPORT_GROUPS; g++) row->error[g] = (double)NAN;
    take_scores(row, c->r);
    take_ages(row, c->r);
    take_drift(row, c->r);
    er_report_norms_at(c->r, edits, &row->value[ER_COURSE_UPDATE], &row->value[ER_COURSE_TOTAL],
                       &row->value[ER_COURSE_USED]);
    return 0;
}

/* The scores of all cases stand behind those of the sample. */
static int by_edits(const void *a, const void *b)
{
    const er_course_row *x = a, *y = b;
    if (x->edits != y->edits) return x->edits < y->edits ? -1 : 1;
    return !strcmp(x->moment, "at_end") - !strcmp(y->moment, "at_end");
}

static int make_rows(er_course *c, er_err *err)
{
    const char *moment;
    json_t *in;
    json_object_foreach(json_object_get(c->r->summary, "scores"), moment, in) {
        int64_t edits = er_report_edits_at(c->r, moment);
        if (edits >= 0) ER_TRY(add_row(c, moment, edits, err));
    }
    const int64_t scored = c->count;
    json_object_foreach(moments_of(c->r, "drift"), moment, in) {
        int64_t edits = (int64_t)json_integer_value(json_object_get(in, "edits")), k = 0;
        while (k < scored && c->rows[k].edits != edits) k++;
        if (k == scored) ER_TRY(add_row(c, moment, edits, err));
    }
    if (c->count) qsort(c->rows, (size_t)c->count, sizeof *c->rows, by_edits);
    for (int64_t i = 1; i < c->count; i++) c->rows[i].repeated = c->rows[i].edits == c->rows[i - 1].edits;
    return 0;
}

/* --- where it breaks --------------------------------------------------------------------------------------------- */

static void find_break(er_course *c)
{
    const double start = c->count && !c->rows[0].edits ? c->rows[0].value[ER_COURSE_PERPLEXITY] : (double)NAN;
    c->broken = -1;
    if (!isfinite(start)) return;
    for (int64_t i = 1; i < c->count && c->broken < 0; i++) {
        const double now = c->rows[i].value[ER_COURSE_PERPLEXITY];
        if (c->rows[i].drift && !(now <= ER_COURSE_BREAK * start)) c->broken = i;
    }
}

static void take_guard(er_course *c, const char *name, int64_t edit, double value, double limit)
{
    if (c->guard && edit >= c->guard_edit) return;
    c->guard = name;
    c->guard_edit = edit;
    c->guard_value = value;
    c->guard_limit = limit;
}

/* The edit that a guard's line is about, counted from 1: the case's own, else the last one of its batch. */
static int64_t edit_of(const er_report *r, const json_t *guard)
{
    const json_t *named = json_object_get(guard, "case_id");
    const int64_t batch = (int64_t)json_integer_value(json_object_get(guard, "batch"));
    for (int64_t i = 0; json_is_integer(named) && i < r->target_count; i++)
        if (r->targets[i].batch == batch && r->targets[i].case_id == json_integer_value(named))
            return r->targets[i].index + 1;
    return er_report_edits_after(r, batch);
}

/* Guards of drift are looked up in the figures: a run that has not ended has no list of them. */
static void drift_guard(er_course *c, const char *name, const char *key, int figure, int below)
{
    const char *text = er_report_option_of(c->r, key, NULL);
    const double limit = text ? strtod(text, NULL) : 0, start = c->count ? c->rows[0].value[figure] : (double)NAN;
    for (int64_t i = 1; limit > 0 && i < c->count; i++) {
        const double x = c->rows[i].value[figure], value = figure == ER_COURSE_PERPLEXITY ? x / start : x;
        if (isfinite(value) && (below ? value < limit : value > limit)) {
            take_guard(c, name, c->rows[i].edits, value, limit);
            return;
        }
    }
}

static void find_guard(er_course *c)
{
    size_t i;
    json_t *g;
    json_array_foreach(json_object_get(c->r->summary, "guards"), i, g) {
        const char *name = json_string_value(json_object_get(g, "guard"));
        if (!name || !strcmp(name, "failed")) continue; /* an edit that could not be made is no sign of damage */
        take_guard(c, name, edit_of(c->r, g), number(g, "value"), number(g, "limit"));
    }
    drift_guard(c, "perplexity", "guards.perplexity.at", ER_COURSE_PERPLEXITY, 0);
    drift_guard(c, "agreement", "guards.agreement.at", ER_COURSE_AGREEMENT, 1);
    drift_guard(c, "kl", "guards.kl.at", ER_COURSE_KL, 0);
}

int er_course_make(er_course *out, const er_report *r, er_err *err)
{
    *out = (er_course){.r = r, .broken = -1};
    ER_TRY(make_rows(out, err));
    find_break(out);
    find_guard(out);
    return 0;
}

int er_course_is_long(const er_course *c)
{
    int64_t moments = 0;
    for (int64_t i = 0; i < c->count; i++) moments += !c->rows[i].repeated;
    return moments > 2 || moments_of(c->r, "drift");
}
