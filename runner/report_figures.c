/* SPDX-License-Identifier: Apache-2.0 */
/* gnuplot scripts. Everything that enters them is a number or a word of ours; the one text from a file, a phase's name,
 * is reduced to harmless letters first, because gnuplot scripts can start programs. */
#include "runner/report_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const group_colour[ER_REPORT_GROUPS] = {"#1f5f99", "#c2571a", "#2e8b63"};
static const char ink[] = "#4a4f57", line_grey[] = "#b9bec6", grid_grey[] = "#e6e8ec";
enum { MOST_TRACES = 150, MOST_POINTS = 1000, MOST_BARS = 40 };

/* --- shared ------------------------------------------------------------------------------------------------------ */

void er_figure_style(er_pen *p)
{
    er_pen_say(p, "set encoding utf8\nset datafile missing 'NaN'\nset border 3 lc rgb '%s'\n"
               "set autoscale xfix\nset tics out nomirror textcolor rgb '%s'\nset xtics norotate\n"
               "set grid y lc rgb '%s' lt 1 lw 1\n"
               "set key top left horizontal samplen 1.6 textcolor rgb '%s'\n", line_grey, ink, grid_grey, ink);
}

void er_figure_begin(er_pen *p, int width, int height)
{
    er_pen_say(p, "set terminal svg size %d,%d dynamic rounded noenhanced font 'Helvetica,Arial,sans-serif,12'\n",
               width, height);
    er_figure_style(p);
}

void er_figure_titles(er_pen *p, const char *title, const char *x, const char *y)
{
    er_pen_say(p, "set title \"%s\" textcolor rgb '%s'\nset xlabel \"%s\" textcolor rgb '%s'\n"
               "set ylabel \"%s\" textcolor rgb '%s'\n", title, ink, x, ink, y, ink);
}

void er_figure_value(er_pen *p, double x)
{
    if (isfinite(x)) er_pen_say(p, " %.7g", x);
    else er_pen_say(p, " NaN");
}

/* Dark blue over green to amber: the i-th of n, readable in print. */
void er_figure_colour(char out[8], int64_t i, int64_t n)
{
    static const double stops[3][3] = {{0x27, 0x3a, 0x6b}, {0x2a, 0x8c, 0x82}, {0xd9, 0xa4, 0x2b}};
    double at = n > 1 ? 2.0 * (double)i / (double)(n - 1) : 0, rest = at < 1 ? at : at - 1;
    const double *a = stops[at < 1 ? 0 : 1], *b = stops[at < 1 ? 1 : 2];
    int c[3];
    for (int k = 0; k < 3; k++) c[k] = (int)(a[k] + rest * (b[k] - a[k]));
    snprintf(out, 8, "#%02x%02x%02x", (unsigned)c[0] & 255u, (unsigned)c[1] & 255u, (unsigned)c[2] & 255u);
}

/* --- scores against edits ---------------------------------------------------------------------------------------- */

/* Rows "edits Eff error Gen error Spe error"; returns how many. */
static int64_t curve_data(er_pen *p, const er_report *r, const char *block, const char *metric)
{
    const char *moment;
    json_t *unused;
    int64_t rows = 0;
    er_pen_say(p, "$%s << EOD\n", block);
    json_object_foreach(json_object_get(r->summary, "scores"), moment, unused) {
        int64_t edits = er_report_edits_at(r, moment);
        if (edits < 0) continue;
        er_pen_say(p, "%lld", (long long)edits);
        for (int g = 0; g < ER_REPORT_GROUPS; g++) {
            const char *name = er_report_groups[g].name;
            double error = 100 * er_report_score(r, moment, name, metric, "stderr");
            er_figure_value(p, 100 * er_report_score(r, moment, name, metric, "mean"));
            er_figure_value(p, isfinite(error) ? error : 0);
        }
        er_pen_say(p, "\n");
        rows++;
    }
    er_pen_say(p, "EOD\n");
    return rows;
}

static void curve_panel(er_pen *p, const char *block, const char *title)
{
    er_figure_titles(p, title, "edits in the model", "%");
    er_pen_say(p, "plot");
    for (int g = 0; g < ER_REPORT_GROUPS; g++)
        er_pen_say(p, "%s $%s using 1:%d:%d with yerrorbars lc rgb '%s' pt 7 ps 0.5 lw 1 notitle, $%s using 1:%d "
                   "with lines lc rgb '%s' lw 2.2 title '%s'", g ? "," : "", block, 2 * g + 2, 2 * g + 3,
                   group_colour[g], block, 2 * g + 2, group_colour[g], er_report_groups[g].title);
    er_pen_say(p, "\n");
}

