/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/report.h"

#include "base/file.h"
#include "runner/plot.h"
#include "runner/report_course.h"
#include "runner/report_parts.h"
#include "runner/report_spread.h"

#include <math.h>
#include <string.h>

/* What must agree before two rows of the table measure the same thing: a path into summary.json, and its name. */
static const struct {
    const char *object, *inner, *key, *title;
} terms[] = {
    {"protocol", NULL, "mode", "mode"},
    {"protocol", NULL, "batch", "batch"},
    {"protocol", NULL, "count", "count"},
    {"protocol", NULL, "scorer", "scorer"},
    {"protocol", NULL, "scored", "scored"},
    {"protocol", NULL, "target", "target"},
    {"protocol", NULL, "moments", "moments"},
    {"protocol", NULL, "parity", "parity"},
    {"protocol", NULL, "precision", "precision"},
    {"protocol", NULL, "templates", "templates"},
    {"protocol", NULL, "guard_actions", "guards' policies"},
    {"protocol", NULL, "stats_tokens", "tokens of the statistics"},
    {"inputs", NULL, "weights", "weights"},
    {"inputs", NULL, "tokenizer", "tokenizer"},
    {"inputs", "data", "requests", "requests"},
    {"inputs", "stats", "corpus", "corpus of the statistics"},
    {"inputs", "stats", "layers", "statistics of the layers"},
};
enum { TERMS = sizeof terms / sizeof *terms };

static const json_t *term_of(const er_report *r, int term)
{
    const json_t *o = json_object_get(r->summary, terms[term].object);
    if (terms[term].inner) o = json_object_get(o, terms[term].inner);
    return json_object_get(o, terms[term].key);
}

/* --- the table --------------------------------------------------------------------------------------------------- */

static void heads(er_doc *d)
{
    static const char *const names[] = {"run", "method", "model", "requested", "applied", "failed", "moment",
                                        "n", "Score"};
    er_doc_table(d, "lllrrrlrrrrrrrr");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) er_doc_cell(d, "%s", names[i]);
    for (int g = 0; g < ER_REPORT_GROUPS; g++) er_doc_cell(d, "%s", er_report_groups[g].title);
    for (int g = 0; g < ER_REPORT_GROUPS; g++) er_doc_cell(d, "%sAcc", er_report_groups[g].title);
}

static void score_cell(er_doc *d, const er_report *r, const char *moment, int group, const char *metric)
{
    const char *name = er_report_groups[group].name;
    double mean = er_report_score(r, moment, name, metric, "mean");
    double error = er_report_score(r, moment, name, metric, "stderr");
    if (!isfinite(mean)) er_doc_cell(d, "–");
    else if (!isfinite(error)) er_doc_cell(d, "%.1f", 100 * mean);
    else er_doc_cell(d, "%.1f ± %.1f", 100 * mean, 100 * error);
}

static void row(er_doc *d, const er_report *r)
{
    const char *method = json_string_value(json_object_get(r->summary, "method")), *last = er_report_last_moment(r);
    const char *moment = last ? last : "–";
    double n = er_report_score(r, moment, "rewrite", "accuracy", "n"), total = er_report_total(r, moment);
    er_doc_cell(d, "%s", r->name);
    er_doc_cell(d, "%s", method ? method : "?");
    er_doc_cell(d, "%s", er_report_base(er_report_option_of(r, "model.path", "?")));
    er_doc_cell(d, "%lld", (long long)er_report_edits(r, "requested"));
    er_doc_cell(d, "%lld", (long long)er_report_edits(r, "applied"));
    er_doc_cell(d, "%lld", (long long)er_report_edits(r, "failed"));
    er_doc_cell(d, "%s", moment);
    if (isfinite(n)) er_doc_cell(d, "%.0f", n);
    else er_doc_cell(d, "–");
    if (isfinite(total)) er_doc_cell(d, "%.1f", 100 * total);
    else er_doc_cell(d, "–");
    for (int g = 0; g < ER_REPORT_GROUPS; g++) score_cell(d, r, moment, g, "success");
    for (int g = 0; g < ER_REPORT_GROUPS; g++) score_cell(d, r, moment, g, "accuracy");
}

