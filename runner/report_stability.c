/* SPDX-License-Identifier: Apache-2.0 */
/* Drift, signals and retention by age: pictures and tables. */
#include "runner/report_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const colours[] = {"#1f5f99", "#c2571a", "#2e8b63", "#8a3d8f"};
enum { MOST_POINTS = 1000, MOST_MOMENTS = 10 };

static double number(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

static const json_t *moments_of(const er_report *r, const char *what)
{
    return json_object_get(json_object_get(r->summary, what), "moments");
}

/* --- drift ------------------------------------------------------------------------------------------------------- */

static int has_drift(const er_report *r, const char *figure)
{
    const char *moment;
    json_t *in;
    int n = 0;
    json_object_foreach((json_t *)(uintptr_t)moments_of(r, "drift"), moment, in) n += isfinite(number(in, figure));
    return n > 1;
}

void er_figure_drift(er_pen *p, const er_report *r)
{
    const char *moment;
    json_t *in;
    int perplexity = has_drift(r, "perplexity"), probe = has_drift(r, "agreement");
    if (!perplexity && !probe) return;
    er_figure_begin(p, 900, 300);
    er_pen_say(p, "set format x '%%.0f'\n$d << EOD\n");
    json_object_foreach((json_t *)(uintptr_t)moments_of(r, "drift"), moment, in) {
        er_pen_say(p, "%.0f", number(in, "edits"));
        er_figure_value(p, number(in, "perplexity"));
        er_figure_value(p, 100 * number(in, "agreement"));
        er_figure_value(p, number(in, "kl"));
        er_pen_say(p, "\n");
    }
    er_pen_say(p, "EOD\nset multiplot layout 1,%d\n", perplexity + 2 * probe);
    if (perplexity) {
        er_figure_titles(p, "Held-out perplexity", "edits in the model", "");
        er_pen_say(p, "set logscale y\nplot $d using 1:2 with linespoints lc rgb '%s' lw 2 pt 7 ps 0.4 notitle\n"
                   "unset logscale y\n", colours[0]);
    }
    if (probe) {
        er_figure_titles(p, "Answers that stay", "edits in the model", "%");
        er_pen_say(p, "set yrange [0:105]\nplot $d using 1:3 with linespoints lc rgb '%s' lw 2 pt 7 ps 0.4 notitle\n",
                   colours[2]);
        er_figure_titles(p, "Divergence of the answers", "edits in the model", "nats");
        er_pen_say(p, "set yrange [0:*]\nplot $d using 1:4 with linespoints lc rgb '%s' lw 2 pt 7 ps 0.4 notitle\n",
                   colours[1]);
    }
    er_pen_say(p, "unset multiplot\n");
}

/* --- signals ----------------------------------------------------------------------------------------------------- */

/* One batch: largest over layers of the norms, means over layers of the keys' figures. */
typedef struct signals {
    double update, total, keys[4], reached, after;
    int64_t layers, targets, verified;
} signals;

static void add_layer(signals *s, const er_report_layer *l)
{
    double update = l->update_norm / l->weight_norm, total = l->total_norm / l->weight_norm;
    if (!s->layers || update > s->update) s->update = update;
    if (!s->layers || total > s->total) s->total = total;
    for (int c = 0; c < 4; c++) s->keys[c] = (s->layers ? s->keys[c] : 0) + l->keys[c];
    s->layers++;
}

/* Layers stand behind their batch's targets, batches in order: *layer and *target walk on. 0: no more. */
static int next_batch(signals *s, const er_report *r, int64_t *batch, int64_t *layer, int64_t *target)
{
    *s = (signals){0};
    if (*layer >= r->layer_count) return 0;
    *batch = r->layers[*layer].batch;
    for (; *layer < r->layer_count && r->layers[*layer].batch == *batch; ++*layer) add_layer(s, &r->layers[*layer]);
    for (int c = 0; c < 4; c++) s->keys[c] /= (double)s->layers;
    for (; *target < r->target_count && r->targets[*target].batch <= *batch; ++*target) {
        const er_report_target *t = &r->targets[*target];
        if (t->batch < *batch) continue;
        if (isfinite(t->reached)) s->reached += t->reached, s->targets++;
        if (isfinite(t->after)) s->after += t->after, s->verified++;
    }
    s->reached /= (double)s->targets; /* 0 / 0 is NAN: nothing to say */
    s->after /= (double)s->verified;
    return 1;
}

typedef struct shown {
    int norms, keys, targets; /* panels */
    int64_t batches;
} shown;

/* Rows "edits update total norm saturation nullspace shift reached after", in per cent, at most about MOST_POINTS. */
static shown signal_data(er_pen *p, const er_report *r)
{
    int64_t batch = 0, layer = 0, target = 0, rows = 0;
    shown has = {0};
    signals s;
    while (next_batch(&s, r, &batch, &layer, &target)) has.batches++;
    int64_t stride = (has.batches + MOST_POINTS - 1) / MOST_POINTS;
    er_pen_say(p, "$h << EOD\n");
    layer = target = 0;
    while (next_batch(&s, r, &batch, &layer, &target)) {
        if ((has.batches - 1 - rows++) % stride) continue;
        er_pen_say(p, "%lld", (long long)er_report_edits_after(r, batch));
        er_figure_value(p, 100 * s.update);
        er_figure_value(p, 100 * s.total);
        for (int c = 0; c < 4; c++) er_figure_value(p, 100 * s.keys[c]);
        er_figure_value(p, 100 * s.reached);
        er_figure_value(p, 100 * s.after);
        er_pen_say(p, "\n");
        has.norms |= isfinite(s.update);
        has.keys |= isfinite(s.keys[0]) || isfinite(s.keys[1]) || isfinite(s.keys[3]);
        has.targets |= isfinite(s.reached);
    }
    er_pen_say(p, "EOD\n");
    return has;
}

static void signal_panel(er_pen *p, const char *title, const char *const *names, const int *columns, int count)
{
    er_figure_titles(p, title, "", "%"); /* the key stands where the axis' title would */
    er_pen_say(p, "plot");
    for (int i = 0; i < count; i++)
        er_pen_say(p, "%s $h using 1:%d with lines lc rgb '%s' lw 1.6 title '%s'", i ? "," : "", columns[i], colours[i],
                   names[i]);
    er_pen_say(p, "\n");
}

void er_figure_health(er_pen *p, const er_report *r)
{
    static const char *const norms[] = {"update", "all updates"}, *const keys[] = {"saturation", "kept by P", "shift"},
                      *const targets[] = {"reached", "in the edited model"};
    size_t before = p->text.length;
    er_figure_begin(p, 900, 300);
    er_pen_say(p, "set format x '%%.0f'\nset key bmargin center horizontal\nset bmargin 5\n");
    shown has = signal_data(p, r);
    if (has.batches < 2 || !(has.norms | has.keys | has.targets)) {
        if (!p->code && p->text.at) p->text.at[p->text.length = before] = 0;
        return;
    }
    er_pen_say(p, "set multiplot layout 1,%d\nset yrange [0:*]\n", has.norms + has.keys + has.targets);
    if (has.norms) signal_panel(p, "Norms against the matrix", norms, (const int[]){2, 3}, 2);
    if (has.keys) signal_panel(p, "Keys before the solve", keys, (const int[]){5, 6, 7}, 3);
    if (has.targets) signal_panel(p, "Probability of the target", targets, (const int[]){8, 9}, 2);
    er_pen_say(p, "unset multiplot\n");
}

/* --- tables ------------------------------------------------------------------------------------------------------ */

static void cell(er_doc *d, double x, int digits)
{
    if (isfinite(x)) er_doc_cell(d, "%.*g", digits, x);
    else er_doc_cell(d, "–");
}

static void share_cell(er_doc *d, double x)
{
    if (isfinite(x)) er_doc_cell(d, "%.1f", 100 * x);
    else er_doc_cell(d, "–");
}

/* The last batch that ends at or before so many edits; keys used of the rank, the fullest layer. */
static int signals_at(signals *s, double *used, const er_report *r, int64_t edits)
{
    int64_t batch = 0, layer = 0, target = 0, found = 0;
    signals one;
    *used = (double)NAN;
    while (next_batch(&one, r, &batch, &layer, &target) && er_report_edits_after(r, batch) <= edits) {
        *s = one;
        found = 1;
    }
    for (int64_t i = 0; i < r->layer_count; i++) {
        const er_report_layer *l = &r->layers[i];
        double now = l->history_rank ? (double)(l->history_rows + l->requests) / (double)l->history_rank : (double)NAN;
        if (er_report_edits_after(r, l->batch) > edits) break;
        if (i == 0 || l->batch != r->layers[i - 1].batch) *used = now;
        else *used = fmax(*used, now);
    }
    return found != 0;
}

void er_report_norms_at(const er_report *r, int64_t edits, double *update, double *total, double *used)
{
    signals s;
    const int found = signals_at(&s, used, r, edits);
    *update = found ? s.update : (double)NAN;
    *total = found ? s.total : (double)NAN;
}

static void stability_row(er_doc *d, const er_report *r, int64_t edits, const json_t *drift)
{
    signals s;
    double used;
    int found = signals_at(&s, &used, r, edits);
    er_doc_cell(d, "%lld", (long long)edits);
    cell(d, number(drift, "perplexity"), 5);
    share_cell(d, number(drift, "agreement"));
    cell(d, number(drift, "kl"), 3);
    share_cell(d, found ? s.update : (double)NAN);
    share_cell(d, found ? s.total : (double)NAN);
    share_cell(d, found ? s.keys[1] : (double)NAN);
    share_cell(d, found ? s.keys[2] : (double)NAN);
    share_cell(d, found ? s.keys[3] : (double)NAN);
    share_cell(d, found ? s.reached : (double)NAN);
    share_cell(d, found ? s.after : (double)NAN);
    share_cell(d, used);
}

void er_part_stability(er_doc *d, const er_report *r)
{
    static const char *const heads[] = {"edits", "perplexity", "answers that stay", "divergence", "update",
                                        "all updates", "saturation", "kept by P", "shift", "p reached", "p after", "capacity used"};
    const char *moment;
    json_t *in;
    int64_t last = -1;
    er_doc_table(d, "rrrrrrrrrrrr");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) er_doc_cell(d, "%s", heads[i]);
    if (moments_of(r, "drift")) {
        json_object_foreach((json_t *)(uintptr_t)moments_of(r, "drift"), moment, in)
            stability_row(d, r, (int64_t)json_integer_value(json_object_get(in, "edits")), in);
    } else {
        json_object_foreach(json_object_get(r->summary, "scores"), moment, in) {
            int64_t edits = er_report_edits_at(r, moment);
            if (edits > last) stability_row(d, r, edits, NULL);
            if (edits > last) last = edits;
        }
    }
    er_doc_table_end(d);
    er_doc_say(d, "Behind the divergence (nats) everything is in per cent: norms of the last batch's update and of all "
               "updates against the matrix; of the last batch's keys the share that earlier keys span, the share that "
               "the method's projection keeps, and what earlier edits did to their values; probability of the targets "
               "as optimised and in the edited model.");
}

