/* SPDX-License-Identifier: Apache-2.0 */
/* The job: what to run, read from a small YAML file, checked and then frozen.
 *
 * Life cycle: er_job_read fills the struct from its defaults, the hparams file, the job file and --set (each beats the
 * one before), checks every value and what must hold between them, and settles the choices of which only one member
 * counts (see the enums below). After that the job is constant. All its texts, lists and rows live in the arena that
 * er_job_read was given. This room knows neither models nor editors: the method's own hyperparameters are rows that
 * the caller contributes through er_job_editor.
 *
 * Every message is one line "FILE:LINE:COLUMN: ..., expected ..., did you mean '...'?" ("--set KEY=VALUE: ..." for the
 * command line) with ER_E_INPUT. */
#ifndef ER_JOBS_JOB_H
#define ER_JOBS_JOB_H

#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/text.h"

#include <stddef.h>
#include <stdint.h>

enum er_job_precision { ER_JOB_FP32, ER_JOB_BF16, ER_JOB_FP16 };
enum er_job_format {
    ER_JOB_COUNTERFACT, /* the authors' counterfact.json and multi_counterfact.json */
    ER_JOB_EASYEDIT,    /* the flat counterfact-edit.json */
    ER_JOB_ZSRE,
    ER_JOB_KNOWEDIT,
    ER_JOB_FACTS, /* errata's own: see jobs/README.md */
};
enum er_job_target { ER_JOB_TARGET_NONE, ER_JOB_TARGET_ANSWERS, ER_JOB_TARGET_ALT };
enum er_job_conflicts { ER_JOB_KEEP, ER_JOB_DROP, ER_JOB_ERROR };
enum er_job_mode {
    ER_JOB_SEQUENTIAL, /* batch after batch on one evolving model */
    ER_JOB_BATCH,      /* one batch of all */
    ER_JOB_SINGLE,     /* weights and history restored after each batch */
};
enum er_job_protocol { ER_JOB_SCORE_COUNTERFACT, ER_JOB_SCORE_ZSRE, ER_JOB_SCORE_EASYEDIT };
enum er_job_parity { ER_JOB_PARITY_NONE, ER_JOB_PARITY_EASYEDIT, ER_JOB_PARITY_AUTHORS };

/* What is watched while a run edits, in the order in which it is looked at (runner/guard.h says what each measures). */
enum er_job_guard_id {
    ER_GUARD_NONFINITE,
    ER_GUARD_FLAT_LOSS,
    ER_GUARD_TARGET,
    ER_GUARD_KEY_NORM,
    ER_GUARD_SATURATION,
    ER_GUARD_NULLSPACE,
    ER_GUARD_SHIFT,
    ER_GUARD_UPDATE_NORM,
    ER_GUARD_TOTAL_NORM,
    ER_GUARD_CAPACITY,
    ER_GUARD_VERIFY,
    ER_GUARD_PERPLEXITY,
    ER_GUARD_AGREEMENT,
    ER_GUARD_KL,
    ER_GUARDS
};
enum er_job_guard_do { ER_GUARD_WARN, ER_GUARD_SKIP, ER_GUARD_ROLLBACK, ER_GUARD_STOP };
typedef struct er_job_guard {
    double at; /* limit; 0: the guard's own, which may be none */
    int act;   /* er_job_guard_do */
} er_job_guard;
enum er_job_measure { ER_MEASURE_NONE, ER_MEASURE_VERIFY, ER_MEASURE_KEYS, ER_MEASURE_ALL }; /* bits: 1 verify, 2 keys */

/* Choices of which one member counts. The member set by the stronger source (--set over the job file) wins; two
 * members from the same source are an error. The losing member's keys are put back to their defaults, so that neither
 * the hash nor the resolved copy shows them. */
enum er_job_order { ER_JOB_ORDER_FILE, ER_JOB_ORDER_SHUFFLE };              /* none given: file */
enum er_job_corpus { ER_JOB_CORPUS_SAMPLE, ER_JOB_CORPUS_FILE };            /* none given: sample with its defaults */
enum er_job_templates { ER_JOB_TEMPLATES_GENERATE, ER_JOB_TEMPLATES_FILE }; /* none given: generate, seed 1 */

