/* SPDX-License-Identifier: Apache-2.0 */
/* One run: edits of a job batch after batch, scores at the moments asked for, and the files of DESIGN section 8.
 *
 * Everything that took time is on disk as soon as it is done: targets and scores in a journal, batches in the
 * ledger. A run is therefore always "continued": what the folder holds is folded or looked up, the rest is computed,
 * and the final files are written from the whole. Only their times and hosts differ from those of a run that was never
 * interrupted. Functions are collective unless they say "rank 0". */
#ifndef ER_RUNNER_RUN_H
#define ER_RUNNER_RUN_H

#include "base/log.h"
#include "editors/stabilise.h"
#include "runner/cache.h"
#include "runner/evaluate.h"
#include "runner/forecast.h"
#include "runner/judge.h"
#include "runner/journal.h"
#include "runner/ledger.h"
#include "runner/drift_parts.h"
#include "runner/overlay.h"
#include "runner/scores.h"
#include "runner/setup.h"

/* Cases scored on the model after one batch, in case order. */
typedef struct er_scoring {
    char moment[32]; /* before, at_edit, after_N, at_end */
    int64_t batch;   /* the state: after this batch, -1: unedited */
    int64_t edits;   /* edits in that state */
    int64_t count;
    int64_t *cases; /* indices of requests */
} er_scoring;

typedef struct er_run {
    er_world *w;
    er_setup setup;
    char *ledger; /* folder */
    int64_t scoring_count;
    er_scoring *scorings; /* by batch, in the order in which they are computed; in the setup's arena */
    er_templates templates;
    er_edit_context edit;
    er_overlay overlay;
    er_view clean; /* the unedited model, for methods with clean_targets */
    er_hash base; /* state of the unedited model */

    /* rank 0 */
    int lock;
    er_journal *journal; /* of scores; NULL: they are not kept (errata eval) */
    er_cache *cache;     /* shared with other runs; NULL: none */
    er_record *heads;    /* (heads_room); the first head_count are in the ledger */
    int64_t heads_room;
    er_hash *case_keys; /* (data.count) content of each case */
    er_scores scores;
    er_judge *judge; /* of generated texts; NULL: none are asked for */
    er_eigen *eigen;      /* per edited layer, where needed */
    er_history **history; /* per edited layer, where the method has one */
    er_guarded *guarded;  /* per edited layer: what stabilisers keep of the clean weights */
    struct er_guard_layer *guard; /* per edited layer, where keys are measured (guard.h) */
    er_progress edits;
    er_forecast forecast; /* of a run that has something to do */

    er_states *states; /* of scored texts below the first edited layer; NULL: none are kept */
    er_drift drift;
    int64_t head_count; /* equal on all ranks */
    int foreign;        /* the cases are not the run's edits (errata eval --data) */
    double started;
} er_run;

/* --- run_folder.c: the folder and what stands in it -------------------------------------------------------------- */
/* Locks the folder, removes what killed writers left, opens journal and ledger. Records behind the first whose
 * requests differ from the job's batch (a last, partial batch before count was raised) are removed. */
int er_run_open_folder(er_run *r, er_err *err);
/* Rank 0, before anything is written to a new folder. Warns of an unfinished run of the same name beside it, with the keys
 * that differ: a changed job does not continue the old run. */
int er_run_warn_siblings(const er_run *r, er_err *err);
/* Any rank. The lock of the run in `folder`, beside it; to be er_freed. */
int er_run_lock_path(char **out, const char *folder, er_err *err);
/* Rank 0. One line of timings.jsonl. */
int er_run_time(er_run *r, const char *phase, int64_t batch, double seconds, er_err *err);
/* The same with what was forecast (forecast.h); NAN: nothing was. */
int er_run_time_planned(er_run *r, const char *phase, int64_t batch, double seconds, double planned, er_err *err);
/* A line as it stands, its end included. */
int er_run_time_line(er_run *r, const char *line, er_err *err);
/* Rank 0. The last line, of phase "all", with what was computed and what was found. */
int er_run_time_all(er_run *r, er_err *err);
/* Rank 0. job.resolved.yaml and env.json, at the start. */
int er_run_write_start(er_run *r, er_err *err);
/* Rank 0. inputs.json. */
int er_run_write_inputs(er_run *r, er_err *err);
/* Rank 0. The path of a file in the run's folder, to be er_freed. */
int er_run_path(const er_run *r, char **out, const char *name, er_err *err);
void er_run_close(er_run *r);

