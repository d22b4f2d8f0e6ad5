/* SPDX-License-Identifier: Apache-2.0 */
/* Inside runner/sweep_*.c: a sweep at work. */
#ifndef ER_RUNNER_SWEEP_PARTS_H
#define ER_RUNNER_SWEEP_PARTS_H

#include "runner/sweep.h"

typedef struct er_sweeping {
    er_world *w;  /* all ranks */
    er_world *g;  /* those that work on a point together; w itself, or this rank's group */
    er_arena *arena;
    er_sweep file;
    er_sweep_item *items; /* (file.count) */
    uint8_t *chosen;      /* (file.count) by the command line */
    er_share share;
    int64_t tune;  /* facts for tuning; 0: none, and the points are run on the job's own */
    int64_t rung;  /* of halving, from 0; -1: none */
    int64_t facts; /* that points are run on, with tune */
} er_sweeping;

/* sweep_run.c. Collective over s->g. */
/* Settings of a point, in the arena; reported: as the winner is run, on the reported facts into OUT/best. */
int er_sweep_settings(const er_sweeping *s, int64_t p, int reported, er_arena *arena, er_job_setting **out,
                      size_t *count, er_err *err);
/* Rank 0 of a group: the point's state file. */
int er_sweep_note(const er_sweeping *s, int64_t p, int state, const er_run_outcome *o, const char *reason, er_err *err);
/* One point of s->g, under its lock. */
int er_sweep_point_run(er_sweeping *s, int64_t p, const er_sweep_options *o, er_err *err);

/* sweep_take.c. Rank 0 of a group. The next free point and its lock; -1: none is left to this process. Points whose
 * first targets nobody is at work on come first. */
int er_sweep_take(const er_sweeping *s, int64_t *taken, int *lock, er_err *err);
/* Rank 0. Chosen points that failed count as waiting again. */
int er_sweep_reopen(const er_sweeping *s, er_err *err);

/* sweep_slurm.c. Rank 0. The script of an array of what is left: printed with dry_run, else written and submitted. */
int er_sweep_slurm(er_sweeping *s, const er_sweep_options *o, const er_table *table, er_err *err);

/* sweep_tune.c. Collective over s->w: all points, rung after rung where there are any; then, with tuning facts, the
 * best one on the reported facts. */
int er_sweep_tune(er_sweeping *s, const er_sweep_options *o, er_err *err);

/* sweep_groups.c. Collective over s->w: the points, several at a time where the ranks are split. */
int er_sweep_groups(er_sweeping *s, const er_sweep_options *o, er_err *err);
/* Collective over s->g: points until none is left, at most `most`. */
int er_sweep_points(er_sweeping *s, const er_sweep_options *o, int64_t most, er_err *err);

#endif
