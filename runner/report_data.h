/* SPDX-License-Identifier: Apache-2.0 */
/* What a report knows of a run: its files, read and reduced. Only summary.json must be there; what else is absent or
 * damaged is named in the notes and missing from the report. */
#ifndef ER_RUNNER_REPORT_DATA_H
#define ER_RUNNER_REPORT_DATA_H

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"

#include <stdint.h>

/* The groups that the papers' scores are made of. */
enum { ER_REPORT_EFF, ER_REPORT_GEN, ER_REPORT_SPE, ER_REPORT_GROUPS };
typedef struct er_report_group {
    const char *name, *title; /* "rewrite", "Eff" */
} er_report_group;
extern const er_report_group er_report_groups[ER_REPORT_GROUPS];

/* A line of cases.jsonl. Means over the group's prompts; NAN where there is nothing to say. */
typedef struct er_report_case {
    const char *moment, *reason;
    int64_t case_id, index, edits;
    int failed;
    double success[ER_REPORT_GROUPS], accuracy[ER_REPORT_GROUPS];
    double new_nll, true_nll; /* of the rewrite prompts */
} er_report_case;

/* Lines of events.jsonl. */
typedef struct er_report_target {
    int64_t case_id, index, batch, steps;
    int failed, flat;
    const char *reason, *stop; /* reason: NULL when none */
    float *total;              /* (steps), NAN where the file says null */
    double init_norm, delta_norm, target_norm;
    double reached, after; /* probability at the last step; of the plain prompt in the edited model. NAN: none */
} er_report_target;

typedef struct er_report_layer {
    int64_t batch, layer, requests, history_rows, history_rank; /* rows: before the batch */
    double z_error, update_norm, weight_norm, condition, total_norm;
    double keys[4]; /* means over requests of norm, saturation, nullspace, shift; NAN: not measured */
    char matrix[8]; /* "q", "gate", ...; "": the down projection */
} er_report_layer;

/* {"event":"spectrum","layer":,"dimension":,"kept":,"points":[[index, eigenvalue], ...]}, indices from 0, ascending. */
typedef struct er_report_spectrum {
    int64_t layer, dimension, kept, count; /* kept < 0: no projection */
    double *index, *value;                 /* (count) */
} er_report_spectrum;

typedef struct er_report_phase {
    const char *name;
    double seconds; /* all batches and all starts of the run */
    int64_t count;
    double forecast, forecast_for; /* seconds that were planned, and those that were taken where a plan was */
} er_report_phase;

/* A rank's memory in the last start that says it, bytes; NAN: not said. */
typedef struct er_report_memory {
    int64_t rank;
    double planned, peak, pss;
} er_report_memory;

typedef struct er_report_option {
    const char *key, *value; /* "editor.v_lr", "0.5" */
} er_report_option;

typedef struct er_report {
    const char *folder, *name; /* name: the folder's last part */
    er_arena *arena;
    json_t *summary, *inputs, *env; /* inputs, env: NULL when absent */
    json_t *guards;                 /* guards' lines of events.jsonl */
    int unfinished;                 /* summary: made here, of what there is */
    const char *job_text;           /* job.resolved.yaml; NULL when absent */
    er_report_option *options;
    er_report_case *cases;
    er_report_target *targets;
    er_report_layer *layers;
    er_report_spectrum *spectra;
    er_report_phase *phases;
    er_report_memory *memory;
    const char **notes;
    size_t option_room, case_room, target_room, layer_room, spectrum_room, phase_room, memory_room, note_room;
    int64_t option_count, case_count, target_count, layer_count, spectrum_count, phase_count, memory_count, note_count;
} er_report;

/* Not collective. Zeroes *r first; er_report_close is due after success and failure. A summary.json that is absent, no
 * JSON object or of another schema is an error naming it. A run that is still at work (scores.journal, no summary.json)
 * is reported on as it stands; its scores are read where its model and data are there. */
enum er_report_need {
    ER_REPORT_SUMMARY, /* summary.json, which must be there, and the job; no notes */
    ER_REPORT_EVENTS,  /* events.jsonl, too */
    ER_REPORT_ALL
};
int er_report_open(er_report *r, const char *folder, enum er_report_need need, er_err *err);
void er_report_close(er_report *r);

int er_report_note(er_report *r, er_err *err, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The value of a key of the resolved job, `otherwise` when it has none. */
const char *er_report_option_of(const er_report *r, const char *key, const char *otherwise);
/* The last part of a path. */
const char *er_report_base(const char *path);

/* summary.json: one number of scores[moment][group][metric], NAN when absent or null; of protocol and edits. */
double er_report_score(const er_report *r, const char *moment, const char *group, const char *metric, const char *what);
double er_report_total(const er_report *r, const char *moment); /* scores[moment].score */
int64_t er_report_edits(const er_report *r, const char *what);  /* edits[what], 0 when absent */
/* The moment that stands for the whole run: at_end, else the last one in the file; NULL when there is none. */
const char *er_report_last_moment(const er_report *r);

/* Each line of a small file of JSON lines in the run's folder; a file that is not there has none. ER_E_FORMAT and the like for
 * a line that is no JSON. */
int er_report_each_line(const er_report *r, const char *name, void (*take)(void *context, const json_t *line),
                        void *context, er_err *err);

/* report_options.c: reads the resolved job's keys into r->options. */
int er_report_read_options(er_report *r, er_err *err);
/* report_lines.c: reads events.jsonl, and with all cases.jsonl and timings.jsonl. */
int er_report_read_lines(er_report *r, int all, er_err *err);
/* report_unfinished.c: makes r->summary of options, events and drift.jsonl. */
int er_report_unfinished(er_report *r, er_err *err);

#endif
