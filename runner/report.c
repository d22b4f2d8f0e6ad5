/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/report.h"

#include "base/file.h"
#include "runner/plot.h"
#include "runner/report_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char style[] =
    "<style>\n"
    ":root{color-scheme:light;--ink:#23272e;--soft:#667080;--line:#dfe3e8;--tint:#f5f7f9;--accent:#1f5f99}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;max-width:62rem;padding:2.2rem 1.6rem 4rem;color:var(--ink);background:#fff;"
    "font:15px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}\n"
    "h1{font-size:1.7rem;line-height:1.2;margin:0 0 .3rem;overflow-wrap:anywhere;letter-spacing:-.01em}\n"
    "h2{font-size:1.12rem;margin:2.4rem 0 .7rem;padding-bottom:.3rem;border-bottom:1px solid var(--line)}\n"
    "p{margin:.5rem 0;max-width:52rem}\n"
    "header p{margin:.15rem 0;color:var(--soft);max-width:none;overflow-wrap:anywhere}\n"
    ".rule{font-family:'Cambria Math',Cambria,'STIX Two Text',Georgia,serif;font-size:1.02rem;background:var(--tint);"
    "border-left:3px solid var(--accent);padding:.5rem .9rem;margin:.8rem 0;overflow-wrap:anywhere}\n"
    ".cards{display:flex;flex-wrap:wrap;gap:.7rem;margin:1.2rem 0 .4rem}\n"
    ".card{flex:1 1 8rem;border:1px solid var(--line);border-radius:6px;padding:.6rem .9rem}\n"
    ".card b{display:block;font-size:1.55rem;font-weight:600;line-height:1.25;font-variant-numeric:tabular-nums}\n"
    ".card span{color:var(--soft);font-size:.82rem}\n"
    ".note{background:#fff7e8;border-left:3px solid #d39a2d;padding:.4rem .9rem;margin:.8rem 0}\n"
    ".note p{margin:.2rem 0}\n"
    ".wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;font-size:.87rem;margin:.5rem 0;font-variant-numeric:tabular-nums}\n"
    "th{font-weight:600;color:var(--soft);text-align:left;border-bottom:1.5px solid var(--line);"
    "vertical-align:bottom}\n"
    "th,td{padding:.26rem .8rem .26rem 0}td{border-bottom:1px solid #eef0f3;vertical-align:top}\n"
    "th.n,td.n{text-align:right;padding:.26rem 0 .26rem 1.1rem;white-space:nowrap}th.n{white-space:normal}\n"
    "td.n+td:not(.n),th.n+th:not(.n){padding-left:1.4rem}\n"
    "td:not(.n){overflow-wrap:anywhere}\n"
    "tbody tr:hover{background:var(--tint)}\n"
    "figure{margin:.8rem 0 .4rem}figure svg{display:block;width:100%;height:auto}\n"
    "figcaption{color:var(--soft);font-size:.84rem;margin-top:.2rem;max-width:52rem}\n"
    "details{margin:.5rem 0}summary{cursor:pointer;color:var(--accent);font-size:.87rem}\n"
    "pre{background:var(--tint);border:1px solid var(--line);border-radius:6px;padding:.7rem .9rem;overflow-x:auto;"
    "font:.82rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}\n"
    "footer{margin-top:3rem;color:var(--soft);font-size:.82rem}\n"
    "@media print{body{max-width:none;padding:0;font-size:10pt}h2{break-after:avoid}figure,tr,.card{break-inside:avoid}"
    "details:not([open]){display:none}.wide{overflow:visible}pre{white-space:pre-wrap}}\n"
    "</style>\n";

/* --- heading ----------------------------------------------------------------------------------------------------- */

static const char *text_in(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "?";
}

void er_report_page(er_doc *d, const char *name)
{
    er_doc_raw(d, ER_DOC_HTML, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
               "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
               "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
               "style-src 'unsafe-inline'\">\n"
               "<title>");
    if (!d->code) d->code = er_html_text(&d->html, name, d->err);
    er_doc_raw(d, ER_DOC_HTML, "</title>\n");
    er_doc_raw(d, ER_DOC_HTML, style);
    er_doc_raw(d, ER_DOC_HTML, "</head>\n<body>\n<header>\n<h1>");
    er_doc_raw(d, ER_DOC_MD, "# ");
    if (!d->code) d->code = er_html_text(&d->html, name, d->err);
    if (!d->code) d->code = er_md_text(&d->md, name, d->err);
    er_doc_raw(d, ER_DOC_HTML, "</h1>\n");
    er_doc_raw(d, ER_DOC_MD, "\n\n");
}

