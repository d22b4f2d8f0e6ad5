/* SPDX-License-Identifier: Apache-2.0 */
/* One picture of several runs: small panels with a common key above them. */
#include "runner/report_course.h"

#include "runner/report_parts.h"

#include <math.h>

enum { AGES = ER_COURSE_FIGURES, MOST_PANELS = 13, ACROSS = 3 };

/* axes: of y; the perplexity has its own. scale: the figure is drawn times that. */
static const struct {
    int figure;
    const char *title, *axes;
    double scale;
} panels[MOST_PANELS] = {
    {ER_COURSE_EFF, "Eff: edited prompts, %", "set yrange [0:105]", 100},
    {ER_COURSE_GEN, "Gen: paraphrases, %", "set yrange [0:105]", 100},
    {ER_COURSE_SPE, "Spe: neighbours, %", "set yrange [0:105]", 100},
    {ER_COURSE_SAME, "Same: neighbours as unedited, %", "set yrange [0:105]", 100}, /* where there is no Spe */
    {ER_COURSE_EFF_ACC, "EffAcc: answers of edited prompts, %", "set yrange [0:105]", 100},
    {ER_COURSE_GEN_ACC, "GenAcc: answers of paraphrases, %", "set yrange [0:105]", 100},
    {AGES, "Eff at the last moment by age, %", "set yrange [0:105]", 100},
    {ER_COURSE_PERPLEXITY, "Held-out perplexity", NULL, 1},
    {ER_COURSE_AGREEMENT, "Answers that stay, %", "set yrange [0:105]", 100},
    {ER_COURSE_KL, "Divergence of the answers, nats", "set yrange [0:*]", 1},
    {ER_COURSE_UPDATE, "Last update against the matrix, %", "set yrange [0:*]", 100},
    {ER_COURSE_TOTAL, "All updates against the matrix, %", "set yrange [0:*]", 100},
    {ER_COURSE_USED, "Capacity used: keys over rank, %", "set yrange [0:*]", 100},
};

/* --- data -------------------------------------------------------------------------------------------------------- */

static int is_score(int figure) { return figure <= ER_COURSE_SAME; }

/* $rI: edits, then a column per panel; rows of the whole data set are no part of the sample's curve. */
static void course_data(er_pen *p, const er_course *c, int64_t i, int *rows)
{
    er_pen_say(p, "$r%lld << EOD\n", (long long)i);
    for (int64_t k = 0; k < c->count; k++) {
        const er_course_row *row = &c->rows[k];
        er_pen_say(p, "%lld", (long long)row->edits);
        for (int n = 0; n < MOST_PANELS; n++) {
            const int f = panels[n].figure;
            const int left_out = f == AGES || (is_score(f) && row->repeated);
            const double x = left_out ? (double)NAN : row->value[f];
            er_figure_value(p, panels[n].scale * x);
            rows[n] += isfinite(x);
        }
        er_pen_say(p, "\n");
    }
    er_pen_say(p, "0");
    for (int n = 0; n < MOST_PANELS; n++) er_pen_say(p, " NaN");
    er_pen_say(p, "\nEOD\n");
}

/* $aI: rewrite success by age at the run's last moment that has it. */
static int age_data(er_pen *p, const er_course *c, int64_t i)
{
    const json_t *retention = json_object_get(c->r->summary, "retention"), *last = NULL;
    const double width = json_number_value(json_object_get(retention, "width"));
    const char *moment;
    json_t *bins, *bin;
    size_t k;
    int rows = 0;
    json_object_foreach(json_object_get(retention, "moments"), moment, bins) last = bins;
    er_pen_say(p, "$a%lld << EOD\n", (long long)i);
    json_array_foreach((json_t *)(uintptr_t)last, k, bin) {
        const json_t *success = json_object_get(bin, "success");
        if (!json_is_number(success)) continue;
        er_pen_say(p, "%.7g %.7g\n", json_number_value(json_object_get(bin, "age")) + 0.5 * width,
                   100 * json_number_value(success));
        rows++;
    }
    er_pen_say(p, "0 NaN\nEOD\n");
    return rows;
}

/* $bI: where it breaks, on the curve of the perplexity. */
static void break_data(er_pen *p, const er_course *c, int64_t i)
{
    er_pen_say(p, "$b%lld << EOD\n", (long long)i);
    if (c->broken > 0) {
        er_pen_say(p, "%lld", (long long)c->rows[c->broken].edits);
        er_figure_value(p, c->rows[c->broken].value[ER_COURSE_PERPLEXITY]);
        er_pen_say(p, "\n");
    }
    er_pen_say(p, "0 NaN\nEOD\n");
}

/* --- panels ------------------------------------------------------------------------------------------------------ */

/* Logarithmic; 1, 2, 5 at its side where that is not too much. */
static void perplexity_axes(er_pen *p, const er_course *courses, int64_t count)
{
    double least = (double)INFINITY, most = 0;
    for (int64_t i = 0; i < count; i++) {
        for (int64_t k = 0; k < courses[i].count; k++) {
            const double x = courses[i].rows[k].value[ER_COURSE_PERPLEXITY];
            if (isfinite(x)) least = fmin(least, x), most = fmax(most, x);
        }
    }
    const int wide = most > 300 * least;
    er_pen_say(p, "set logscale y\nset format y '%s'\nset yrange [%.7g:%.7g]\n", wide ? "%.0e" : "%g", least / 1.2,
               most * 1.3);
    if (wide) return;
    er_pen_say(p, "set ytics (1");
    for (double tens = 1; tens < 2 * most && tens < 1e12; tens *= 10)
        er_pen_say(p, ",%g,%g,%g", 2 * tens, 5 * tens, 10 * tens);
    er_pen_say(p, ")\n");
}

