/* SPDX-License-Identifier: Apache-2.0 */
/* A sweep: the points of a sweep file (jobs/sweep.h), each a run of its own in one folder.
 *
 *     OUT/sweep.json                 objective, swept keys, names and values of the points in order
 *     OUT/sweep.resolved.yaml        the sweep with its points as a list; reads back to the same points
 *     OUT/points.csv                 the whole table
 *     OUT/points/NAME/point.json     state (waiting, running, done, failed), values, scores, reason
 *     OUT/points/NAME/run/...        the run, byte for byte that of the same job run alone
 *     OUT/points/.NAME.lock          who works on it
 *     OUT/best/                      with data.tune: the best point's run on the reported facts, and its point.json
 *     OUT/shared/                    what points have in common (runner/cache.h)
 *
 * NAME is the hash of the point's values, so that points added later leave the old ones where they are. A point is
 * taken by its lock: any number of processes may work on one sweep. A killed one leaves its point to whoever comes
 * next, and the point's run continues itself. */
#ifndef ER_RUNNER_SWEEP_H
#define ER_RUNNER_SWEEP_H

#include "base/json.h"
#include "jobs/sweep.h"
#include "runner/run.h"

#include <stdint.h>

enum er_point_state { ER_POINT_WAITING, ER_POINT_RUNNING, ER_POINT_DONE, ER_POINT_FAILED };
const char *er_point_state_text(int state);

enum { ER_POINT_NAME = 13 }; /* 12 digits and the end */

/* A point as its folder has it. Zero-initialise; free with er_point_free. */
typedef struct er_point {
    char name[ER_POINT_NAME];
    int state;      /* running only while somebody holds its lock */
    char holder[128]; /* of the lock, "" */
    int has_job;
    er_hash job;    /* content of the job that the state is of */
    json_t *json;   /* the whole file, NULL: none */
} er_point;

/* Reads OUT/points/NAME/point.json; a folder without one is waiting. */
int er_point_read(er_point *p, const char *out, const char *name, er_err *err);
/* The same of a file; its own name, and whoever holds it is not looked for. */
int er_point_read_file(er_point *p, const char *path, er_err *err);
void er_point_free(er_point *p);
/* ER_POINT_DONE, ER_POINT_FAILED or, where it is still to be run, ER_POINT_WAITING: with this content, on rung `rung`
 * of halving (-1: none). A rung stays done whatever becomes of the point on a later one. */
int er_point_settled(const er_point *p, const er_hash *job, int64_t rung);
/* Rungs of halving that it has finished. */
int64_t er_point_rungs(const er_point *p);
/* Its objective on rung r; NAN when it has none. */
double er_point_rung(const er_point *p, int64_t r);
/* A number of its scores ("at_end.rewrite.success") or its "objective"; NAN when it has none. */
double er_point_number(const er_point *p, const char *name);
/* "" when it has none. */
const char *er_point_reason(const er_point *p);
/* Paths to be er_freed: OUT/points/NAME, and the lock beside it. */
int er_point_folder(char **path, const char *out, const char *name, er_err *err);
int er_point_lock_path(char **path, const char *out, const char *name, er_err *err);

/* What is written of a point; run, outcome and reason may be NULL. The run's summary.json gives its scores. */
typedef struct er_point_news {
    const char *out, *name;
    const er_sweep_point *values;
    const er_hash *job;
    int state;
    const char *objective;
    const er_run_outcome *outcome;
    const char *reason;
    int64_t rung;       /* of halving, from 0; -1: none */
    const char *folder; /* where point.json goes; NULL: OUT/points/NAME */
} er_point_news;
int er_point_write(const er_point_news *news, er_err *err);

/* The sweep of a folder, from sweep.json, and all its points. Zero-initialise; free with er_table_free. */
typedef struct er_table {
    json_t *sweep;
    char *out;
    const char *objective;
    int64_t key_count, count;
    const char **keys; /* borrowed from sweep */
    er_point *points;
} er_table;
int er_is_sweep(const char *folder);
int er_table_read(er_table *t, const char *folder, er_err *err);
void er_table_free(er_table *t);
const char *er_table_value(const er_table *t, int64_t point, const char *key); /* "" where the point sets none */
/* The done point with the largest objective among those furthest in halving, the first of equals; -1: none. */
int64_t er_table_best(const er_table *t);
/* OUT/best/point.json as a point; waiting where there is none. To be er_point_freed. */
int er_table_winner(er_point *p, const er_table *t, er_err *err);
/* sweep.json, sweep.resolved.yaml. */
int er_table_write(const er_sweep *sweep, const char (*names)[ER_POINT_NAME], er_err *err);
/* All columns: number, point, state, keys, objective, edits, failed edits, every score, reason. */
int er_table_csv(er_text *out, const er_table *t, er_err *err);
int er_table_save_csv(const er_table *t, er_err *err);
/* For people: number, point, state, keys, objective. */
int er_table_text(er_text *out, const er_table *t, er_err *err);
int er_table_json(er_text *out, const er_table *t, er_err *err);
/* One of the three: NULL (text), "csv" or "json"; another format is ER_E_USAGE. */
int er_table_print(er_text *out, const er_table *t, const char *format, er_err *err);

/* Tasks of an array of all points: one each, up to what Slurm takes; task i does every so many points from i on. */
int64_t er_table_tasks(const er_table *t);
/* "3-5,9": tasks that have a point of this state, as --array of sbatch takes them. */
int er_table_array(er_text *out, const er_table *t, int state, er_err *err);
/* What is left as words: "17 points: 12 done, ..." and lists for --points and --array. */
int er_table_left(er_text *out, const er_table *t, er_err *err);
/* sweep_report.c: OUT/report.html, OUT/report.md and OUT/points.csv. */
int er_table_report(const er_table *t, er_err *err);

/* --- sweep_check.c ----------------------------------------------------------------------------------------------- */
/* One point made ready. */
typedef struct er_sweep_item {
    char name[ER_POINT_NAME];
    er_hash job;   /* content of its job */
    er_hash model; /* path and type of its weights */
    er_hash stats;   /* the statistics it needs; zero: none */
    int64_t shards;  /* its run.shards */
    int64_t tune;    /* facts for tuning; 0: points are run on the job's own facts */
    er_hash targets; /* what its first targets depend on: points of equal ones share them */
} er_sweep_item;

/* Not collective. Resolves every point against the base job and checks it as far as is possible without weights: keys,
 * values, what must hold between them, the method against the model's configuration, the data file. Messages name the
 * place in the sweep file. items (sweep->count). */
int er_sweep_check(er_sweep_item *items, const er_sweep *sweep, er_err *err);

/* --- sweep_run.c ------------------------------------------------------------------------------------------------- */
typedef struct er_sweep_options {
    const char *const *sets;
    size_t set_count;
    const char *points; /* names or numbers "A,B,C"; NULL: all */
    int64_t task, tasks; /* every tasks-th point from the task-th on, from 1; 0: all */
    int retry;           /* failed points, too */
    int64_t parallel;    /* points at a time; 0: as the file says */
    int slurm;           /* nothing runs here: an array of all that is left is submitted */
    int dry_run;         /* with slurm its script is printed instead, else the points */
    const char *const *sbatch; /* (sbatch_count) "--time=1:00:00": lines of the script */
    size_t sbatch_count;
    int force;           /* as er_run_options */
    const char *table;   /* NULL, "csv" or "json" */
} er_sweep_options;
/* Collective: the whole of `errata sweep FILE`. *failed: points that failed. */
int er_sweep_run(er_world *w, const char *path, const er_sweep_options *options, int64_t *failed, er_err *err);

#endif