static void method_rule(er_doc *d, const er_report *r)
{
    const char *formula = er_report_formula(text_in(r->summary, "method"));
    if (!formula) return;
    er_doc_raw(d, ER_DOC_HTML, "<div class=\"rule\">");
    if (!d->code) d->code = er_html_text(&d->html, formula, d->err);
    if (!d->code) d->code = er_md_text(&d->md, formula, d->err);
    er_doc_raw(d, ER_DOC_HTML, "</div>\n");
    er_doc_raw(d, ER_DOC_MD, "\n\n");
}

static void heading(er_doc *d, const er_report *r)
{
    const json_t *protocol = json_object_get(r->summary, "protocol");
    const char *model = er_report_option_of(r, "model.path", NULL), *policy = text_in(protocol, "guard_actions");
    if (!model) model = text_in(r->env, "model");
    er_report_page(d, r->name);
    er_doc_say(d, "%s on %s, data %s (%s)", text_in(r->summary, "method"), er_report_base(model),
               er_report_base(er_report_option_of(r, "data.path", "?")), er_report_option_of(r, "data.format", "?"));
    er_doc_say(d, "mode %s, batch %lld, %lld edits · scorer %s (%s) · target %s · parity faults on: %s · guards: %s%s",
               text_in(protocol, "mode"), (long long)json_integer_value(json_object_get(protocol, "batch")),
               (long long)json_integer_value(json_object_get(protocol, "count")), text_in(protocol, "scorer"),
               text_in(protocol, "scored"), text_in(protocol, "target"), text_in(protocol, "parity"), policy,
               !strcmp(policy, "warn") ? "" : " (edits were skipped, rolled back or stopped by rule)");
    method_rule(d, r);
    er_doc_raw(d, ER_DOC_HTML, "</header>\n");
}

static void card(er_doc *d, const char *title, double now, double before, const char *after)
{
    char text[96];
    if (!isfinite(now)) return;
    snprintf(text, sizeof text, "<div class=\"card\"><span>%s</span><b>%.1f</b><span>", title, 100 * now);
    er_doc_raw(d, ER_DOC_HTML, text);
    if (isfinite(before)) snprintf(text, sizeof text, "%.1f before", 100 * before);
    else snprintf(text, sizeof text, "%.40s", after);
    if (!d->code) d->code = er_html_text(&d->html, text, d->err);
    er_doc_raw(d, ER_DOC_HTML, "</span></div>\n");
}

static void cards(er_doc *d, const er_report *r)
{
    const char *last = er_report_last_moment(r);
    char text[160];
    long long asked = er_report_edits(r, "requested"), done = er_report_edits(r, "applied");
    long long failed = er_report_edits(r, "failed");
    snprintf(text, sizeof text, "<div class=\"cards\">\n<div class=\"card\"><span>edits applied</span><b>%lld</b>"
             "<span>of %lld, %lld failed</span></div>\n", done, asked, failed);
    er_doc_raw(d, ER_DOC_HTML, text);
    if (last) card(d, "Score", er_report_total(r, last), er_report_total(r, "before"), last);
    for (int g = 0; last && g < ER_REPORT_GROUPS; g++)
        card(d, er_report_groups[g].title, er_report_score(r, last, er_report_groups[g].name, "success", "mean"),
             er_report_score(r, "before", er_report_groups[g].name, "success", "mean"), last);
    er_doc_raw(d, ER_DOC_HTML, "</div>\n");
    d->only = ER_DOC_MD;
    er_doc_say(d, "Edits: %lld requested, %lld applied, %lld failed.", asked, done, failed);
    d->only = 0;
}

/* --- figures ----------------------------------------------------------------------------------------------------- */

typedef struct drawer {
    er_report *r;
    int number, failures;
    er_text why; /* of the first failure */
} drawer;