void er_figure_curves(er_pen *p, const er_report *r)
{
    size_t before = p->text.length;
    er_figure_begin(p, 900, 330);
    er_pen_say(p, "set yrange [0:116]\nset ytics 0,20,100\nset offsets graph 0.04, graph 0.04, 0, 0\n");
    int64_t rows = curve_data(p, r, "s", "success");
    curve_data(p, r, "a", "accuracy");
    er_pen_say(p, "set multiplot layout 1,2\n");
    curve_panel(p, "s", "Success");
    curve_panel(p, "a", "Accuracy");
    er_pen_say(p, "unset multiplot\n");
    if (rows < 2 && !p->code && p->text.at) p->text.at[p->text.length = before] = 0;
}

/* --- retention --------------------------------------------------------------------------------------------------- */

static void bin_data(er_pen *p, const char *block, const er_bins *b)
{
    er_pen_say(p, "$%s << EOD\n", block);
    for (int i = 0; i < b->count; i++) {
        er_pen_say(p, "%.7g", 0.5 * (double)(b->bin[i].first + b->bin[i].last));
        for (int g = 0; g < ER_REPORT_GROUPS; g++) er_figure_value(p, 100 * b->bin[i].success[g]);
        for (int g = 0; g < ER_REPORT_GROUPS; g++) er_figure_value(p, 100 * b->bin[i].accuracy[g]);
        er_pen_say(p, "\n");
    }
    if (!b->count) er_pen_say(p, "0 NaN NaN NaN NaN NaN NaN\n");
    er_pen_say(p, "EOD\n");
}

static void retention_panel(er_pen *p, const char *title, int column, int has_edit, int has_end)
{
    er_figure_titles(p, title, "index of the edit in the run", "%");
    er_pen_say(p, "plot");
    for (int g = 0; g < ER_REPORT_GROUPS; g++) {
        if (has_edit)
            er_pen_say(p, "%s $edit using 1:%d with lines lc rgb '%s' lw 1.4 dt (5,4) %s%s%s", g ? "," : "", column + g,
                       group_colour[g], has_end ? "no" : "title '", has_end ? "title" : er_report_groups[g].title,
                       has_end ? "" : "'");
        if (has_end)
            er_pen_say(p, "%s $end using 1:%d with linespoints lc rgb '%s' lw 2.2 pt 7 ps 0.45 title '%s'",
                       g || has_edit ? "," : "", column + g, group_colour[g], er_report_groups[g].title);
    }
    er_pen_say(p, "\n");
}

void er_figure_retention(er_pen *p, const er_report *r)
{
    er_bins end, edit;
    er_report_bins(&end, r, "at_end");
    er_report_bins(&edit, r, "at_edit");
    if (end.count < 2 && edit.count < 2) return;
    er_figure_begin(p, 900, 330);
    er_pen_say(p, "set yrange [0:116]\nset ytics 0,20,100\nset offsets graph 0.04, graph 0.04, 0, 0\n");
    bin_data(p, "end", &end);
    bin_data(p, "edit", &edit);
    er_pen_say(p, "set multiplot layout 1,2\n");
    retention_panel(p, "Success", 2, edit.count > 0, end.count > 0);
    retention_panel(p, "Accuracy", 2 + ER_REPORT_GROUPS, edit.count > 0, end.count > 0);
    er_pen_say(p, "unset multiplot\n");
}

/* --- losses ------------------------------------------------------------------------------------------------------ */

/* At most MOST_TRACES targets, evenly over the run. */
static void trace_data(er_pen *p, const er_report *r)
{
    int64_t shown = r->target_count < MOST_TRACES ? r->target_count : MOST_TRACES;
    er_pen_say(p, "$traces << EOD\n");
    for (int64_t k = 0; k < shown; k++) {
        const er_report_target *t = &r->targets[k * r->target_count / shown];
        for (int64_t s = 0; s < t->steps; s++) {
            er_pen_say(p, "%lld", (long long)s);
            er_figure_value(p, t->total[s] > 0 ? (double)t->total[s] : (double)NAN);
            er_pen_say(p, "\n");
        }
        er_pen_say(p, "\n");
    }
    er_pen_say(p, "EOD\n");
}

