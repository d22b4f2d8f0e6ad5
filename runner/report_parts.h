/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a report: the same data as gnuplot scripts (report_figures.c) and as tables (report_tables.c). */
#ifndef ER_RUNNER_REPORT_PARTS_H
#define ER_RUNNER_REPORT_PARTS_H

#include "runner/report_data.h"
#include "runner/report_doc.h"

/* Edits in order of their place in the run, cut into bins of neighbours; means per bin. */
enum { ER_MOST_BINS = 20 };
typedef struct er_bins {
    int count;
    int64_t cases; /* edits in the run */
    struct er_bin {
        int64_t first, last, n; /* indices, scored cases */
        double success[ER_REPORT_GROUPS], accuracy[ER_REPORT_GROUPS]; /* NAN: none */
    } bin[ER_MOST_BINS];
} er_bins;
/* Of the cases scored at `moment`; count 0 when there are none. */
void er_report_bins(er_bins *out, const er_report *r, const char *moment);

/* Median over targets of the loss at each step (a target that stopped keeps its last loss), with quartiles. NAN-free;
 * count 0 when no target has a loss. Freed with er_free(out->low). */
typedef struct er_losses {
    int64_t count; /* steps */
    double *low, *middle, *high;
} er_losses;
int er_report_losses(er_losses *out, const er_report *r, er_err *err);

/* Edits in the model at a moment of summary.json; -1: not one of the curve's. */
int64_t er_report_edits_at(const er_report *r, const char *moment);
/* The first line of each edited matrix, in order of appearance; is a line of the same matrix; "5", "5 q". */
int64_t er_report_layer_list(const er_report *r, const er_report_layer **first, int64_t most);
int er_report_same_matrix(const er_report_layer *a, const er_report_layer *b);
void er_report_layer_name(char out[32], const er_report_layer *l);
enum { ER_REPORT_LAYERS = 64 };

/* Edits in the model behind a batch. */
int64_t er_report_edits_after(const er_report *r, int64_t batch);
/* Of the last batch that ends at or before so many edits: norm of its update and of all updates against the matrix, the
 * largest over layers; keys in the history over the rank of the space they live in, the fullest layer. NAN: none. */
void er_report_norms_at(const er_report *r, int64_t edits, double *update, double *total, double *used);

/* Pieces of scripts: terminal and style of a picture, the style alone; a panel's titles; " 1.5" or " NaN"; the i-th of
 * n colours; a text's letters, digits, "_", "-" and spaces, "." for the rest (scripts can start programs). */
void er_figure_begin(er_pen *p, int width, int height);
void er_figure_style(er_pen *p);
void er_figure_word(char out[33], const char *text);
void er_figure_titles(er_pen *p, const char *title, const char *x, const char *y);
void er_figure_value(er_pen *p, double x);
void er_figure_colour(char out[8], int64_t i, int64_t n);

/* Each appends a gnuplot script, or nothing when the run has no such data. */
typedef void er_figure_script(er_pen *pen, const er_report *r);
er_figure_script er_figure_curves, er_figure_retention, er_figure_losses, er_figure_norms, er_figure_spectra,
    er_figure_capacity, er_figure_phases, er_figure_drift, er_figure_health, er_figure_ages;

/* Each writes its section's tables. */
void er_part_protocol(er_doc *d, const er_report *r);
void er_part_scores(er_doc *d, const er_report *r);
void er_part_retention(er_doc *d, const er_report *r);
void er_part_stability(er_doc *d, const er_report *r);
void er_part_ages(er_doc *d, const er_report *r);
void er_part_losses(er_doc *d, const er_report *r);
void er_part_layers(er_doc *d, const er_report *r);
void er_part_spectra(er_doc *d, const er_report *r);
void er_part_change(er_doc *d, const er_report *r);    /* nothing without spectra.jsonl */
void er_part_precision(er_doc *d, const er_report *r); /* nothing without precision.jsonl */
void er_part_phases(er_doc *d, const er_report *r);
void er_part_memory(er_doc *d, const er_report *r); /* of ranks; nothing without lines of it */
int er_report_has_forecast(const er_report *r); /* a phase has planned seconds */
void er_part_guards(er_doc *d, const er_report *r);
void er_part_failed(er_doc *d, const er_report *r);
void er_part_worst(er_doc *d, const er_report *r);
void er_part_inputs(er_doc *d, const er_report *r);
void er_part_repeat(er_doc *d, const er_report *r);

/* A value of summary.json as a reader writes it: texts bare, lists "a, b", objects "k v, k v". */
void er_report_plain(er_pen *pen, const json_t *value);

/* "memit" -> its update rule in one line; NULL for a method that this version does not know. */
const char *er_report_formula(const char *method);

#endif
