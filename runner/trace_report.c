/* SPDX-License-Identifier: Apache-2.0 */
/* What a finished trace says: table, CSV, JSON, heat map, page. */
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "runner/plot.h"
#include "runner/report_doc.h"
#include "runner/trace.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const place_titles[ER_PLACES] = {"first subject token", "middle subject tokens",
                                                    "last subject token",  "first token after",
                                                    "further tokens",      "last token"};
static const char *const kind_titles[ER_TRACE_KINDS] = {"stream after a block", "MLP outputs", "attention outputs"};

static const er_trace_mean *cell(const er_trace_means *m, int kind, int place, int64_t layer)
{
    return &m->cell[kind][place * m->layers + layer];
}

/* Layer of the greatest effect at a place; -1: no fact has it. */
static int64_t best_layer(const er_trace_means *m, int kind, int place)
{
    int64_t best = -1;
    for (int64_t l = 0; l < m->layers; l++) {
        const er_trace_mean *c = cell(m, kind, place, l);
        if (c->n && (best < 0 || c->effect > cell(m, kind, place, best)->effect)) best = l;
    }
    return best;
}

static int put_layers(er_text *out, const er_trace_means *m, er_err *err)
{
    ER_TRY(er_text_add(out, "[", err));
    for (int64_t l = m->low; m->low >= 0 && l <= m->high; l++)
        ER_TRY(er_text_format(out, err, l > m->low ? ", %lld" : "%lld", (long long)l));
    return er_text_add(out, "]", err);
}

/* --- numbers ----------------------------------------------------------------------------------------------------- */

static int save_csv(const er_tracing *t, const er_trace_means *m, er_err *err)
{
    er_text csv = ER_TEXT_INIT;
    int code = er_text_add(&csv, "kind,position,layer,effect,stderr,n\n", err);
    for (int64_t i = 0; i < ER_TRACE_KINDS * ER_PLACES * m->layers; i++) {
        const int kind = (int)(i / (ER_PLACES * m->layers)), place = (int)(i / m->layers % ER_PLACES);
        if (!m->cell[kind]) continue;
        const er_trace_mean *c = cell(m, kind, place, i % m->layers);
        if (!code)
            code = er_text_format(&csv, err, "%s,%s,%lld,", er_trace_kinds[kind], er_trace_places[place],
                                  (long long)(i % m->layers));
        if (!code && c->n) code = er_text_format(&csv, err, "%.9g", c->effect);
        if (!code) code = er_text_add(&csv, ",", err);
        if (!code && c->n > 1) code = er_text_format(&csv, err, "%.9g", c->error);
        if (!code) code = er_text_format(&csv, err, ",%lld\n", (long long)c->n);
    }
    if (!code) code = er_save_text(t->folder, "trace.csv", &csv, err);
    er_text_free(&csv);
    return code;
}

static int put_settings(er_text *out, const er_tracing *t, const er_trace_means *m, er_err *err)
{
    const er_trace_options *o = &t->set.options;
    char hex[ER_HASH_TEXT];
    er_hash_text(hex, &t->model->weights);
    ER_TRY(er_text_format(out, err, "{\n  \"schema\": 1,\n  \"weights\": \"%s\",\n  \"seed\": %llu,\n"
                          "  \"samples\": %lld,\n  \"noise\": %.9g,\n  \"deviation\": ", hex,
                          (unsigned long long)o->seed, (long long)o->samples, t->set.noise));
    ER_TRY(er_text_float(out, t->deviation, err));
    return er_text_format(out, err, ",\n  \"window\": %lld,\n  \"layers\": %lld,\n  \"facts\": {\"examined\": %lld, "
                          "\"known\": %lld},\n", (long long)o->window, (long long)m->layers, (long long)m->examined,
                          (long long)m->known);
}

