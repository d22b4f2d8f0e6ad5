/* SPDX-License-Identifier: Apache-2.0 */
/* The report of a sweep: best point, pictures, all points. */
#include "base/file.h"
#include "base/memory.h"
#include "runner/plot.h"
#include "runner/report_spread.h"
#include "runner/sweep_figures.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_CELLS = 24 }; /* values of a key in a heat map */

typedef struct writing {
    const er_table *t;
    er_doc d;
    int number, failures;
    er_text why; /* of the first picture that failed */
} writing;

/* --- heading ----------------------------------------------------------------------------------------------------- */

static void counts(const er_table *t, long long out[4])
{
    memset(out, 0, 4 * sizeof *out);
    for (int64_t p = 0; p < t->count; p++) out[t->points[p].state]++;
}

static const char *sweep_name(const er_table *t)
{
    const char *slash = strrchr(t->out, '/');
    return slash && slash[1] ? slash + 1 : t->out;
}

static void heading(writing *w)
{
    const er_table *t = w->t;
    long long n[4];
    counts(t, n);
    er_report_page(&w->d, sweep_name(t));
    er_doc_say(&w->d, "%lld points: %lld done, %lld failed, %lld running, %lld left", (long long)t->count,
               n[ER_POINT_DONE], n[ER_POINT_FAILED], n[ER_POINT_RUNNING], n[ER_POINT_WAITING]);
    er_doc_say(&w->d, "objective: %s", t->objective);
    er_doc_raw(&w->d, ER_DOC_HTML, "</header>\n");
}

static void best_point(writing *w)
{
    const er_table *t = w->t;
    int64_t best = er_table_best(t);
    er_text sets = ER_TEXT_INIT;
    if (best < 0) return;
    er_doc_section(&w->d, "best", "Best point");
    er_doc_say(&w->d, "Point %lld (%s) has the largest %s: %.4f.", (long long)best + 1, t->points[best].name,
               t->objective, er_point_number(&t->points[best], "objective"));
    int code = 0;
    for (int64_t k = 0; !code && k < t->key_count; k++)
        if (*er_table_value(t, best, t->keys[k]))
            code = er_text_format(&sets, w->d.err, "%s--set '%s=%s'", sets.length ? " " : "", t->keys[k],
                                  er_table_value(t, best, t->keys[k]));
    if (code && !w->d.code) w->d.code = code;
    er_doc_code(&w->d, sets.at ? sets.at : "");
    er_text_free(&sets);
}

static void number_cell(er_doc *d, double value)
{
    if (isfinite(value)) er_doc_cell(d, "%.4f", value);
    else er_doc_cell(d, "%s", "");
}

/* On facts that no point was chosen by. */
static void winner(writing *w)
{
    static const char *const ends[] = {"rewrite.success", "paraphrase.success", "neighborhood.success", "score"};
    static const char *const titles[] = {"Eff", "Gen", "Spe", "score"};
    er_point p;
    er_doc *d = &w->d;
    char name[80];
    if (d->code) return;
    d->code = er_table_winner(&p, w->t, d->err);
    if (d->code || !p.json) return;
    er_doc_section(d, "winner", "The best point on the reported facts");
    er_doc_say(d, "Point %s, chosen on the tuning facts (data.tune), run on the others: best/run. %s", p.name,
               er_point_reason(&p));
    er_doc_table(d, "lrrrr");
    er_doc_cell(d, "%s", "moment");
    for (int i = 0; i < 4; i++) er_doc_cell(d, "%s", titles[i]);
    for (int m = 0; m < 3; m++) {
        const char *moment = m == 0 ? "before" : m == 1 ? "at_edit" : "at_end";
        snprintf(name, sizeof name, "%s.rewrite.success", moment);
        if (!isfinite(er_point_number(&p, name))) continue;
        er_doc_cell(d, "%s", moment);
        for (int i = 0; i < 4; i++) {
            snprintf(name, sizeof name, "%s.%s", moment, ends[i]);
            number_cell(d, er_point_number(&p, name));
        }
    }
    er_doc_table_end(d);
    er_point_free(&p);
}

/* --- pictures ---------------------------------------------------------------------------------------------------- */

/* After two failures (each may be a minute's wait) no more are tried. */
static void picture(writing *w, er_pen *script, const char *title, const char *caption)
{
    er_text svg = ER_TEXT_INIT;
    er_err why = ER_ERR_INIT;
    char id[16];
    er_doc *d = &w->d;
    if (!d->code) d->code = script->code;
    if (!d->code && script->text.length && w->failures < 2) {
        snprintf(id, sizeof id, "s%d", ++w->number);
        int code = er_plot_svg(&svg, script->text.at, id, title, &why);
        if (code == ER_E_MEMORY) d->code = er_fail(d->err, code, "%s", why.text);
        else if (code && !w->failures++) d->code = er_text_add(&w->why, why.text, d->err);
        if (!code) er_doc_figure(d, svg.at, caption);
    }
    er_text_free(&svg);
    er_text_free(&script->text);
}

