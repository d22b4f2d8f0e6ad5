/* SPDX-License-Identifier: Apache-2.0 */
/* A run against the number of edits in the model: what a comparison of several runs draws, tabulates and says. */
#ifndef ER_RUNNER_REPORT_COURSE_H
#define ER_RUNNER_REPORT_COURSE_H

#include "runner/report_data.h"
#include "runner/report_doc.h"

/* Figures of a row. Shares are 0 to 1; NAN: the run has none. */
enum er_course_figure {
    ER_COURSE_EFF, ER_COURSE_GEN, ER_COURSE_SPE,             /* success, mean over the cases scored at that moment */
    ER_COURSE_EFF_ACC, ER_COURSE_GEN_ACC, ER_COURSE_SPE_ACC, /* accuracy */
    ER_COURSE_SAME, /* first choices on neighbours (else on locality prompts) that are the unedited model's */
    ER_COURSE_PERPLEXITY, ER_COURSE_AGREEMENT, ER_COURSE_KL, /* drift; nats */
    ER_COURSE_UPDATE, ER_COURSE_TOTAL, /* norms of the last batch's and of all updates against the matrix, the largest */
    ER_COURSE_USED,                    /* keys in the history over the rank of the space they live in, fullest layer */
    ER_COURSE_NEWEST, ER_COURSE_OLDEST, /* rewrite success of the youngest and of the oldest edits of the sample */
    ER_COURSE_FIGURES
};

typedef struct er_course_row {
    const char *moment; /* of the scores, else of the drift */
    int64_t edits, cases; /* cases scored then; 0: none were */
    double value[ER_COURSE_FIGURES], error[ER_REPORT_GROUPS]; /* error: standard errors of the first three */
    int drift;    /* was drift measured then? A figure that is NAN was no number */
    int repeated; /* scores of all cases at a number of edits that has scores of the sample: not part of the curve */
} er_course_row;

/* Rows in order of edits: every moment with scores, and the moments of drift that have none. */
typedef struct er_course {
    const er_report *r;
    er_course_row *rows;
    size_t room;
    int64_t count;
    /* The first row whose perplexity is above ER_COURSE_BREAK of the unedited model's, or no number; -1: none. */
    int64_t broken;
    /* The edit at which a guard was first beyond its limit, with its name; guard NULL: none was. */
    const char *guard;
    int64_t guard_edit;
    double guard_value, guard_limit;
} er_course;
#define ER_COURSE_BREAK 1.5

/* *out refers to r, which stays the caller's. er_free(out->rows) ends it. */
int er_course_make(er_course *out, const er_report *r, er_err *err);
/* Does the run say more than a score before and one after? */
int er_course_is_long(const er_course *c);

/* report_course_show.c. "1 rome: breaks at edit 80: ...", one line. */
void er_course_say(er_pen *p, const er_course *c, int64_t number);
/* Lines and a table with a row per run and moment with scores (all moments of a run that has none). */
void er_course_part(er_doc *d, const er_course *courses, int64_t count);
/* run,method,moment,edits,cases,... of every row; empty cells where there is no figure. */
int er_course_csv(er_text *out, const er_course *courses, int64_t count, er_err *err);

/* report_course_plot.c. A gnuplot script with one panel per figure and one curve per run: scores, retention by age,
 * drift, norms, capacity; panels that no run has data for are left out. png: for a terminal of pixels, else svg. Nothing
 * where no run has two moments. Behind ER_COURSE_DRAWN runs the rest is left out. */
enum { ER_COURSE_DRAWN = 24 };
void er_course_plot(er_pen *p, const er_course *courses, int64_t count, int png);

#endif