/* --- what differs ------------------------------------------------------------------------------------------------ */

static int all_equal(const er_report *runs, int64_t count, int term)
{
    const json_t *first = term_of(&runs[0], term);
    for (int64_t i = 1; i < count; i++) {
        const json_t *other = term_of(&runs[i], term);
        if (!first != !other || (first && !json_equal(first, other))) return 0;
    }
    return 1;
}

/* Every run's value; the lists of the layers' hashes are too long to read. */
static void say_term(er_doc *d, const er_report *runs, int64_t count, int term)
{
    er_pen p = {ER_TEXT_INIT, d->code, d->err};
    er_pen_say(&p, "%s: ", terms[term].title);
    for (int64_t i = 0; i < count; i++) {
        const json_t *v = term_of(&runs[i], term);
        er_pen_say(&p, "%s%s ", i ? "; " : "", runs[i].name);
        if (!v || json_is_null(v)) er_pen_say(&p, "none");
        else if (!strcmp(terms[term].key, "layers")) er_pen_say(&p, "%zu layers", json_array_size(v));
        else er_report_plain(&p, v);
    }
    d->code = p.code;
    if (!strcmp(terms[term].key, "layers")) er_doc_item(d, "%s (other moments or eigenpairs)", p.text.at);
    else er_doc_item(d, "%s", p.text.at);
    er_text_free(&p.text);
}

static int last_moments_equal(const er_report *runs, int64_t count)
{
    for (int64_t i = 1; i < count; i++) {
        const char *a = er_report_last_moment(&runs[0]), *b = er_report_last_moment(&runs[i]);
        if (!a != !b || (a && strcmp(a, b) != 0)) return 0;
    }
    return 1;
}

static void differences(er_doc *d, const er_report *runs, int64_t count)
{
    int any = 0;
    for (int t = 0; t < TERMS; t++) any += !all_equal(runs, count, t);
    if (count < 2) return;
    if (!any) {
        er_doc_say(d, "All runs share one protocol and the same inputs.");
        return;
    }
    er_doc_say(d, "These runs differ in more than their method; compare the rows with that in mind:");
    for (int t = 0; t < TERMS; t++)
        if (!all_equal(runs, count, t)) say_term(d, runs, count, t);
    if (!last_moments_equal(runs, count))
        er_doc_item(d, "The rows show different moments.");
}

/* --- both files -------------------------------------------------------------------------------------------------- */

static const char caption[] =
    "One curve per run. Scores are those of the sample that is followed over all moments. At the perplexity a ring "
    "marks where a run breaks, a dashed line the edit at which its first guard was beyond its limit.";

/* Runs and their courses. */
typedef struct comparison {
    er_report *runs;
    er_course *courses;
    int64_t count, opened;
} comparison;

static int open_runs(comparison *c, const char *const *folders, int64_t count, er_err *err)
{
    if (count < 1) return er_fail(err, ER_E_USAGE, "no run to report on");
    ER_TRY(er_alloc(&c->runs, (size_t)count, err));
    ER_TRY(er_alloc(&c->courses, (size_t)count, err));
    for (c->count = count; c->opened < count;) {
        int code = er_report_open(&c->runs[c->opened], folders[c->opened], ER_REPORT_EVENTS, err);
        ++c->opened; /* also after a failure: closing is due */
        if (!code) code = er_course_make(&c->courses[c->opened - 1], &c->runs[c->opened - 1], err);
        ER_TRY(code);
    }
    return 0;
}

static void close_runs(comparison *c)
{
    for (int64_t i = 0; i < c->opened; i++) {
        er_free(c->courses[i].rows);
        er_report_close(&c->runs[i]);
    }
    er_free(c->courses);
    er_free(c->runs);
}

