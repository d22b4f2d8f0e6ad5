/* SPDX-License-Identifier: Apache-2.0 */
/* A sweep file: one base job and the points at which it is tried.
 *
 *     base: JOB.yaml                                  # relative to the sweep file, like every path here
 *     grid: {editor.nullspace_threshold: [0.01, 0.02], editor.clamp_norm_factor: [0.5, 0.75]}
 *     list: [{editor.L2: 1, editor.v_lr: 0.1}, {editor.L2: 10}]
 *     random: {count: 20, seed: 1, keys: {editor.v_lr: {from: 0.05, to: 1, scale: log}, edit.batch: [5, 10]}}
 *     set: {data.count: 20}                           # the same at every point
 *     out: DIR                                        # default: sweeps/NAME
 *     objective: at_end.rewrite.success               # or score
 *     parallel: 1                                     # points at a time, each on a group of ranks
 *     halving: {rungs: [10, 30], keep: 1/3}
 *
 * Grid, list and random may stand together; the points follow in this order. Keys are those of the job exactly as --set
 * takes them; values are scalars or lists of scalars. This reader checks the file's own keys and shapes and draws the
 * sample; whether a job key exists and a value is good is checked by er_job_read_settings, point by point, and says the
 * same kind of line: "FILE:LINE:COLUMN: ...". Everything lives in the arena. */
#ifndef ER_JOBS_SWEEP_H
#define ER_JOBS_SWEEP_H

#include "jobs/job.h"

#include <stdint.h>

typedef struct er_sweep_point {
    int64_t count;
    er_job_setting *settings; /* (count) in the file's order */
    const char **keys;        /* (count) of each */
    const char **values;
} er_sweep_point;

typedef struct er_sweep {
    const char *path, *folder; /* of the sweep file; the folder is absolute */
    const char *base, *out;    /* absolute */
    const char *objective;     /* "score" by default */
    int64_t parallel;
    er_int_list rungs; /* facts of each rung, ascending; none: no halving */
    double keep;       /* share of the points that goes on to the next rung, in (0, 1) */
    int64_t fixed_count;
    er_job_setting *fixed; /* of every point, before its own */
    int64_t key_count;
    const char **keys; /* that differ between points, in order of first appearance */
    int64_t count;
    er_sweep_point *points;

    const char *keep_text; /* as written; read `keep` */
    int64_t random_count, random_seed;
} er_sweep;

enum { ER_SWEEP_MOST = 10000 }; /* points */

/* sets: --set texts of the command line, which join the file's `set:`; a key that a point sets, too, is ER_E_USAGE.
 * Errors are ER_E_INPUT with a place; *out is written on success only. */
int er_sweep_read(er_sweep *out, const char *path, const char *const *sets, size_t set_count, er_arena *arena,
                  er_err *err);

/* A sweep file that reads back to the same points, which stand in it as a list. */
int er_sweep_dump(er_text *out, const er_sweep *sweep, er_err *err);

/* The value of `point` at a swept key, NULL where it sets none. */
const char *er_sweep_value(const er_sweep_point *point, const char *key);

/* jobs/sweep_draw.c: value `item` of a key's range as text. u in [0, 1). */
void er_sweep_between(char *text, size_t size, double from, double to, int log_scale, int whole, double u);

#endif
