/* SPDX-License-Identifier: Apache-2.0 */
/* Inside jobs/job*.c: the state of one reading. */
#ifndef ER_JOBS_JOB_READ_H
#define ER_JOBS_JOB_READ_H

#include "jobs/job.h"
#include "jobs/yaml.h"

enum er_job_source { ER_JOB_DEFAULT, ER_JOB_HPARAMS, ER_JOB_FILE, ER_JOB_SET };

typedef struct er_job_reader {
    er_job *job;
    const char *method; /* known before editor.method is set */
    int64_t batch_most;
    const char **place[ER_JOB_TABLES]; /* per row: "FILE:LINE:COLUMN" of the value that counts, or NULL */
    er_job_note *notes;
    size_t note_count, note_capacity;
    er_job_said *said;
    size_t said_count, said_capacity;
    er_arena *arena;
    er_err *err;
} er_job_reader;

/* Where a piece of text comes from. */
typedef struct er_job_origin {
    const char *name; /* file, or "--set key=value" */
    int source;       /* er_job_source */
    int placed;       /* lines and columns are named for ER_JOB_SET, too */
} er_job_origin;

int er_job_note_add(er_job_reader *r, int warning, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Row of a full key: 1 and its indexes, or 0. */
int er_job_find(const er_job *job, const char *key, size_t *table, size_t *row);
/* "FILE:LINE:COLUMN" where the key was set, or the job's path. */
const char *er_job_place(const er_job_reader *r, const char *key);
int er_job_source_of(const er_job *job, const char *key);
/* "NAME:LINE:COLUMN" in the arena; the name alone for --set on the command line. */
int er_job_where(const char **out, er_job_reader *r, const er_job_origin *o, int64_t line, int64_t column);

/* Every key below a mapping. prefix: "" or "data." */
int er_job_apply(er_job_reader *r, const er_job_origin *o, const er_yaml *map, const char *prefix);
/* One value of a key that has a row. */
int er_job_apply_value(er_job_reader *r, const er_job_origin *o, const char *key, const er_yaml *node);
/* er_job_parity by name; ER_JOB_PARITY_NONE for NULL and for what is no face: refused where the key is read. */
int er_job_parity_of(const char *name);
/* A key's value as the face presets it: a default that has a place. */
int er_job_preset(er_job_reader *r, int face, const char *key, const char *value);
/* Back to the default, as if nobody had set it. */
int er_job_reset(er_job_reader *r, const char *key);
/* One "key=value". */
int er_job_apply_set(er_job_reader *r, const er_job_setting *setting);
/* The key that another spelling stands for, or the key itself. */
const char *er_job_settled(const char *key);

/* The keys of the hparams file at source ER_JOB_HPARAMS; *root from er_yaml_read. */
int er_job_hparams(er_job_reader *r, const char *path, const er_yaml *root);
/* Warnings where the file's fp16 and model_name disagree with the finished job (hparams_agree.c). */
int er_job_hparams_agree(er_job_reader *r);
/* Whether a method may read a file whose alg_name, in lower case, is this. */
int er_job_hparams_suits(const char *alg_name, const char *method);
/* Its alg_name in lower case, or NULL. */
int er_job_hparams_method(const char **out, er_job_reader *r, const er_yaml *root);
/* Remembers what the hparams file said; then, after all keys are set, notes what was overridden. */
int er_job_hparams_keep(er_job_reader *r, const char ***values);
int er_job_hparams_overrides(er_job_reader *r, const char *path, const char *const *values);

/* What must hold between keys; settles the choices of which one member counts. */
int er_job_check(er_job_reader *r);
/* The part of it in job_guards.c: guards and score.drift. */
int er_job_check_guards(er_job_reader *r);

#endif