/* The picture as bytes of a PNG, or as <svg>; empty where there is nothing to draw. After a failure, which *why names,
 * the numbers in the tables have to do. */
static void draw(er_doc *d, const comparison *c, int png, er_text *out, er_err *why)
{
    er_pen p = {ER_TEXT_INIT, d->code, d->err};
    int code = 0;
    er_course_plot(&p, c->courses, c->count, png);
    d->code = p.code;
    if (!d->code && p.text.length)
        code = png ? er_plot_png(out, p.text.at, why) : er_plot_svg(out, p.text.at, "r1", caption, why);
    if (code == ER_E_MEMORY) d->code = er_fail(d->err, code, "%s", why->text);
    er_text_free(&p.text);
}

static void tables(er_doc *d, const comparison *c)
{
    heads(d);
    for (int64_t i = 0; i < c->count; i++) row(d, &c->runs[i]);
    er_doc_table_end(d);
    for (int64_t i = 0; i < c->count; i++)
        if (c->runs[i].unfinished)
            er_doc_item(d, "%s has not ended: its figures are those so far.", c->runs[i].name);
    differences(d, c->runs, c->count);
    er_part_spread(d, c->runs, c->count);
    er_course_part(d, c->courses, c->count);
}

static void page(er_doc *d, const comparison *c, er_text *png)
{
    er_text svg = ER_TEXT_INIT;
    er_err why = ER_ERR_INIT;
    draw(d, c, 1, png, &why);
    draw(d, c, 0, &svg, &why);
    er_report_page(d, "Comparison of runs");
    er_doc_raw(d, ER_DOC_HTML, "</header>\n");
    for (int64_t i = 0; i < c->count; i++) er_doc_item(d, "%lld: %s", (long long)i + 1, c->runs[i].name);
    er_doc_say(d, "The curves bear these numbers.");
    tables(d, c);
    if (svg.length) er_doc_figure(d, svg.at, caption);
    if (png->length) er_doc_raw(d, ER_DOC_MD, "![curves against the number of edits](compare.png)\n\n");
    if (why.text[0]) er_doc_say(d, "A picture is missing: %s.", why.text);
    er_doc_raw(d, ER_DOC_HTML, "</body>\n</html>\n");
    er_text_free(&svg);
}

static int save(const char *to, const comparison *c, const er_doc *d, const er_text *png, er_err *err)
{
    er_text csv = ER_TEXT_INIT;
    int code = er_course_csv(&csv, c->courses, c->count, err);
    if (!code) code = er_make_folders(to, err);
    if (!code) code = er_save_text(to, "compare.md", &d->md, err);
    if (!code) code = er_save_text(to, "compare.html", &d->html, err);
    if (!code) code = er_save_text(to, "compare.csv", &csv, err);
    if (!code && png->length) code = er_save_text(to, "compare.png", png, err);
    er_text_free(&csv);
    return code;
}

int er_report_compare_write(const char *to, const char *const *folders, int64_t count, er_err *err)
{
    comparison c = {0};
    er_doc d = {.err = err};
    er_text png = ER_TEXT_INIT;
    int code = open_runs(&c, folders, count, err);
    if (!code) {
        page(&d, &c, &png);
        code = er_doc_end(&d);
    }
    if (!code) code = save(to, &c, &d, &png, err);
    er_text_free(&png);
    er_doc_free(&d);
    close_runs(&c);
    return code;
}

int er_report_compare(er_text *out, const char *const *folders, int64_t count, er_err *err)
{
    comparison c = {0};
    er_doc d = {.err = err, .only = ER_DOC_MD};
    int code = open_runs(&c, folders, count, err);
    if (!code) {
        tables(&d, &c);
        code = er_doc_end(&d);
    }
    if (!code) code = er_text_bytes(out, d.md.at, d.md.length, err);
    er_doc_free(&d);
    close_runs(&c);
    return code;
}
