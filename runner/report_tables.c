/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/report_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 200, WORST = 10 };

/* kind: 'f' digits behind the point, 'g' digits in all, '%' like f with a per cent sign. */
/* --- scores ------------------------------------------------------------------------------------------------------ */

static const struct {
    const char *group, *title;
} titles[] = {{"rewrite", "Eff"}, {"paraphrase", "Gen"}, {"neighborhood", "Spe"},
              {"locality", "Loc"}, {"portability", "Por"}, {"generation", "Text"}};
static const struct {
    const char *metric, *title;
} measures[] = {{"success", "success"}, {"accuracy", "accuracy"}, {"exact", "all tokens right"},
                {"magnitude", "magnitude"}, {"agreement", "as unedited"},
                {"greedy_accuracy", "greedy: accuracy"}, {"greedy_exact", "greedy: all tokens right"},
                {"greedy_contains", "greedy: contains the answer"}, {"greedy_match", "greedy: is the answer"},
                {"fluency", "fluency"}, {"consistency", "consistency"}};
enum { MOST_GROUPS = 12, MEASURES = sizeof measures / sizeof *measures };

/* The groups of all moments: ours first, then as they come. */
static int groups_of(const er_report *r, const char *groups[MOST_GROUPS])
{
    const char *moment, *group;
    json_t *in, *unused, *scores = json_object_get(r->summary, "scores");
    int count = 0;
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++) {
        int has = 0;
        json_object_foreach(scores, moment, in) has |= json_object_get(in, titles[i].group) != NULL;
        if (has) groups[count++] = titles[i].group;
    }
    json_object_foreach(scores, moment, in) {
        json_object_foreach(in, group, unused) {
            int seen = !json_is_object(unused);
            for (int i = 0; i < count; i++) seen |= !strcmp(groups[i], group);
            if (!seen && count < MOST_GROUPS) groups[count++] = group;
        }
    }
    return count;
}

static const char *title_of(const char *group)
{
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++)
        if (!strcmp(titles[i].group, group)) return titles[i].title;
    return group;
}

static void score_cell(er_doc *d, double mean, double error)
{
    if (!isfinite(mean)) er_doc_cell(d, "–");
    else if (!isfinite(error)) er_doc_cell(d, "%.1f", 100 * mean);
    else er_doc_cell(d, "%.1f ± %.1f", 100 * mean, 100 * error);
}

/* "12", or "12/11/12" where groups differ. */
static void count_cell(er_doc *d, const er_report *r, const char *moment, const char *metric,
                       const char **groups, int n)
{
    char text[256] = "";
    double first = (double)NAN;
    int same = 1;
    size_t length = 0;
    for (int i = 0; i < n; i++) {
        double count = er_report_score(r, moment, groups[i], metric, "n");
        if (!isfinite(count)) continue;
        if (!isfinite(first)) first = count;
        same &= !(count < first) && !(count > first);
        int wrote = snprintf(text + length, sizeof text - length, "%s%.0f", length ? "/" : "", count);
        if (wrote > 0 && length + (size_t)wrote < sizeof text) length += (size_t)wrote;
    }
    if (same && isfinite(first)) er_doc_cell(d, "%.0f", first);
    else er_doc_cell(d, "%s", length ? text : "–");
}

/* *first: the moment's name is still to be written. */
static void score_row(er_doc *d, const er_report *r, const char *moment, int measure, const char **groups, int n,
                      int *first)
{
    const char *metric = measures[measure].metric;
    int any = 0;
    for (int i = 0; i < n; i++) any |= isfinite(er_report_score(r, moment, groups[i], metric, "mean"));
    if (!any) return;
    const int total = *first; /* stands beside the moment's first measure */
    er_doc_cell(d, "%s", *first ? moment : "");
    *first = 0;
    er_doc_cell(d, "%s", measures[measure].title);
    if (!total) er_doc_cell(d, "%s", "");
    else er_doc_number(d, 100 * er_report_total(r, moment), 'f', 1);
    for (int i = 0; i < n; i++)
        score_cell(d, er_report_score(r, moment, groups[i], metric, "mean"),
                   er_report_score(r, moment, groups[i], metric, "stderr"));
    count_cell(d, r, moment, metric, groups, n);
}