/* 1 when the picture stands in the page. After two failures (each may be a minute's wait) no more are tried. */
static int figure(er_doc *d, drawer *w, er_figure_script *script, const char *title, const char *caption)
{
    er_pen p = {ER_TEXT_INIT, d->code, d->err};
    er_text svg = ER_TEXT_INIT;
    er_err why = ER_ERR_INIT;
    char id[16];
    int drawn = 0;
    if (d->code || w->failures > 1) return 0;
    script(&p, w->r);
    d->code = p.code;
    if (!d->code && p.text.length) {
        snprintf(id, sizeof id, "f%d", ++w->number);
        int code = er_plot_svg(&svg, p.text.at, id, title, &why);
        if (code == ER_E_MEMORY) d->code = er_fail(d->err, code, "%s", why.text);
        else if (code && !w->failures++) d->code = er_text_add(&w->why, why.text, d->err);
        drawn = !code;
        if (drawn) er_doc_figure(d, svg.at, caption);
    }
    er_text_free(&svg);
    er_text_free(&p.text);
    return drawn;
}

/* The section's numbers: folded behind its picture, open without one. */
static void numbers(er_doc *d, const er_report *r, void part(er_doc *, const er_report *), int drawn)
{
    d->only = ER_DOC_HTML;
    er_doc_fold(d, "as numbers", !drawn);
    d->only = 0;
    part(d, r);
    er_doc_fold_end(d);
}

static int has_moment(const er_report *r, const char *moment)
{
    for (int64_t i = 0; i < r->case_count; i++)
        if (!strcmp(r->cases[i].moment, moment)) return 1;
    return 0;
}

static int has_capacity(const er_report *r)
{
    for (int64_t i = 0; i < r->layer_count; i++)
        if (r->layers[i].history_rank > 0) return 1;
    return 0;
}

static void score_parts(er_doc *d, drawer *w)
{
    er_part_scores(d, w->r);
    figure(d, w, er_figure_curves, "Scores against the number of edits",
           "Means over cases with standard errors, against the edits in the model when scored: before, after every k, "
           "at the end. Where every moment has the same cases the curve shows what editing costs; after_N scores the "
           "edits so far.");
    if (!has_moment(w->r, "at_end") && !has_moment(w->r, "at_edit")) return;
    er_doc_section(d, "retention", has_moment(w->r, "at_end") ? "Retention: scores by the place of the edit" :
                   "Scores by the place of the edit");
    int drawn = figure(d, w, er_figure_retention, "Scores by the place of the edit",
                       "Solid: at the end of the run. Dashed, where measured: right after the edit's own batch. A "
                       "gap that grows to the left is forgetting.");
    numbers(d, w->r, er_part_retention, drawn);
}

/* What editing did to the rest of the model, and what of it could be seen while it happened. */
static void stability_parts(er_doc *d, drawer *w)
{
    const er_report *r = w->r;
    if (json_object_get(r->summary, "retention")) {
        er_doc_section(d, "ages", "Retention: scores by the age of the edit");
        int drawn = figure(d, w, er_figure_ages, "Scores by the age of the edit",
                           "Rewrite scores against the edits made since, one line per moment, the last one the "
                           "brightest. A line that falls to the right is forgetting; one that is low everywhere is "
                           "collapse.");
        numbers(d, r, er_part_ages, drawn);
    }
    if (!json_object_get(r->summary, "drift") && !r->layer_count) return;
    er_doc_section(d, "stability", "Stability");
    int drawn = figure(d, w, er_figure_drift, "Drift against the number of edits",
                       "Held-out perplexity, and what stays of the unedited model's own answers.");
    drawn |= figure(d, w, er_figure_health, "Signals against the number of edits",
                    "Per batch: norm of the update and of all updates against the matrix (largest over layers); keys "
                    "(mean over edits and layers); probability of the target that the optimisation reached, and in the "
                    "edited model.");
    numbers(d, r, er_part_stability, drawn);
}