static int save_json(const er_tracing *t, const er_trace_means *m, er_err *err)
{
    er_text out = ER_TEXT_INIT;
    int code = put_settings(&out, t, m, err);
    if (!code) code = er_text_add(&out, "  \"clean\": ", err);
    if (!code) code = er_text_float(&out, m->known ? m->clean : (double)NAN, err);
    if (!code) code = er_text_add(&out, ",\n  \"corrupted\": ", err);
    if (!code) code = er_text_float(&out, m->known ? m->corrupted : (double)NAN, err);
    if (!code)
        code = er_text_format(&out, err, ",\n  \"best_mlp_layer\": %lld,\n  \"proposed_layers\": ", (long long)m->best);
    if (!code) code = put_layers(&out, m, err);
    if (!code) code = er_text_add(&out, "\n}\n", err);
    if (!code) code = er_save_text(t->folder, "trace.json", &out, err);
    er_text_free(&out);
    return code;
}

/* --- heat map ---------------------------------------------------------------------------------------------------- */

static void panel_data(er_pen *p, const er_trace_means *m, int kind)
{
    er_pen_say(p, "$k%d << EOD\n", kind);
    for (int64_t i = 0; i < ER_PLACES * m->layers; i++) {
        const int place = (int)(i / m->layers);
        const er_trace_mean *c = cell(m, kind, place, i % m->layers);
        if (!c->n || !(c->effect > 0)) continue;
        er_pen_say(p, "%lld %d %.5g\n", (long long)(i % m->layers), ER_PLACES - 1 - place, 100 * c->effect);
    }
    er_pen_say(p, "EOD\n");
}

/* Everything in the script is a number or a word of ours. */
static void draw(er_pen *p, const er_trace_means *m)
{
    static const char *const colours[ER_TRACE_KINDS] = {"#6a3d9a", "#1b7a4b", "#b4361e"};
    int panels = 0;
    for (int k = 0; k < ER_TRACE_KINDS; k++) panels += m->cell[k] != NULL;
    er_pen_say(p, "set terminal svg size 760,%d dynamic rounded noenhanced font 'Helvetica,Arial,sans-serif,12'\n"
               "set encoding utf8\nunset key\nset border 0\nset tics out nomirror scale 0.4 textcolor rgb '#4a4f57'\n"
               "set xrange [-0.5:%lld.5]\nset yrange [-0.5:%d.5]\nset colorbox\nset lmargin 24\n", 40 + 190 * panels,
               (long long)m->layers - 1, ER_PLACES - 1);
    er_pen_say(p, "set ytics (");
    for (int place = 0; place < ER_PLACES; place++)
        er_pen_say(p, "%s'%s' %d", place ? ", " : "", place_titles[place], ER_PLACES - 1 - place);
    er_pen_say(p, ")\n");
    for (int k = 0; k < ER_TRACE_KINDS; k++)
        if (m->cell[k]) panel_data(p, m, k);
    er_pen_say(p, "set multiplot layout %d,1\n", panels);
    for (int k = 0; k < ER_TRACE_KINDS; k++) {
        if (!m->cell[k]) continue;
        er_pen_say(p, "set title '%s restored%s' textcolor rgb '#4a4f57'\nset xlabel '%s' textcolor rgb '#4a4f57'\n",
                   kind_titles[k], k == ER_TRACE_HIDDEN ? "" : " in a window",
                   k == ER_TRACE_HIDDEN ? "layer" : "middle layer of the window");
        er_pen_say(p, "set palette maxcolors 40 defined (0 '#ffffff', 1 '%s')\nset cbrange [0:*]\nset cblabel 'effect, %%' textcolor rgb '#4a4f57'\n"
                   "plot $k%d using 1:2:(0.5):(0.5):3 with boxxyerror lc palette fs solid noborder\n",
                   colours[k], k);
    }
    er_pen_say(p, "unset multiplot\n");
}

/* --- page -------------------------------------------------------------------------------------------------------- */

static void say_settings(er_doc *d, const er_tracing *t, const er_trace_means *m)
{
    const er_trace_options *o = &t->set.options;
    er_doc_say(d, "%lld of %lld facts are known. The answer's probability is %.3f, %.4f with noise of %g standard "
               "deviations (%.4g) on the subject's embeddings, mean over %lld draws of seed %llu.", (long long)m->known,
               (long long)m->examined, m->clean, m->corrupted, t->set.noise, o->noise, (long long)o->samples,
               (unsigned long long)o->seed);
    er_doc_say(d, "MLP and attention outputs are restored in %lld neighbouring blocks around a layer, streams after "
               "one block. The effect is the probability restored less the one with noise, averaged over facts.",
               (long long)o->window);
}