void er_part_scores(er_doc *d, const er_report *r)
{
    const char *groups[MOST_GROUPS], *moment;
    json_t *unused;
    int n = groups_of(r, groups);
    char align[MOST_GROUPS + 5] = "llr";
    er_doc_section(d, "scores", "Scores");
    if (!n) {
        er_doc_say(d, "The summary holds no scores.");
        return;
    }
    for (int i = 0; i <= n; i++) strcat(align, "r");
    er_doc_table(d, align);
    er_doc_cell(d, "moment");
    er_doc_cell(d, "measure");
    er_doc_cell(d, "Score");
    for (int i = 0; i < n; i++) er_doc_cell(d, "%s", title_of(groups[i]));
    er_doc_cell(d, "n");
    json_object_foreach(json_object_get(r->summary, "scores"), moment, unused) {
        int first = 1;
        for (int m = 0; m < MEASURES; m++) score_row(d, r, moment, m, groups, n, &first);
    }
    er_doc_table_end(d);
    er_doc_say(d, "All times 100, mean over cases ± its standard error. Eff, Gen and Spe: the edited, the rephrased "
               "and the neighbouring prompts; Score is the harmonic mean of their successes. Success: the new target "
               "is likelier than the true one (Spe: the true one likelier). Accuracy: the share of answer tokens that "
               "come first.");
}

/* --- bins and losses --------------------------------------------------------------------------------------------- */

void er_part_retention(er_doc *d, const er_report *r)
{
    static const char *const moments[] = {"at_edit", "at_end"};
    er_bins bins;
    er_doc_table(d, "llrrrrrrr");
    er_doc_cell(d, "scored");
    er_doc_cell(d, "indices");
    er_doc_cell(d, "n");
    for (int g = 0; g < ER_REPORT_GROUPS; g++) er_doc_cell(d, "%s", er_report_groups[g].title);
    for (int g = 0; g < ER_REPORT_GROUPS; g++) er_doc_cell(d, "%sAcc", er_report_groups[g].title);
    for (int m = 0; m < 2; m++) {
        er_report_bins(&bins, r, moments[m]);
        for (int i = 0; i < bins.count; i++) {
            const struct er_bin *b = &bins.bin[i];
            er_doc_cell(d, "%s", moments[m]);
            er_doc_cell(d, "%lld–%lld", (long long)b->first, (long long)b->last);
            er_doc_cell(d, "%lld", (long long)b->n);
            for (int g = 0; g < ER_REPORT_GROUPS; g++) er_doc_number(d, 100 * b->success[g], 'f', 1);
            for (int g = 0; g < ER_REPORT_GROUPS; g++) er_doc_number(d, 100 * b->accuracy[g], 'f', 1);
        }
    }
    er_doc_table_end(d);
}

void er_part_losses(er_doc *d, const er_report *r)
{
    er_losses l;
    if (!d->code) d->code = er_report_losses(&l, r, d->err);
    if (d->code || !l.count) return;
    int64_t stride = (l.count + 24) / 25;
    er_doc_table(d, "rrrr");
    er_doc_cell(d, "step");
    er_doc_cell(d, "lower quartile");
    er_doc_cell(d, "median");
    er_doc_cell(d, "upper quartile");
    for (int64_t s = 0; s < l.count; s++) {
        if (s % stride && s + 1 < l.count) continue;
        er_doc_cell(d, "%lld", (long long)s);
        er_doc_cell(d, "%.4g", l.low[s]);
        er_doc_cell(d, "%.4g", l.middle[s]);
        er_doc_cell(d, "%.4g", l.high[s]);
    }
    er_doc_table_end(d);
    er_free(l.low);
}

/* --- what went wrong --------------------------------------------------------------------------------------------- */

static void whole_cell(er_doc *d, const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    if (json_is_integer(v)) er_doc_cell(d, "%lld", (long long)json_integer_value(v));
    else er_doc_cell(d, "–");
}

static void text_cell(er_doc *d, const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    er_doc_cell(d, "%s", text ? text : "–");
}

static void say_more(er_doc *d, int64_t shown, int64_t count, const char *file)
{
    if (shown < count)
        er_doc_say(d, "%lld of %lld are shown; all are in %s.", (long long)shown, (long long)count, file);
}

void er_part_guards(er_doc *d, const er_report *r)
{
    const json_t *guards = json_object_get(r->summary, "guards");
    size_t count = json_array_size(guards), shown = count < MOST_ROWS ? count : MOST_ROWS;
    static const char *const heads[] = {"guard", "batch", "case", "layer", "value", "limit", "action"};
    er_doc_section(d, "guards", "Guards that fired");
    if (!count) {
        er_doc_say(d, "None.");
        return;
    }
    er_doc_table(d, "lrrrrrl");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) er_doc_cell(d, "%s", heads[i]);
    for (size_t i = 0; i < shown; i++) {
        const json_t *g = json_array_get(guards, i), *v = json_object_get(g, "value"), *m = json_object_get(g, "limit");
        text_cell(d, g, "guard");
        whole_cell(d, g, "batch");
        whole_cell(d, g, "case_id");
        whole_cell(d, g, "layer");
        er_doc_number(d, json_is_number(v) ? json_number_value(v) : (double)NAN, 'g', 5);
        er_doc_number(d, json_is_number(m) ? json_number_value(m) : (double)NAN, 'g', 5);
        text_cell(d, g, "action");
    }
    er_doc_table_end(d);
    say_more(d, (int64_t)shown, (int64_t)count, "summary.json");
}