static void edit_parts(er_doc *d, drawer *w)
{
    er_report *r = w->r;
    if (r->target_count) {
        er_doc_section(d, "losses", "Losses of the targets");
        int drawn = figure(d, w, er_figure_losses, "Losses of the targets",
                           "Total loss against optimisation step: one thin line per target (150 of them at most, "
                           "evenly over the run), median and quartiles over all; a target that stopped early keeps "
                           "its last loss.");
        numbers(d, r, er_part_losses, drawn);
    }
    if (r->layer_count) {
        er_doc_section(d, "layers", "Updates by layer");
        int drawn = figure(d, w, er_figure_norms, "Update norm and residual by layer and batch",
                           "Norm of each batch's update, and the mean norm of what the targets still lacked "
                           "before it.");
        if (has_capacity(r))
            drawn &= figure(d, w, er_figure_capacity, "Capacity used by layer and batch",
                            "Capacity used: keys in the history against the rank of the space the updates may use. "
                            "Near 100 % nothing is left to edit with.");
        numbers(d, r, er_part_layers, drawn);
    }
    if (r->spectrum_count) {
        er_doc_section(d, "spectra", "Spectra of the second moments");
        int drawn = figure(d, w, er_figure_spectra, "Spectra of the second moments",
                           "Eigenvalues of the keys' second moment per edited layer; the dashed marks show how many "
                           "directions the projection keeps.");
        numbers(d, r, er_part_spectra, drawn);
    }
}

static void time_parts(er_doc *d, drawer *w)
{
    const er_report *r = w->r;
    if (!r->phase_count) return;
    er_doc_section(d, "times", "Time");
    for (int64_t i = 0; i < r->phase_count; i++) {
        const er_report_phase *p = &r->phases[i];
        if (!strcmp(p->name, "all"))
            er_doc_say(d, "%.1f s in %lld start%s on %lld rank%s of %lld thread%s.", p->seconds, (long long)p->count,
                       p->count > 1 ? "s" : "", (long long)json_integer_value(json_object_get(r->env, "ranks")),
                       json_integer_value(json_object_get(r->env, "ranks")) == 1 ? "" : "s",
                       (long long)json_integer_value(json_object_get(r->env, "threads")),
                       json_integer_value(json_object_get(r->env, "threads")) == 1 ? "" : "s");
    }
    int drawn = figure(d, w, er_figure_phases, "Time by phase", "Seconds by phase, summed over batches and starts.");
    numbers(d, r, er_part_phases, drawn && !er_report_has_forecast(r));
    er_part_memory(d, r);
}

static void note_parts(er_doc *d, const drawer *w)
{
    if (!w->r->note_count && !w->why.length) return;
    er_doc_section(d, "missing", "What is missing from this report");
    er_doc_raw(d, ER_DOC_HTML, "<div class=\"note\">\n");
    for (int64_t i = 0; i < w->r->note_count; i++) er_doc_say(d, "%s", w->r->notes[i]);
    if (w->why.length) er_doc_say(d, "Pictures are missing: %s. Their numbers stand in the tables.", w->why.at);
    er_doc_raw(d, ER_DOC_HTML, "</div>\n");
}

/* --- both files -------------------------------------------------------------------------------------------------- */

static void document(er_doc *d, er_report *r)
{
    drawer w = {r, 0, 0, ER_TEXT_INIT};
    heading(d, r);
    cards(d, r);
    score_parts(d, &w);
    stability_parts(d, &w);
    er_part_protocol(d, r);
    edit_parts(d, &w);
    er_part_change(d, r);
    er_part_precision(d, r);
    er_part_guards(d, r);
    er_part_failed(d, r);
    er_part_worst(d, r);
    time_parts(d, &w);
    er_part_inputs(d, r);
    er_part_repeat(d, r);
    note_parts(d, &w);
    d->only = ER_DOC_MD;
    if (!w.why.length) er_doc_say(d, "The pictures are in report.html.");
    d->only = 0;
    er_doc_raw(d, ER_DOC_HTML, "<footer>Made by errata from the files of the run alone; errata report makes it anew."
               "</footer>\n</body>\n</html>\n");
    er_text_free(&w.why);
}

int er_report_write(const char *folder, er_err *err)
{
    er_report r;
    er_doc d = {.err = err};
    int code = er_report_open(&r, folder, ER_REPORT_ALL, err);
    if (!code) {
        document(&d, &r);
        code = er_doc_end(&d);
    }
    if (!code) code = er_save_text(folder, "report.md", &d.md, err);
    if (!code) code = er_save_text(folder, "report.html", &d.html, err);
    er_doc_free(&d);
    er_report_close(&r);
    return code;
}