static void effect_table(er_doc *d, const er_trace_means *m)
{
    er_doc_section(d, "effects", "Greatest mean effects");
    er_doc_table(d, "llrrrr");
    static const char *const heads[] = {"restored", "position", "layer", "effect, %", "standard error", "facts"};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) er_doc_cell(d, "%s", heads[i]);
    for (int k = 0; k < ER_TRACE_KINDS; k++) {
        for (int place = 0; m->cell[k] && place < ER_PLACES; place++) {
            const int64_t best = best_layer(m, k, place);
            if (best < 0) continue;
            const er_trace_mean *c = cell(m, k, place, best);
            er_doc_cell(d, "%s", kind_titles[k]);
            er_doc_cell(d, "%s", place_titles[place]);
            er_doc_cell(d, "%lld", (long long)best);
            er_doc_cell(d, "%.2f", 100 * c->effect);
            if (isfinite(c->error)) er_doc_cell(d, "%.2f", 100 * c->error);
            else er_doc_cell(d, "%s", "");
            er_doc_cell(d, "%lld", (long long)c->n);
        }
    }
    er_doc_table_end(d);
}

static void proposal(er_doc *d, const er_trace_means *m)
{
    er_text layers = ER_TEXT_INIT;
    if (m->low < 0) return;
    er_doc_section(d, "layers", "Proposed layers");
    er_doc_say(d, "The %lld neighbouring layers whose MLP windows have the greatest effect at the subject's last token, "
               "windows over block 0 aside where others are left (a single layer, as ROME edits: %lld):",
               (long long)(m->high - m->low + 1), (long long)m->best);
    int code = er_text_add(&layers, "layers: ", d->err);
    if (!code) code = put_layers(&layers, m, d->err);
    if (code && !d->code) d->code = code;
    er_doc_code(d, layers.at ? layers.at : "");
    er_text_free(&layers);
}

static int write_page(const er_tracing *t, const er_trace_means *m, const char *svg, const char *why, er_err *err)
{
    const char *slash = strrchr(t->folder, '/');
    er_doc d = {.err = err};
    er_report_page(&d, slash ? slash + 1 : t->folder);
    say_settings(&d, t, m);
    er_doc_raw(&d, ER_DOC_HTML, "</header>\n");
    d.only = ER_DOC_HTML; /* Markdown has no picture */
    if (svg) er_doc_section(&d, "map", "Where restoring helps");
    if (svg) er_doc_figure(&d, svg, "Mean indirect effect in percent by place of the token and layer.");
    d.only = 0;
    proposal(&d, m);
    effect_table(&d, m);
    if (why) er_doc_say(&d, "The picture is missing: %s. Its numbers stand in trace.csv.", why);
    er_doc_raw(&d, ER_DOC_HTML, "<footer>Made by errata from trace.jsonl; errata trace makes it anew.</footer>\n"
               "</body>\n</html>\n");
    int code = er_doc_end(&d);
    if (!code) code = er_save_text(t->folder, "report.html", &d.html, err);
    if (!code) code = er_save_text(t->folder, "report.md", &d.md, err);
    if (!code) printf("%s\n%s\n", d.md.at, t->folder);
    er_doc_free(&d);
    return code;
}

int er_trace_report(const er_tracing *t, const er_trace_means *m, er_err *err)
{
    er_text svg = ER_TEXT_INIT;
    er_pen script = {ER_TEXT_INIT, 0, err};
    er_err why = ER_ERR_INIT;
    ER_TRY(save_csv(t, m, err));
    ER_TRY(save_json(t, m, err));
    int plotted = 0, code = 0;
    if (m->known) {
        draw(&script, m);
        code = script.code;
        if (!code) plotted = er_plot_svg(&svg, script.text.at, "trace", "Indirect effects", &why) == 0;
    }
    if (!code && plotted) code = er_text_add(&svg, "\n", err);
    if (!code && plotted) code = er_save_text(t->folder, "trace.svg", &svg, err);
    if (!code) code = write_page(t, m, plotted ? svg.at : NULL, m->known && !plotted ? why.text : NULL, err);
    er_text_free(&script.text);
    er_text_free(&svg);
    return code;
}