/* --- run_score.c ------------------------------------------------------------------------------------------------- */
/* Adds a scoring of the cases [first, first + count); r->scorings must have room. */
int er_run_add_scoring(er_run *r, const char *moment, int64_t batch, int64_t edits, int64_t first, int64_t count,
                       er_err *err);
/* Rank 0. What case `index` has on the unedited model in every run: the key of the cache. */
int er_run_shared_score_key(const er_run *r, int64_t index, er_hash *key, er_err *err);
/* Rank 0. Into h: the unedited model as it computes, for keys of the cache. */
void er_run_hash_unedited(er_hasher *h, const er_run *r);
void er_job_hash_unedited(er_hasher *h, const er_job *job, const er_hash *weights, const er_hash *tokenizer);
/* Rank 0. Publishes what the run has for others; a cache that cannot be written is a warning. */
void er_run_share(er_run *r, int all);
/* Fills scorings from the job. */
int er_run_plan_scores(er_run *r, er_err *err);
/* How the run's job scores. */
er_scorer er_run_scorer(const er_run *r);
/* Rank 0. Key of case `index` at a state. */
int er_run_score_key(const er_run *r, int64_t index, const er_hash *state, er_hash *key, er_err *err);
/* Rank 0. State after batch b (-1: unedited), NULL while unknown. */
const er_hash *er_run_state(const er_run *r, int64_t batch);
/* Rank 0. Content of all cases, which keys need, and the judge of generated texts; er_run_load_scores does it, too. */
int er_run_make_case_keys(er_run *r, er_err *err);
/* Rank 0. Scores found in an earlier cases.jsonl and in the journal become known. */
int er_run_load_scores(er_run *r, er_err *err);
/* Rank 0. Cases of all scorings that are not scored yet. */
int er_run_missing_scores(const er_run *r, int64_t *missing, er_err *err);
/* Scores what is asked for after batch b and not known yet, on the overlay as it stands. */
int er_run_score(er_run *r, int64_t batch, er_err *err);
/* Rank 0. The known score of a case at a state, in the arena; ER_E_INTERNAL when unknown. */
int er_run_get_score(const er_run *r, int64_t index, const er_hash *state, er_case_score *out, er_arena *arena,
                     er_err *err);

/* --- run_edit.c -------------------------------------------------------------------------------------------------- */
/* Reads what solving needs (eigenpairs, histories), on rank 0. */
int er_run_open_editing(er_run *r, er_err *err);
/* Brings the overlay (which stands behind batch b - 1, or at the base in mode single) behind batch b: folds its record
 * or makes it. */
int er_run_batch(er_run *r, int64_t b, er_err *err);

/* --- run_anchor.c ------------------------------------------------------------------------------------------------ */
/* NAS (editors/anchor.h): the norm that values keep, from the job or from anchor.json in the run's folder, or measured
 * on the job's first requests and written there. A run that is continued goes on measuring where it stopped. */
int er_run_anchor(er_run *r, er_err *err);

/* --- run.c ------------------------------------------------------------------------------------------------------- */
/* What became of a run, on rank 0. */
typedef struct er_run_outcome {
    char *folder; /* to be er_freed, also after failures; NULL when it was not known yet */
    int64_t requested, failed; /* edits */
    er_counts counts;
} er_run_outcome;

typedef struct er_run_options {
    int force;         /* measure statistics with too few tokens */
    int64_t shards;    /* er_run_eval: as run.shards; 0: 1 */
    const char *table; /* md, csv, tex or NULL for text: how the table is printed */
    /* one of several jobs of this process: */
    const er_job_setting *settings; /* (setting_count) instead of `sets`, where not NULL */
    size_t setting_count;
    er_share *share;
    er_run_outcome *outcome; /* filled; and nothing is printed on stdout */
} er_run_options;
/* The whole of `errata eval`: scores of the run in `folder` with its first `at` edits (-1: all; must end a batch), and
 * of its unedited model, on its own edited cases or on those of the file `data`. The table goes to stdout, lines go to
 * FOLDER/eval/<moment>.jsonl (not with `data`). The folder may belong to a run at work. */
int er_run_eval(er_world *w, const char *folder, int64_t at, const char *data, const er_run_options *options,
                er_err *err);
/* Not collective. Appends {"scores", "retention"} of summary.json for a run that has not ended: the moments whose cases
 * are all scored, from the ledger's heads and the journal. Opens model and data; writes nothing; the run may be at
 * work. */
int er_run_so_far(er_text *out, const char *folder, er_err *err);
/* The whole of `errata run`. *failed: edits that failed. */
int er_run_job(er_world *w, const char *path, const char *const *sets, size_t set_count,
               const er_run_options *options, int64_t *failed, er_err *err);

#endif
