/* SPDX-License-Identifier: Apache-2.0 */
/* gnuplot scripts of a sweep. Texts from files are reduced to harmless letters first, because gnuplot scripts can start
 * programs. */
#include "runner/sweep_figures.h"

#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char ink[] = "#4a4f57", line_grey[] = "#b9bec6", grid_grey[] = "#e6e8ec";
static const char *const metric_titles[ER_SWEEP_METRICS] = {"objective", "Eff", "Gen", "Spe"};
static const char *const metric_colours[ER_SWEEP_METRICS] = {"#23272e", "#1f5f99", "#c2571a", "#2e8b63"};

/* --- axes -------------------------------------------------------------------------------------------------------- */

int64_t er_axis_find(const er_axis *a, const char *text)
{
    for (int64_t i = 0; i < a->count; i++)
        if (!strcmp(a->text[i], text)) return i;
    return -1;
}

static void sort_axis(er_axis *a)
{
    for (int64_t i = 1; i < a->count; i++) {
        double value = a->value[i];
        const char *text = a->text[i];
        int64_t j = i;
        for (; j > 0 && a->value[j - 1] > value; j--) {
            a->value[j] = a->value[j - 1];
            a->text[j] = a->text[j - 1];
        }
        a->value[j] = value;
        a->text[j] = text;
    }
}

int er_axis_make(er_axis *a, const er_table *t, const char *key, er_err *err)
{
    *a = (er_axis){.key = key, .numbers = 1};
    ER_TRY(er_alloc(&a->text, (size_t)t->count, err));
    ER_TRY(er_alloc(&a->value, (size_t)t->count, err));
    for (int64_t p = 0; p < t->count; p++) {
        const char *text = er_table_value(t, p, key);
        if (!*text || er_axis_find(a, text) >= 0) continue;
        a->text[a->count] = text;
        a->numbers &= er_parse_double(&a->value[a->count], text) == 0;
        a->count++;
    }
    for (int64_t i = 0; !a->numbers && i < a->count; i++) a->value[i] = (double)i;
    sort_axis(a);
    return 0;
}

void er_axis_free(er_axis *a)
{
    er_free(a->text);
    er_free(a->value);
}

void er_sweep_metrics(const char *names[ER_SWEEP_METRICS], const er_table *t)
{
    static const char *const all[2][ER_SWEEP_METRICS] = {
        {"objective", "at_end.rewrite.success", "at_end.paraphrase.success", "at_end.neighborhood.success"},
        {"objective", "at_edit.rewrite.success", "at_edit.paraphrase.success", "at_edit.neighborhood.success"}};
    for (int m = 0; m < ER_SWEEP_METRICS; m++) {
        names[m] = NULL;
        for (int moment = 0; !names[m] && moment < 2; moment++)
            for (int64_t p = 0; !names[m] && p < t->count; p++)
                if (isfinite(er_point_number(&t->points[p], all[moment][m])) && strcmp(t->objective, all[moment][m]))
                    names[m] = all[moment][m];
    }
}

/* --- scripts ----------------------------------------------------------------------------------------------------- */