static void guard_marks(er_pen *p, const er_course *courses, int64_t count)
{
    char colour[8];
    for (int64_t i = 0; i < count; i++) {
        if (!courses[i].guard) continue;
        er_figure_colour(colour, i, count);
        er_pen_say(p, "set arrow from %lld, graph 0 to %lld, graph 0.96 nohead lc rgb '%s' lw 1.4 dt (3,4)\n",
                   (long long)courses[i].guard_edit, (long long)courses[i].guard_edit, colour);
    }
}

/* The common key, from curves without a point, so that it names runs that this panel has nothing of. */
static void key(er_pen *p, const er_course *courses, int64_t count)
{
    char colour[8], word[33];
    er_pen_say(p, "set key at screen 0.5, screen 0.995 center top horizontal samplen 1.6 maxrows %lld\nplot",
               (long long)(count + 5) / 6);
    for (int64_t i = 0; i < count; i++) {
        const char *method = json_string_value(json_object_get(courses[i].r->summary, "method"));
        er_figure_colour(colour, i, count);
        er_figure_word(word, method ? method : "run");
        er_pen_say(p, "%s NaN with linespoints lc rgb '%s' lw 2 pt 7 ps 0.5 title '%lld %s'", i ? "," : "", colour,
                   (long long)i + 1, word);
    }
    er_pen_say(p, ",");
}

static void panel(er_pen *p, const er_course *courses, int64_t count, int n, int with_key)
{
    const int age = panels[n].figure == AGES, perplexity = panels[n].figure == ER_COURSE_PERPLEXITY;
    char colour[8];
    er_figure_titles(p, panels[n].title, age ? "edits made since" : "edits", "");
    if (perplexity) perplexity_axes(p, courses, count);
    else er_pen_say(p, "%s\n", panels[n].axes);
    if (perplexity) guard_marks(p, courses, count);
    if (with_key) key(p, courses, count);
    else er_pen_say(p, "unset key\nplot");
    for (int64_t i = 0; i < count; i++) {
        er_figure_colour(colour, i, count);
        er_pen_say(p, "%s $%s%lld using 1:%d with linespoints lc rgb '%s' lw 2 pt 7 ps 0.5 notitle", i ? "," : "",
                   age ? "a" : "r", (long long)i, age ? 2 : n + 2, colour);
        if (perplexity)
            er_pen_say(p, ", $b%lld using 1:2 with points lc rgb '%s' lw 2 pt 6 ps 2 notitle", (long long)i, colour);
    }
    er_pen_say(p, "\n");
    if (perplexity) er_pen_say(p, "unset arrow\nunset logscale y\nset ytics autofreq\nset format y '%%h'\n");
}

/* --- the picture ------------------------------------------------------------------------------------------------- */

static void begin(er_pen *p, const er_course *courses, int64_t count, int rows, int png)
{
    const double head = png ? 72 : 46, each = png ? 400 : 250, whole = head + each * rows;
    int64_t edits = 1;
    for (int64_t i = 0; i < count; i++)
        if (courses[i].count && courses[i].rows[courses[i].count - 1].edits > edits)
            edits = courses[i].rows[courses[i].count - 1].edits;
    if (png) er_pen_say(p, "set terminal pngcairo size 1500,%.0f noenhanced font 'Sans,13'\n", whole);
    else er_pen_say(p, "set terminal svg size 900,%.0f dynamic rounded noenhanced "
                    "font 'Helvetica,Arial,sans-serif,10'\n", whole);
    er_figure_style(p);
    er_pen_say(p, "set format x '%%.0f'\nset xrange [%.7g:%.7g]\n", -0.02 * (double)edits, 1.02 * (double)edits);
    er_pen_say(p, "set multiplot layout %d,%d margins 0.055,0.99,%.4f,%.4f spacing 0.05,%.4f\n", rows, ACROSS,
               0.19 * each / whole, 1 - (head + 0.1 * each) / whole, 0.34 * each / whole);
}

void er_course_plot(er_pen *p, const er_course *courses, int64_t count, int png)
{
    int most[MOST_PANELS] = {0}, drawn = 0, at = 0;
    er_pen data = {ER_TEXT_INIT, p->code, p->err};
    if (count > ER_COURSE_DRAWN) count = ER_COURSE_DRAWN;
    for (int64_t i = 0; i < count; i++) {
        int rows[MOST_PANELS] = {0};
        course_data(&data, &courses[i], i, rows);
        break_data(&data, &courses[i], i);
        const int ages = age_data(&data, &courses[i], i);
        for (int n = 0; n < MOST_PANELS; n++)
            if (panels[n].figure == AGES) rows[n] = ages;
        for (int n = 0; n < MOST_PANELS; n++) most[n] = rows[n] > most[n] ? rows[n] : most[n];
    }
    for (int n = 1; n < MOST_PANELS; n++)
        if (panels[n].figure == ER_COURSE_SAME && most[n - 1] > 1) most[n] = 0;
    for (int n = 0; n < MOST_PANELS; n++) drawn += most[n] > 1;
    p->code = data.code;
    if (drawn) {
        begin(p, courses, count, (drawn + ACROSS - 1) / ACROSS, png);
        er_pen_say(p, "%s", data.text.at ? data.text.at : "");
        for (int n = 0; n < MOST_PANELS; n++)
            if (most[n] > 1) panel(p, courses, count, n, !at++);
        er_pen_say(p, "unset multiplot\n");
    }
    er_text_free(&data.text);
}