/* A line for the person who started the job: the runner prints it once, as a warning or as information. */
typedef struct er_job_note {
    int warning;
    const char *text;
} er_job_note;

/* A key of the hparams file as it stands there, whether the method reads it or not; of a list its first scalar. */
typedef struct er_job_said {
    const char *key, *text;
    const char *place; /* "FILE:LINE:COLUMN" of the value */
} er_job_said;

enum { ER_JOB_TABLES = 2 };

/* Paths are absolute: relative ones were joined to the job file's folder. */
typedef struct er_job {
    struct {
        const char *path; /* a Hugging Face folder or a GGUF file */
    } model;
    struct {
        int weights, compute, update, optimizer; /* er_job_precision */
        int master, measure;
    } precision;
    struct {
        const char *method;  /* as written in the job file, or the hparams file's alg_name in lower case */
        const char *hparams; /* NULL: none. Its values are in the editor's struct already */
    } editor;
    struct {
        int format; /* er_job_format */
        const char *path;
        int64_t skip;  /* with the records for tuning */
        int64_t tune;  /* the row behind data.tune, 0 once it is settled; read `tuned` instead */
        int64_t tuned; /* records for tuning, which end where skip ends */
        int64_t count;   /* records to edit; 0: all */
        const char *ids; /* NULL: all records */
        int order;       /* er_job_order; settled by er_job_read */
        int64_t shuffle; /* seed, with ER_JOB_ORDER_SHUFFLE */
        int target;      /* er_job_target */
        int conflicts;   /* er_job_conflicts */
        int file_order;  /* the row behind "order: file"; read `order` instead */
    } data;
    struct {
        int mode;      /* er_job_mode */
        int64_t batch; /* edits per batch; 0 with ER_JOB_BATCH: all in one. Default 10; 1 with ER_JOB_SINGLE; never
                          above the method's own limit, which ROME has at 1 */
    } edit;
    struct {
        const char *store;
        const char *imported; /* NULL: measured on the corpus; else the name of statistics that were imported */
        int corpus; /* er_job_corpus; settled by er_job_read */
        struct {
            const char *path;
            int64_t documents;  /* 0: all */
            int64_t max_tokens; /* per document */
        } file;
        struct {
            int64_t tokens, seed;
        } sample;
    } stats;
    struct {
        int source; /* er_job_templates; settled by er_job_read */
        const char *file;
        int64_t seed;
    } templates;
    struct {
        int before, at_edit, at_end; /* at_end is off by default with ER_JOB_SINGLE */
        int64_t every;               /* edits; 0: never; else a multiple of edit.batch */
        int64_t sample;              /* cases scored at `every`; 0: all so far */
        int fixed;                   /* the sample is drawn once, from all edits */
        int protocol;                /* er_job_protocol */
        int64_t greedy;              /* ids of greedy continuation; 0: none */
        int64_t generate;            /* cases, from the first, whose generated texts are judged; 0: none */
        const char *snippets, *tfidf_vocab, *tfidf_idf; /* reference texts; all three or none */
        struct {
            const char *path; /* NULL: texts of the unedited model */
            int64_t tokens;   /* held out; 0: no perplexity */
            int64_t probe;    /* prompts of the probe; 0: none */
            int64_t every;    /* edits; 0: as `every` above */
        } drift;
    } score;
    struct {
        er_job_guard guard[ER_GUARDS];
        int measure;  /* er_job_measure; settled by er_job_read: what a guard needs is measured, too */
        int has_drift; /* a guard looks at score.drift; made by er_job_read */
    } guards;
    int parity; /* er_job_parity */
    int64_t seed;
    struct {
        int64_t unit, shards;
        int64_t memory; /* bytes */
        double timeout; /* seconds; 0: never */
        double grace;   /* seconds; 0: no limit */
        const char *cache; /* NULL: none */
    } run;
    const char *out;

    /* made by er_job_read */
    const char *path;   /* of the job file */
    const char *folder; /* that relative paths were joined to; absolute */
    int64_t note_count;
    const er_job_note *notes; /* overrides of the hparams file, keys that nothing reads, ... */
    int64_t said_count;
    const er_job_said *said; /* the hparams file, for whoever knows the model (runner/agree.h) */
    const char *const *place[ER_JOB_TABLES]; /* per row of tables: where its value is from; NULL: the default */
    size_t table_count;
    er_option_table tables[ER_JOB_TABLES]; /* [0] the job's own rows, target: this struct; [1] the editor's.
                                              A copy of the struct must not outlive or replace the original. */
} er_job;