/* A text between quotes. */
static void harmless(er_pen *p, const char *text)
{
    char out[40];
    size_t n = 0;
    for (; *text && n < sizeof out - 1; text++) {
        int good = (*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') ||
                   strchr(" .,+-_[]", *text);
        out[n++] = good ? *text : '_';
    }
    out[n] = 0;
    er_pen_say(p, "'%s'", out);
}

static void begin(er_pen *p, int width, int height)
{
    er_pen_say(p, "set terminal svg size %d,%d dynamic rounded noenhanced font 'Helvetica,Arial,sans-serif,12'\n"
               "set encoding utf8\nset datafile missing 'NaN'\nset tics out nomirror textcolor rgb '%s'\n", width,
               height, ink);
}

static void label(er_pen *p, const char *axis, const char *text)
{
    er_pen_say(p, "set %slabel ", axis);
    harmless(p, text);
    er_pen_say(p, " textcolor rgb '%s'\n", ink);
}

static void tics(er_pen *p, const char *axis, const er_axis *a)
{
    er_pen_say(p, "set %stics scale 0%s (", axis, *axis == 'x' && a->count > 8 ? " rotate by -45" : "");
    for (int64_t i = 0; i < a->count; i++) {
        er_pen_say(p, "%s", i ? ", " : "");
        harmless(p, a->text[i]);
        er_pen_say(p, " %lld", (long long)i);
    }
    er_pen_say(p, ")\nset %srange [-0.5:%lld.5]\n", axis, (long long)a->count - 1);
}

static double cell(const er_table *t, const er_axis *x, int64_t column, const er_axis *y, int64_t row,
                   const char *metric)
{
    double most = (double)NAN;
    for (int64_t p = 0; p < t->count; p++) {
        double value = er_point_number(&t->points[p], metric);
        if (t->points[p].state != ER_POINT_DONE || !isfinite(value) || (isfinite(most) && value <= most)) continue;
        if (strcmp(er_table_value(t, p, x->key), x->text[column]) != 0) continue;
        if (strcmp(er_table_value(t, p, y->key), y->text[row]) == 0) most = value;
    }
    return most;
}

/* Rows "x y value"; returns how many have one. */
static int64_t map_data(er_pen *p, const er_table *t, const er_axis *x, const er_axis *y, int m, const char *metric)
{
    int64_t cells = 0;
    er_pen_say(p, "$m%d << EOD\n", m);
    for (int64_t row = 0; row < y->count; row++)
        for (int64_t column = 0; column < x->count; column++) {
            double value = cell(t, x, column, y, row, metric);
            if (!isfinite(value)) continue;
            er_pen_say(p, "%lld %lld %.7g\n", (long long)column, (long long)row, value);
            cells++;
        }
    er_pen_say(p, "EOD\n");
    return cells;
}

static void map_panel(er_pen *p, const er_table *t, const er_axis *x, const er_axis *y, int m)
{
    int small = x->count > 10 || y->count > 14;
    er_pen_say(p, "set title ");
    harmless(p, m ? metric_titles[m] : t->objective);
    er_pen_say(p, " textcolor rgb '%s'\n", ink);
    er_pen_say(p, "plot $m%d using 1:2:(0.48):(0.48):3 with boxxyerror lc palette fs solid noborder notitle", m);
    if (!small)
        er_pen_say(p, ", $m%d using 1:2:(sprintf('%%.3g', $3)) with labels textcolor rgb '#23272e' notitle", m);
    er_pen_say(p, "\n");
}

void er_sweep_heat_map(er_pen *p, const er_table *t, const er_axis *x, const er_axis *y)
{
    const char *names[ER_SWEEP_METRICS];
    int64_t cells[ER_SWEEP_METRICS] = {0};
    int panels = 0;
    er_sweep_metrics(names, t);
    er_text before = p->text;
    int rows = (int)(y->count < 20 ? y->count : 20);
    for (int m = 0; m < ER_SWEEP_METRICS; m++) panels += names[m] != NULL;
    if (!panels) return;
    begin(p, 900, (panels > 2 ? 2 : 1) * (150 + 26 * rows));
    for (int m = 0; m < ER_SWEEP_METRICS; m++)
        if (names[m]) cells[m] = map_data(p, t, x, y, m, names[m]);
    er_pen_say(p, "unset border\nunset key\nset palette defined (0 '#f6efe2', 0.5 '#a9cdd9', 1 '#4f94c4')\n"
               "set colorbox\nset cbtics textcolor rgb '%s'\nset offsets 0, 0, 0, 0\n", ink);
    tics(p, "x", x);
    tics(p, "y", y);
    label(p, "x", x->key);
    label(p, "y", y->key);
    er_pen_say(p, "set multiplot layout %d,%d\n", panels > 2 ? 2 : 1, panels > 1 ? 2 : 1);
    for (int m = 0; m < ER_SWEEP_METRICS; m++)
        if (cells[m]) map_panel(p, t, x, y, m);
    er_pen_say(p, "unset multiplot\n");
    if (!cells[0] && !p->code && p->text.at) p->text.at[p->text.length = before.length] = 0;
}

void er_sweep_lines(er_pen *p, const er_table *t, const er_axis *x)
{
    const char *names[ER_SWEEP_METRICS];
    int drawn = 0, many = x->count > 24, wide = x->numbers && x->value[0] > 0 &&
                                                x->value[x->count - 1] > 30 * x->value[0];
    er_sweep_metrics(names, t);
    if (!names[0]) return;
    begin(p, 900, 330);
    er_pen_say(p, "$d << EOD\n");
    for (int64_t i = 0; i < x->count; i++)
        for (int64_t q = 0; q < t->count; q++) {
            if (strcmp(er_table_value(t, q, x->key), x->text[i]) != 0 || t->points[q].state != ER_POINT_DONE) continue;
            er_pen_say(p, "%.9g", x->value[i]);
            for (int m = 0; m < ER_SWEEP_METRICS; m++) {
                double value = names[m] ? er_point_number(&t->points[q], names[m]) : (double)NAN;
                if (isfinite(value)) er_pen_say(p, " %.7g", value);
                else er_pen_say(p, " NaN");
            }
            er_pen_say(p, "\n");
        }
    er_pen_say(p, "EOD\nset border 3 lc rgb '%s'\nset grid y lc rgb '%s' lt 1 lw 1\n"
               "set key outside right samplen 1.6 textcolor rgb '%s'\nset offsets graph 0.03, graph 0.03, graph 0.05, "
               "graph 0.05\n", line_grey, grid_grey, ink);
    if (!x->numbers) tics(p, "x", x);
    if (wide) er_pen_say(p, "set logscale x\n");
    label(p, "x", x->key);
    er_pen_say(p, "plot");
    for (int m = ER_SWEEP_METRICS - 1; m >= 0; m--) {
        if (!names[m]) continue;
        er_pen_say(p, "%s $d using 1:%d with %s pt 7 ps %s lw 1.8 lc rgb '%s' title ", drawn++ ? "," : "", m + 2,
                   many || t->key_count > 1 ? "points" : "linespoints", m ? "0.5" : "0.8", metric_colours[m]);
        harmless(p, m ? metric_titles[m] : t->objective);
    }
    er_pen_say(p, "\n");
}