/* --- ages -------------------------------------------------------------------------------------------------------- */

static double width_of(const er_report *r) { return number(json_object_get(r->summary, "retention"), "width"); }

/* Of n moments at most MOST_MOMENTS, evenly, the last among them. */
static int is_shown(int64_t i, int64_t n)
{
    int64_t stride = (n + MOST_MOMENTS - 1) / MOST_MOMENTS;
    return (n - 1 - i) % stride == 0;
}

static void age_data(er_pen *p, const json_t *bins, int64_t i, double width)
{
    size_t k;
    json_t *bin;
    er_pen_say(p, "$a%lld << EOD\n", (long long)i);
    json_array_foreach((json_t *)(uintptr_t)bins, k, bin) {
        er_pen_say(p, "%.7g", number(bin, "age") + 0.5 * width);
        er_figure_value(p, 100 * number(bin, "success"));
        er_figure_value(p, 100 * number(bin, "accuracy"));
        er_pen_say(p, "\n");
    }
    if (!json_array_size(bins)) er_pen_say(p, "0 NaN NaN\n");
    er_pen_say(p, "EOD\n");
}

static void age_panel(er_pen *p, const er_report *r, const char *title, int column, int64_t n)
{
    const char *moment;
    json_t *bins;
    char colour[8];
    int64_t i = 0;
    int any = 0;
    er_figure_titles(p, title, "edits made since", "%");
    er_pen_say(p, "plot");
    json_object_foreach((json_t *)(uintptr_t)moments_of(r, "retention"), moment, bins) {
        er_figure_colour(colour, i, n);
        if (is_shown(i, n))
            er_pen_say(p, "%s $a%lld using 1:%d with linespoints lc rgb '%s' lw 1.8 pt 7 ps 0.35 title '%lld'",
                       any++ ? "," : "", (long long)i, column, colour, (long long)er_report_edits_at(r, moment));
        i++;
    }
    er_pen_say(p, "\n");
}