/* The job's rows, without the editor's: for help and docs. */
extern const er_option er_job_rows[];
extern const size_t er_job_row_count;

/* Who knows the editors. `table` is called once, when the method is known and before any of its keys is set: it fills
 * prefix ("editor."), rows, count and target (er_job_read makes `set` and the defaults), and *batch_most: the largest
 * edit.batch of the method, 1 for ROME, left at 0 where there is no limit. An unknown method is its ER_E_INPUT, without
 * a place: er_job_read puts "FILE:LINE:COLUMN: " in front. */
typedef struct er_job_editor {
    int (*table)(void *context, const char *method, er_option_table *out, int64_t *batch_most, er_err *err);
    void *context;
    /* The index-th full key that this er_job_parity presets for the method that `table` was asked for, and its value; 0
     * behind the last. NULL: it presets none. Whatever sets the key comes before it. */
    int (*preset)(void *context, int parity, int64_t index, const char **key, const char **value);
} er_job_editor;

/* One override as from --set; a sweep's come from a place in its file. */
typedef struct er_job_setting {
    const char *text; /* "key=value" */
    const char *file; /* NULL: the command line, and the places below count for nothing */
    int64_t line, column, value_line, value_column;
} er_job_setting;

/* Reads and checks the job at `path`. sets: "key=value" (value as in YAML: "[4, 5]", "{shuffle: 3}"); paths in them
 * are relative to the job file like all others. *job is written only on success; the editor's target and *job's
 * arena pieces are the arena's. A job of precision or mode that the program cannot run yet is not refused here. */
int er_job_read(er_job *job, const char *path, const er_job_editor *editor, const char *const *sets, size_t set_count,
                er_arena *arena, er_err *err);
/* The same with overrides from anywhere, in this order; messages name their places. */
int er_job_read_settings(er_job *job, const char *path, const er_job_editor *editor, const er_job_setting *settings,
                         size_t count, er_arena *arena, er_err *err);
/* --set texts as settings, in the arena. */
int er_job_settings(er_job_setting **out, const char *const *sets, size_t count, er_arena *arena, er_err *err);

/* "FILE:LINE:COLUMN" (or "--set KEY=VALUE", or "parity: NAME" where the face presets it) of a full key's value, NULL
 * where it is the default or there is no such key. */
const char *er_job_place_of(const er_job *job, const char *key);
/* What the hparams file says of a key; NULL: no such file, or not in it. */
const er_job_said *er_job_said_of(const er_job *job, const char *key);

/* Appends the value of a full key as text that --set would read back; a path as it is held, absolute. *is_path
 * (NULL allowed) says which. ER_E_INPUT: no such key. */
int er_job_print(er_text *out, const er_job *job, const char *key, int *is_path, er_err *err);

/* The resolved job as YAML, with absolute paths and without editor.hparams (its values are among the keys), which
 * er_job_read reads back to an equal job (equal hash, equal dump). With execution == 0
 * the run: group and out are left out: two runs of the same content then give the same bytes wherever and however
 * they ran. */
int er_job_dump(er_text *out, const er_job *job, int execution, er_err *err);

/* Content keys of the job and the editor into h. Files are not read: the content behind model.path, data.path,
 * data.ids, stats.corpus.path and templates.file is hashed by whoever reads it. identity != 0: without the keys that
 * extend a run (data.count, score.*), for the name of the run's folder. */
void er_job_hash(er_hasher *h, const er_job *job, int identity);

/* "update_norm" of er_job_guard_id, "warn" of er_job_guard_do. */
const char *er_job_guard_name(int guard);
const char *er_job_guard_action(int action);
/* Into h, for the name of the run's folder: guards that leave edits out, and what is measured of each edit. Nothing where
 * all guards warn or stop and nothing is measured: such runs share the edits of a run that has no guards. */
void er_job_hash_guards(er_hasher *h, const er_job *job);

/* Help page (markdown == 0) or docs table of all keys. editor NULL: the job's own rows only. */
int er_job_help(er_text *out, const er_option_table *editor, int markdown, er_err *err);

#endif