void er_part_failed(er_doc *d, const er_report *r)
{
    int64_t shown = 0, count = 0;
    er_doc_section(d, "failed", "Failed edits");
    for (int64_t i = 0; i < r->target_count; i++) count += r->targets[i].failed;
    if (!count) {
        int64_t said = er_report_edits(r, "failed");
        if (said) er_doc_say(d, "%lld, which events.jsonl does not name.", (long long)said);
        else er_doc_say(d, "None.");
        return;
    }
    er_doc_table(d, "rrrl");
    er_doc_cell(d, "case");
    er_doc_cell(d, "index");
    er_doc_cell(d, "batch");
    er_doc_cell(d, "reason");
    for (int64_t i = 0; i < r->target_count && shown < MOST_ROWS; i++) {
        const er_report_target *t = &r->targets[i];
        if (!t->failed) continue;
        er_doc_cell(d, "%lld", (long long)t->case_id);
        er_doc_cell(d, "%lld", (long long)t->index);
        er_doc_cell(d, "%lld", (long long)t->batch);
        er_doc_cell(d, "%s", t->reason ? t->reason : "–");
        shown++;
    }
    er_doc_table_end(d);
    say_more(d, shown, count, "events.jsonl");
    er_doc_say(d, "A failed edit changes nothing and is scored like every other.");
}

/* Mean of the successes that a case has; 0 for a case that has none. */
static double mean_success(const er_report_case *c)
{
    double sum = 0;
    int n = 0;
    for (int g = 0; g < ER_REPORT_GROUPS; g++)
        if (!isnan(c->success[g])) sum += c->success[g], n++;
    return n ? sum / n : 0;
}

static double margin(const er_report_case *c)
{
    double m = isnan(c->true_nll) ? c->new_nll : c->new_nll - c->true_nll;
    return isnan(m) ? (double)INFINITY : m;
}

static int by_badness(const void *a, const void *b)
{
    const er_report_case *x = *(const er_report_case *const *)a, *y = *(const er_report_case *const *)b;
    double p = mean_success(x), q = mean_success(y), s = margin(x), t = margin(y);
    if (p < q || p > q) return p < q ? -1 : 1;
    if (s < t || s > t) return s > t ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static void worst_row(er_doc *d, const er_report_case *c)
{
    er_doc_cell(d, "%lld", (long long)c->case_id);
    er_doc_cell(d, "%lld", (long long)c->index);
    for (int g = 0; g < ER_REPORT_GROUPS; g++) er_doc_number(d, 100 * c->success[g], 'f', 0);
    for (int g = 0; g < ER_REPORT_GROUPS; g++) er_doc_number(d, 100 * c->accuracy[g], 'f', 0);
    er_doc_number(d, c->new_nll, 'f', 3);
    er_doc_number(d, c->true_nll, 'f', 3);
    er_doc_cell(d, "%s", c->failed ? "failed" : "applied");
}

void er_part_worst(er_doc *d, const er_report *r)
{
    const char *last = er_report_last_moment(r);
    const er_report_case **order = NULL;
    int64_t n = 0;
    if (!d->code) d->code = er_alloc(&order, (size_t)r->case_count, d->err);
    if (d->code) return;
    for (int64_t i = 0; last && i < r->case_count; i++)
        if (!strcmp(r->cases[i].moment, last)) order[n++] = &r->cases[i];
    if (n) {
        qsort(order, (size_t)n, sizeof *order, by_badness);
        er_doc_section(d, "worst", "Worst cases");
        er_doc_table(d, "rrrrrrrrrrl");
        er_doc_cell(d, "case");
        er_doc_cell(d, "index");
        for (int g = 0; g < ER_REPORT_GROUPS; g++) er_doc_cell(d, "%s", er_report_groups[g].title);
        for (int g = 0; g < ER_REPORT_GROUPS; g++) er_doc_cell(d, "%sAcc", er_report_groups[g].title);
        er_doc_cell(d, "nll new");
        er_doc_cell(d, "nll true");
        er_doc_cell(d, "edit was");
        for (int64_t i = 0; i < n && i < WORST; i++) worst_row(d, order[i]);
        er_doc_table_end(d);
        er_doc_say(d, "At %s: lowest mean of the three successes first, then the new target furthest behind the true "
                   "one. nll: nats per token of the edited prompt.", last);
    }
    er_free(order);
}
