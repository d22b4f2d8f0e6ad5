/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/report_spread.h"

#include "runner/report_parts.h"

#include <math.h>
#include <string.h>

/* --- groups ------------------------------------------------------------------------------------------------------ */

static int is_seed(const char *key)
{
    static const char *const keys[] = {"seed", "data.order", "data.order.shuffle", "templates.generate.seed",
                                       "stats.sample.seed"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(keys[i], key)) return 1;
    return 0;
}

static int has_equal(const er_report *r, const er_report_option *o)
{
    const char *other = er_report_option_of(r, o->key, NULL);
    return is_seed(o->key) || (other && !strcmp(other, o->value));
}

static int same_but_seeds(const er_report *a, const er_report *b)
{
    if (!a->option_count || !b->option_count) return 0;
    for (int64_t i = 0; i < a->option_count; i++)
        if (!has_equal(b, &a->options[i])) return 0;
    for (int64_t i = 0; i < b->option_count; i++)
        if (!has_equal(a, &b->options[i])) return 0;
    return 1;
}

/* --- one group's row --------------------------------------------------------------------------------------------- */

typedef struct spread {
    double sum, squares, errors;
    int64_t n, errors_n;
} spread;

static void add(spread *s, double mean, double error)
{
    if (!isfinite(mean)) return;
    s->sum += mean;
    s->squares += mean * mean;
    s->n++;
    if (isfinite(error)) s->errors += error, s->errors_n++;
}

static void cells(er_doc *d, const spread *s, int with_error)
{
    double mean = s->sum / (double)s->n, rest = s->squares - s->sum * mean;
    if (!s->n) er_doc_cell(d, "–");
    else er_doc_cell(d, "%.1f", 100 * mean);
    if (s->n < 2) er_doc_cell(d, "–");
    else er_doc_cell(d, "%.1f", 100 * sqrt(rest > 0 ? rest / (double)(s->n - 1) : 0));
    if (!with_error) return;
    if (!s->errors_n) er_doc_cell(d, "–");
    else er_doc_cell(d, "%.1f", 100 * s->errors / (double)s->errors_n);
}

static int64_t group_size(const er_report *runs, int64_t count, int64_t first)
{
    int64_t n = 0;
    for (int64_t i = first; i < count; i++) n += i == first || same_but_seeds(&runs[first], &runs[i]);
    return n;
}

static int is_first(const er_report *runs, int64_t at)
{
    for (int64_t i = 0; i < at; i++)
        if (same_but_seeds(&runs[i], &runs[at])) return 0;
    return 1;
}

static void row(er_doc *d, const er_report *runs, int64_t count, int64_t first, int64_t size)
{
    const char *method = json_string_value(json_object_get(runs[first].summary, "method"));
    const char *moment = er_report_last_moment(&runs[first]);
    spread total = {0}, group[2][ER_REPORT_GROUPS] = {{{0}}};
    static const char *const metrics[] = {"success", "accuracy"};
    for (int64_t i = first; i < count; i++) {
        if (i != first && !same_but_seeds(&runs[first], &runs[i])) continue;
        if (!moment) continue;
        add(&total, er_report_total(&runs[i], moment), (double)NAN);
        for (int m = 0; m < 2; m++)
            for (int g = 0; g < ER_REPORT_GROUPS; g++)
                add(&group[m][g], er_report_score(&runs[i], moment, er_report_groups[g].name, metrics[m], "mean"),
                    er_report_score(&runs[i], moment, er_report_groups[g].name, metrics[m], "stderr"));
    }
    er_doc_cell(d, "%s", runs[first].name);
    er_doc_cell(d, "%s", method ? method : "?");
    er_doc_cell(d, "%lld", (long long)size);
    er_doc_cell(d, "%s", moment ? moment : "–");
    cells(d, &total, 0);
    for (int g = 0; g < ER_REPORT_GROUPS; g++) cells(d, &group[0][g], 1);
    cells(d, &group[1][ER_REPORT_EFF], 1);
}

void er_part_spread(er_doc *d, const er_report *runs, int64_t count)
{
    int any = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t size = is_first(runs, i) ? group_size(runs, count, i) : 0;
        if (size < 2) continue;
        if (!any++) {
            er_doc_section(d, "seeds", "Spread over seeds");
            er_doc_table(d, "llrlrrrrrrrrrrrrrr");
            er_doc_cell(d, "first run");
            er_doc_cell(d, "method");
            er_doc_cell(d, "runs");
            er_doc_cell(d, "moment");
            er_doc_cell(d, "Score");
            er_doc_cell(d, "sd over runs");
            for (int g = 0; g <= ER_REPORT_GROUPS; g++) {
                er_doc_cell(d, "%s", g < ER_REPORT_GROUPS ? er_report_groups[g].title : "EffAcc");
                er_doc_cell(d, "sd over runs");
                er_doc_cell(d, "se over cases");
            }
        }
        row(d, runs, count, i, size);
    }
    if (!any) return;
    er_doc_table_end(d);
    er_doc_say(d, "Runs that differ in seeds and order alone. All times 100: mean over runs, standard deviation over "
               "runs, and the mean of their standard errors over cases, which is another thing: it says how well a run "
               "knows its own mean, not how much the next order of edits will change it.");
}