void er_figure_ages(er_pen *p, const er_report *r)
{
    const json_t *moments = moments_of(r, "retention");
    int64_t n = (int64_t)json_object_size(moments), i = 0;
    const char *moment;
    json_t *bins;
    if (n < 2) return;
    er_figure_begin(p, 900, 330);
    er_pen_say(p, "set yrange [0:105]\nset key bmargin center horizontal samplen 1\nset bmargin 5\n");
    json_object_foreach((json_t *)(uintptr_t)moments, moment, bins) age_data(p, bins, i++, width_of(r));
    er_pen_say(p, "set multiplot layout 1,2\n");
    age_panel(p, r, "Success", 2, n);
    age_panel(p, r, "Accuracy", 3, n);
    er_pen_say(p, "unset multiplot\n");
}

void er_part_ages(er_doc *d, const er_report *r)
{
    const char *moment;
    json_t *bins, *bin;
    size_t k;
    er_doc_table(d, "lrrrr");
    er_doc_cell(d, "moment");
    er_doc_cell(d, "edits made since");
    er_doc_cell(d, "n");
    er_doc_cell(d, "Eff");
    er_doc_cell(d, "EffAcc");
    json_object_foreach((json_t *)(uintptr_t)moments_of(r, "retention"), moment, bins) {
        json_array_foreach(bins, k, bin) {
            double age = number(bin, "age");
            er_doc_cell(d, "%s", k ? "" : moment);
            er_doc_cell(d, "%.0f–%.0f", age, age + width_of(r) - 1);
            er_doc_cell(d, "%.0f", number(bin, "n"));
            share_cell(d, number(bin, "success"));
            share_cell(d, number(bin, "accuracy"));
        }
    }
    er_doc_table_end(d);
}