void er_figure_losses(er_pen *p, const er_report *r)
{
    er_losses l;
    if (!p->code) p->code = er_report_losses(&l, r, p->err);
    if (p->code || !l.count) return;
    er_figure_begin(p, 900, 360);
    trace_data(p, r);
    er_pen_say(p, "$median << EOD\n");
    for (int64_t s = 0; s < l.count; s++) {
        er_pen_say(p, "%lld", (long long)s);
        er_figure_value(p, l.low[s] > 0 ? l.low[s] : (double)NAN);
        er_figure_value(p, l.middle[s] > 0 ? l.middle[s] : (double)NAN);
        er_figure_value(p, l.high[s] > 0 ? l.high[s] : (double)NAN);
        er_pen_say(p, "\n");
    }
    er_pen_say(p, "EOD\n");
    er_free(l.low);
    er_figure_titles(p, "", "step", "loss");
    if (l.count <= 12) er_pen_say(p, "set xtics 1\n");
    er_pen_say(p, "set logscale y\nset format y '%%g'\nset key top right\n"
               "set style fill transparent solid 0.2 noborder\n"
               "plot $traces using 1:2 with lines lc rgb '%s' lw 0.7 title 'targets', $median using 1:2:4 "
               "with filledcurves lc rgb '%s' title 'quartiles', $median using 1:3 with lines lc rgb '%s' lw 2.6 "
               "title 'median'\n", r->target_count > 30 ? "#908c9db3" : "#208c9db3", group_colour[0], group_colour[0]);
}

/* --- layers ------------------------------------------------------------------------------------------------------ */

typedef double layer_value(const er_report_layer *l);
static double norm_of(const er_report_layer *l) { return l->update_norm; }
static double residual_of(const er_report_layer *l) { return l->z_error; }
static double capacity_of(const er_report_layer *l)
{
    return l->history_rank > 0 ? 100.0 * (double)(l->history_rows + l->requests) / (double)l->history_rank :
           (double)NAN;
}

/* At most about MOST_POINTS batches a layer, the last one always among them. */
static void layer_data(er_pen *p, const er_report *r, int64_t k, const er_report_layer *first, layer_value *of,
                       const char *name)
{
    int64_t rows = 0, at = 0;
    for (int64_t i = 0; i < r->layer_count; i++) rows += er_report_same_matrix(first, &r->layers[i]);
    int64_t stride = (rows + MOST_POINTS - 1) / MOST_POINTS;
    er_pen_say(p, "$%s%lld << EOD\n", name, (long long)k);
    for (int64_t i = 0; i < r->layer_count; i++) {
        const er_report_layer *l = &r->layers[i];
        if (!er_report_same_matrix(first, l) || ((rows - 1 - at++) % stride) != 0) continue;
        er_pen_say(p, "%lld", (long long)l->batch);
        er_figure_value(p, of(l));
        er_pen_say(p, "\n");
    }
    er_pen_say(p, "EOD\n");
}

static void layer_panel(er_pen *p, const er_report *r, const char *name, layer_value *of, const char *title,
                        const char *y)
{
    const er_report_layer *layers[ER_REPORT_LAYERS];
    int64_t n = er_report_layer_list(r, layers, ER_REPORT_LAYERS);
    int few = r->layer_count <= 40 * n;
    char colour[8], label[32], word[33];
    for (int64_t k = 0; k < n; k++) layer_data(p, r, k, layers[k], of, name);
    er_figure_titles(p, title, "", y);
    er_pen_say(p, "plot [] [0:*]");
    for (int64_t k = 0; k < n; k++) {
        er_figure_colour(colour, k, n);
        er_report_layer_name(label, layers[k]);
        er_figure_word(word, label);
        er_pen_say(p, "%s $%s%lld using 1:2 with %s lc rgb '%s' lw 1.8 title '%s%s'",
                   k ? "," : "", name, (long long)k, few ? "linespoints pt 7 ps 0.35" : "lines", colour,
                   k ? "" : "layer ", word);
    }
    er_pen_say(p, "\n");
}

/* Values of two batches at least: one makes no curve. */
static int has_curve(const er_report *r, layer_value *of)
{
    int64_t first = -1;
    for (int64_t i = 0; i < r->layer_count; i++) {
        if (!isfinite(of(&r->layers[i]))) continue;
        if (first >= 0 && r->layers[i].batch != first) return 1;
        first = r->layers[i].batch;
    }
    return 0;
}

/* Whole batches on the axis, the key below it: there may be many layers, and their lines go anywhere. */
static void layer_axes(er_pen *p, int rows)
{
    er_pen_say(p, "set format x '%%.0f'\nset offsets graph 0.03, graph 0.03, graph 0.06, 0\n"
               "set key bmargin center horizontal samplen 1.2\nset bmargin %d\n", rows + 3);
}

static void few_batches(er_pen *p, const er_report *r)
{
    int64_t last = 0;
    for (int64_t i = 0; i < r->layer_count; i++)
        if (r->layers[i].batch > last) last = r->layers[i].batch;
    if (last < 10) er_pen_say(p, "set xtics 1\n");
}

void er_figure_norms(er_pen *p, const er_report *r)
{
    const er_report_layer *layers[ER_REPORT_LAYERS];
    if (!has_curve(r, norm_of)) return;
    int rows = (int)(er_report_layer_list(r, layers, ER_REPORT_LAYERS) + 2) / 3; /* of the key */
    er_figure_begin(p, 900, 310 + 16 * rows);
    layer_axes(p, rows);
    few_batches(p, r);
    er_pen_say(p, "set multiplot layout 1,2\n");
    layer_panel(p, r, "u", norm_of, "Update norm against batch", "Frobenius norm");
    layer_panel(p, r, "z", residual_of, "Residual before the update, against batch", "mean norm");
    er_pen_say(p, "unset multiplot\n");
}

