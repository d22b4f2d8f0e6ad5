/* SPDX-License-Identifier: Apache-2.0 */
/* A job made ready: its file read and checked, data set, model and editor opened, and what names the run.
 *
 * Life cycle: er_setup_job, then er_setup_open where more than the job is needed, er_setup_close at the end (also
 * after failures). Every rank holds the same setup; the functions are collective and fail together. */
#ifndef ER_RUNNER_SETUP_H
#define ER_RUNNER_SETUP_H

#include "editors/editor.h"
#include "jobs/dataset.h"
#include "jobs/job.h"
#include "model/generate.h"
#include "runner/node.h"
#include "runner/overlay.h"
#include "runner/share.h"
#include "runner/world.h"
#include "stats/corpus.h"
#include "stats/store.h"

#include <stdint.h>

/* What a job computed and what it found instead; rank 0's are the whole. */
typedef struct er_counts {
    int64_t moments, eigenpairs;               /* layers measured and factored */
    int64_t targets, targets_reused;           /* optimised; taken from the cache of other runs */
    int64_t scores, scores_reused;             /* cases scored, so counted for every moment */
    int64_t templates, templates_reused;       /* drawn sets of templates */
} er_counts;

typedef struct er_setup {
    er_world *world;
    er_share *share; /* set before er_setup_open: whose model and corpus serve; NULL: the setup's own */
    er_counts counts;
    int quiet; /* set before er_setup_job: notes are not logged */
    int whole; /* set before er_setup_open: each rank opens the whole model, whatever run.shards says */
    er_arena *arena;
    er_job job;
    const er_editor *editor;
    er_hyper hyper;
    er_dataset data;
    er_model *model;
    er_node node; /* behind the model */
    er_work *work;
    int64_t batch;      /* edits per batch, settled */
    int64_t batches;
    unsigned needs;     /* enum er_needs */
    er_corpus *corpus;  /* NULL until er_setup_corpus */
    er_hash identity;   /* of the run, without what extends it */
    char *run;          /* its folder: OUT/NAME-HASH */
    char preset[80];    /* the key that a face's preset was last asked of */
} er_setup;

/* What a job needs opened. */
enum er_setup_part { ER_SETUP_DATA = 1, ER_SETUP_MODEL = 2, ER_SETUP_NAME = 4 /* needs the other two */ };

/* Collective. s must be zeroed. Notes of the job are logged by rank 0. `sets` as er_job_read's. */
int er_setup_job(er_setup *s, er_world *w, const char *path, const char *const *sets, size_t set_count, er_err *err);
int er_setup_settings(er_setup *s, er_world *w, const char *path, const er_job_setting *settings, size_t count,
                      er_err *err);
int er_setup_open(er_setup *s, unsigned parts, er_err *err);
/* Collective. Opens the corpus when it is not open yet (reads and encodes a file's documents). With stats.imported
 * there is none: nothing is done. */
int er_setup_corpus(er_setup *s, er_err *err);
void er_setup_close(er_setup *s);

/* The job's overlay on the setup's model, its matrices held as precision.update says. */
int er_setup_overlay(const er_setup *s, er_overlay *o, er_err *err);

/* Logs where the passes since the last call met values beyond what precision.compute holds, if they did. */
void er_setup_warn_beyond(const er_setup *s);

/* Into h: the rule of the targets where parity alone does not say it; nothing for jobs that are older than the rule. */
void er_setup_hash_rule(er_hasher *h, const er_setup *s);
/* The setup as the reader of its job asks for it: finds the editor and fills s->hyper. s->arena must be there. */
er_job_editor er_setup_job_editor(er_setup *s);

/* Requests of batch b: first index and count. */
void er_setup_batch(const er_setup *s, int64_t b, int64_t *first, int64_t *count);
/* What stands for the corpus in keys of statistics: its hash (it must be open), or, with stats.imported, that of the
 * name. */
er_hash er_setup_corpus_hash(const er_setup *s);
/* Key of a layer's statistics; the corpus must be open unless they are imported. */
er_stats_key er_setup_stats_key(const er_setup *s, int64_t layer);
/* For help pages: the rows of a method's hyperparameters (NULL method: the first editor). */
int er_setup_editor_table(er_option_table *out, er_hyper *hyper, const char *method, er_arena *arena, er_err *err);

#endif