static void heat_map(writing *w, const er_axis *x, const er_axis *y)
{
    er_pen p = {ER_TEXT_INIT, 0, w->d.err};
    char title[300];
    snprintf(title, sizeof title, "%.120s against %.120s", y->key, x->key);
    er_sweep_heat_map(&p, w->t, x, y);
    picture(w, &p, title, w->t->key_count > 2
                              ? "One cell per pair of values: the largest over the points that have them. Empty: not "
                                "done."
                              : "One cell per point. Empty: not done.");
}

static void lines(writing *w, const er_axis *x)
{
    er_pen p = {ER_TEXT_INIT, 0, w->d.err};
    char title[300];
    snprintf(title, sizeof title, "Scores against %.200s", x->key);
    er_sweep_lines(&p, w->t, x);
    picture(w, &p, title, w->t->key_count > 1 ? "One dot per point; the points differ in other keys, too."
                                              : "One dot per point.");
}

static void draw(writing *w, const er_axis *axes, int64_t count)
{
    int maps = 0;
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = i + 1; j < count && maps < 6; j++) {
            if (axes[i].count < 2 || axes[j].count < 2) continue;
            if (axes[i].count > MOST_CELLS || axes[j].count > MOST_CELLS) continue;
            heat_map(w, &axes[j], &axes[i]);
            maps++;
        }
    for (int64_t i = 0; i < count; i++)
        if (axes[i].count > 1 && (!maps || axes[i].count > MOST_CELLS)) lines(w, &axes[i]);
}

static void pictures(writing *w)
{
    const er_table *t = w->t;
    er_axis *axes = NULL;
    int code = er_alloc(&axes, (size_t)t->key_count, w->d.err);
    for (int64_t k = 0; !code && k < t->key_count; k++) code = er_axis_make(&axes[k], t, t->keys[k], w->d.err);
    if (!code && er_table_best(t) >= 0) {
        er_doc_section(&w->d, "maps", "Scores");
        draw(w, axes, t->key_count);
    }
    for (int64_t k = 0; axes && k < t->key_count; k++) er_axis_free(&axes[k]);
    er_free(axes);
    if (code && !w->d.code) w->d.code = code;
}

/* --- all points -------------------------------------------------------------------------------------------------- */

static int any_rungs(const er_table *t)
{
    for (int64_t p = 0; p < t->count; p++)
        if (er_point_rungs(&t->points[p])) return 1;
    return 0;
}

/* Scores beside those of the pictures: the exact answer, how far the probability of the new answer is above the old
 * one's, first choices on neighbours that are still the unedited model's. */
enum { MORE = 3 };
static const char *const more[2][MORE] = {
    {"at_end.rewrite.accuracy", "at_end.rewrite.magnitude", "at_end.neighborhood.agreement"},
    {"at_edit.rewrite.accuracy", "at_edit.rewrite.magnitude", "at_edit.neighborhood.agreement"}};
static const char *const more_titles[MORE] = {"EffAcc", "p(new) - p(true)", "as unedited"};

/* What a column shows: at the end where any point has it, else after the edit; NULL: no point has it. */
static const char *more_name(const er_table *t, int m)
{
    for (int moment = 0; moment < 2; moment++)
        for (int64_t p = 0; p < t->count; p++)
            if (isfinite(er_point_number(&t->points[p], more[moment][m]))) return more[moment][m];
    return NULL;
}

static void points(writing *w)
{
    static const char *const titles[ER_SWEEP_METRICS] = {"objective", "Eff", "Gen", "Spe"};
    const er_table *t = w->t;
    const char *names[ER_SWEEP_METRICS], *extra[MORE];
    er_text align = ER_TEXT_INIT;
    er_doc *d = &w->d;
    er_sweep_metrics(names, t);
    for (int m = 0; m < MORE; m++) extra[m] = more_name(t, m);
    er_doc_section(d, "points", "All points");
    er_doc_say(d, "Every score stands in points.csv; each point's own report in points/NAME/run.%s",
               any_rungs(t) ? " Points that halving left behind show the scores of their last rung, on fewer facts."
                            : "");
    int code = er_text_add(&align, "rrl", d->err);
    for (int64_t k = 0; !code && k < t->key_count; k++) code = er_text_add(&align, "r", d->err);
    for (int m = 0; !code && m < ER_SWEEP_METRICS; m++) code = names[m] ? er_text_add(&align, "r", d->err) : 0;
    for (int m = 0; !code && m < MORE; m++) code = extra[m] ? er_text_add(&align, "r", d->err) : 0;
    if (!code) code = er_text_add(&align, "r", d->err);
    if (code) {
        d->code = d->code ? d->code : code;
        er_text_free(&align);
        return;
    }
    er_doc_table(d, align.at);
    er_doc_cell(d, "%s", "number");
    er_doc_cell(d, "%s", "point");
    er_doc_cell(d, "%s", "state");
    for (int64_t k = 0; k < t->key_count; k++) er_doc_cell(d, "%s", t->keys[k]);
    for (int m = 0; m < ER_SWEEP_METRICS; m++)
        if (names[m]) er_doc_cell(d, "%s", titles[m]);
    for (int m = 0; m < MORE; m++)
        if (extra[m]) er_doc_cell(d, "%s", more_titles[m]);
    er_doc_cell(d, "%s", "failed edits");
    for (int64_t p = 0; p < t->count; p++) {
        double failed = er_point_number(&t->points[p], "failed_edits");
        er_doc_cell(d, "%lld", (long long)p + 1);
        er_doc_cell(d, "%s", t->points[p].name);
        er_doc_cell(d, "%s", er_point_state_text(t->points[p].state));
        for (int64_t k = 0; k < t->key_count; k++) er_doc_cell(d, "%s", er_table_value(t, p, t->keys[k]));
        for (int m = 0; m < ER_SWEEP_METRICS; m++)
            if (names[m]) number_cell(d, er_point_number(&t->points[p], names[m]));
        for (int m = 0; m < MORE; m++)
            if (extra[m]) number_cell(d, er_point_number(&t->points[p], extra[m]));
        if (isfinite(failed)) er_doc_cell(d, "%.0f", failed);
        else er_doc_cell(d, "%s", "");
    }
    er_doc_table_end(d);
    er_text_free(&align);
}