void er_figure_capacity(er_pen *p, const er_report *r)
{
    const er_report_layer *layers[ER_REPORT_LAYERS];
    if (!has_curve(r, capacity_of)) return;
    int rows = (int)(er_report_layer_list(r, layers, ER_REPORT_LAYERS) + 5) / 6;
    er_figure_begin(p, 900, 265 + 16 * rows);
    layer_axes(p, rows);
    few_batches(p, r);
    layer_panel(p, r, "c", capacity_of, "Capacity used against batch", "% of the rank");
}

void er_figure_spectra(er_pen *p, const er_report *r)
{
    char colour[8];
    if (!r->spectrum_count) return;
    er_figure_begin(p, 900, 340);
    er_figure_titles(p, "Eigenvalues, from the smallest", "", "value");
    er_pen_say(p, "set logscale y\nset format y '10^{%%T}'\nset key bmargin center horizontal\nset bmargin 5\n");
    er_pen_say(p, "set terminal svg size 900,340 dynamic rounded enhanced font 'Helvetica,Arial,sans-serif,12'\n");
    for (int64_t k = 0; k < r->spectrum_count; k++) {
        const er_report_spectrum *s = &r->spectra[k];
        er_figure_colour(colour, k, r->spectrum_count);
        er_pen_say(p, "$e%lld << EOD\n", (long long)k);
        for (int64_t i = 0; i < s->count; i++) {
            er_figure_value(p, s->index[i] + 1);
            er_figure_value(p, s->value[i] > 0 ? s->value[i] : (double)NAN);
            er_pen_say(p, "\n");
        }
        er_pen_say(p, "EOD\n");
        if (s->kept >= 0)
            er_pen_say(p, "set arrow from %lld, graph 0 to %lld, graph 0.93 nohead lc rgb '%s' lw 1 dt (4,4)\n",
                       (long long)s->kept, (long long)s->kept, colour);
    }
    er_pen_say(p, "plot");
    for (int64_t k = 0; k < r->spectrum_count; k++) {
        er_figure_colour(colour, k, r->spectrum_count);
        er_pen_say(p, "%s $e%lld using 1:2 with lines lc rgb '%s' lw 1.8 title '%s%lld'", k ? "," : "", (long long)k,
                   colour, k ? "" : "layer ", (long long)r->spectra[k].layer);
    }
    er_pen_say(p, "\n");
}

/* --- times ------------------------------------------------------------------------------------------------------- */

void er_figure_word(char out[33], const char *name)
{
    size_t n = 0;
    for (; name[n] && n < 32; n++) {
        char c = name[n];
        int good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("_- ", c);
        out[n] = good ? c : '.';
    }
    out[n] = 0;
}

void er_figure_phases(er_pen *p, const er_report *r)
{
    double most = 0;
    int64_t bars = 0;
    char word[33];
    for (int64_t i = 0; i < r->phase_count; i++) {
        if (!strcmp(r->phases[i].name, "all")) continue;
        if (r->phases[i].seconds > most) most = r->phases[i].seconds;
        bars++;
    }
    if (bars > MOST_BARS) bars = MOST_BARS;
    if (!(most > 0)) return;
    er_figure_begin(p, 900, (int)(70 + 26 * bars));
    er_pen_say(p, "$t << EOD\n");
    for (int64_t i = 0, at = 0; i < r->phase_count && at < bars; i++) {
        if (!strcmp(r->phases[i].name, "all")) continue;
        er_figure_word(word, r->phases[i].name);
        er_pen_say(p, "\"%s\" %lld %.7g \"%.*f s\"\n", word, (long long)at++, r->phases[i].seconds,
                   r->phases[i].seconds < 10 ? 2 : r->phases[i].seconds < 100 ? 1 : 0, r->phases[i].seconds);
    }
    er_pen_say(p, "EOD\nunset grid\nset grid x lc rgb '%s' lt 1 lw 1\nset border 2\n"
               "set style fill solid 0.85 noborder\n"
               "set yrange [%lld.5:-0.5]\nset xrange [0:%.7g]\nset xlabel 'seconds' textcolor rgb '%s'\nunset key\n"
               "plot $t using (0.5*$3):2:(0.5*$3):(0.34):ytic(1) with boxxyerror lc rgb '%s', "
               "$t using 3:2:4 with labels left offset 0.6,0 textcolor rgb '%s'\n", grid_grey, (long long)bars - 1,
               1.12 * most, ink, group_colour[0], ink);
}
