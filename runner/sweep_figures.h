/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures of a sweep: heat maps of two keys, points against one key. */
#ifndef ER_RUNNER_SWEEP_FIGURES_H
#define ER_RUNNER_SWEEP_FIGURES_H

#include "runner/report_doc.h"
#include "runner/sweep.h"

/* The values of a key, each once: ascending where all are numbers, else in order of appearance. */
typedef struct er_axis {
    const char *key;
    int64_t count;
    const char **text;  /* (count) borrowed from the table */
    int numbers;        /* all values are */
    double *value;      /* (count) where they are numbers, else 0, 1, 2, ... */
} er_axis;
int er_axis_make(er_axis *a, const er_table *t, const char *key, er_err *err);
void er_axis_free(er_axis *a);
int64_t er_axis_find(const er_axis *a, const char *text); /* -1: none */

/* What the pictures show of a point, in this order; the first is the objective. */
enum { ER_SWEEP_METRICS = 4 };
/* The names of the metrics: [0] "objective", then rewrite, paraphrase and neighborhood success at the last moment that
 * a done point has; NULL where it has none. */
void er_sweep_metrics(const char *names[ER_SWEEP_METRICS], const er_table *t);

/* gnuplot scripts. A cell of a heat map is the largest value over the points that fall into it. */
void er_sweep_heat_map(er_pen *p, const er_table *t, const er_axis *x, const er_axis *y);
void er_sweep_lines(er_pen *p, const er_table *t, const er_axis *x);

#endif