static void failed_points(writing *w)
{
    const er_table *t = w->t;
    int any = 0;
    for (int64_t p = 0; p < t->count; p++) {
        if (t->points[p].state != ER_POINT_FAILED) continue;
        if (!any++) er_doc_section(&w->d, "failed", "Failed points");
        er_doc_item(&w->d, "%lld (%s): %s", (long long)p + 1, t->points[p].name, er_point_reason(&t->points[p]));
    }
}

/* Points that differ in seeds alone, from their runs' own summaries. */
static void seeds(writing *w)
{
    const er_table *t = w->t;
    er_report *runs = NULL;
    int64_t opened = 0;
    int code = er_alloc(&runs, (size_t)t->count, w->d.err);
    for (int64_t p = 0; !code && p < t->count; p++) {
        const char *run = json_string_value(json_object_get(t->points[p].json, "run"));
        char *folder = NULL, *path = NULL;
        er_err why = ER_ERR_INIT;
        if (t->points[p].state != ER_POINT_DONE || !run) continue;
        code = er_point_folder(&folder, t->out, t->points[p].name, w->d.err);
        if (!code) code = er_path_join(&path, folder, run, w->d.err);
        if (!code && er_report_open(&runs[opened], path, ER_REPORT_SUMMARY, &why))
            er_report_close(&runs[opened]); /* moved away */
        else if (!code) runs[opened].name = t->points[p].name, opened++;
        er_free(folder);
        er_free(path);
    }
    if (!code) er_part_spread(&w->d, runs, opened);
    for (int64_t i = 0; i < opened; i++) er_report_close(&runs[i]);
    er_free(runs);
    if (code && !w->d.code) w->d.code = code;
}

static void shared_work(writing *w)
{
    static const char *const names[] = {"moments", "eigenpairs", "targets", "targets_reused", "scores",
                                        "scores_reused", "templates", "templates_reused"};
    static const char *const titles[] = {"layers measured", "layers factored", "targets optimised", "targets reused",
                                         "cases scored", "scores reused", "template sets drawn",
                                         "template sets reused"};
    er_doc *d = &w->d;
    er_doc_section(d, "work", "Work");
    er_doc_say(d, "What the points computed and what they took from each other, in the last start of each.");
    er_doc_table(d, "lr");
    er_doc_cell(d, "%s", "work");
    er_doc_cell(d, "%s", "count");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        long long sum = 0;
        for (int64_t p = 0; p < w->t->count; p++)
            sum += json_integer_value(json_object_get(json_object_get(w->t->points[p].json, "work"), names[i]));
        er_doc_cell(d, "%s", titles[i]);
        er_doc_cell(d, "%lld", sum);
    }
    er_doc_table_end(d);
}

int er_table_report(const er_table *t, er_err *err)
{
    writing w = {.t = t, .d = {.err = err}};
    heading(&w);
    best_point(&w);
    winner(&w);
    pictures(&w);
    points(&w);
    seeds(&w);
    failed_points(&w);
    shared_work(&w);
    if (w.why.length) er_doc_say(&w.d, "Pictures are missing: %s. Their numbers stand in the tables.", w.why.at);
    er_doc_raw(&w.d, ER_DOC_HTML, "<footer>Made by errata from the files of the sweep alone; errata sweep report makes "
               "it anew.</footer>\n</body>\n</html>\n");
    int code = er_doc_end(&w.d);
    if (!code) code = er_save_text(t->out, "report.md", &w.d.md, err);
    if (!code) code = er_save_text(t->out, "report.html", &w.d.html, err);
    if (!code) code = er_table_save_csv(t, err);
    er_text_free(&w.why);
    er_doc_free(&w.d);
    return code;
}
