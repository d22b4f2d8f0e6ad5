/* SPDX-License-Identifier: Apache-2.0 */
/* `errata trace`: causal tracing (stats/trace.h) over the facts of a file that a model knows, one unit a fact, and what
 * follows for the layers to edit.
 *
 * OUT/trace-<facts' name>-<hash>/ holds
 *   trace.jsonl   one line per fact, in the file's order: {"key", "case_id", "subject", "prompt", "answer", "known"};
 *                 of a known one "answer_id", "tokens", "subject_tokens": [first, end), "clean", "corrupted"
 *                 (probabilities of the answer's first token), "hidden", "mlp", "attention": probability restored, by
 *                 token and layer; of another "first_choice", what the model says instead, or "reason"
 *   trace.csv     kind,position,layer,effect,stderr,n: indirect effects averaged over facts
 *   trace.json    settings, counts, and the proposed layers
 *   trace.svg, report.html, report.md   the heat map (where gnuplot is), tables
 * A journal stands there until all facts are done, so that an interruption loses the facts in flight; lines that an
 * earlier run with a smaller count left are used again. Only report.* differ between two machines.
 *
 * A fact is known when the model's greedy continuation of the prompt is the answer, all of its tokens. Averages are
 * taken over facts, of the mean effect over a fact's positions in the same place: subject_first, subject_middle,
 * subject_last (a subject of one token is its last), after_first, after_middle, last (of the prompt). */
#ifndef ER_RUNNER_TRACE_H
#define ER_RUNNER_TRACE_H

#include "jobs/known.h"
#include "runner/journal.h"
#include "runner/node.h"
#include "runner/scores.h"
#include "stats/trace.h"

enum er_trace_place { ER_PLACE_SUBJECT_FIRST, ER_PLACE_SUBJECT_MIDDLE, ER_PLACE_SUBJECT_LAST, ER_PLACE_AFTER_FIRST,
                      ER_PLACE_AFTER_MIDDLE, ER_PLACE_LAST, ER_PLACES };
extern const char *const er_trace_places[ER_PLACES], *const er_trace_kinds[ER_TRACE_KINDS];

typedef struct er_trace_settings {
    const char *model, *facts, *out;
    int64_t count;    /* facts of the file that are looked at; 0: all */
    double noise;     /* standard deviations of the subjects' embeddings */
    int64_t propose;  /* layers in the proposal; 0: 5, or all of fewer */
    er_trace_options options; /* noise is settled by er_tracing_open; window 0: 10 of 48 layers, scaled with depth */
} er_trace_settings;

typedef struct er_tracing {
    er_world *w;
    er_trace_settings set;
    er_arena *arena;
    er_knowns knowns;
    int64_t count;
    er_model *model;
    er_node node;
    er_view view;
    er_work *work;
    double deviation; /* of the subjects' embeddings */
    char *folder;
    /* rank 0 */
    int lock;
    er_journal *journal;
    er_hash *keys; /* (count) */
    er_scores lines;
} er_tracing;

/* Averages; [place * layers + layer] of each kind. */
typedef struct er_trace_mean {
    double effect, error; /* error: standard error over facts, NAN below two */
    int64_t n;
} er_trace_mean;
typedef struct er_trace_means {
    int64_t layers, known, examined;
    double clean, corrupted; /* means over known facts */
    er_trace_mean *cell[ER_TRACE_KINDS]; /* NULL: not asked for */
    int64_t best;            /* layer of the greatest mean MLP effect at the subject's last token, -1: no MLP traced */
    int64_t low, high;       /* proposed layers [low, high] */
} er_trace_means;

/* Collective. t must be zeroed; close it also after failures. */
int er_tracing_open(er_tracing *t, er_world *w, const er_trace_settings *settings, er_err *err);
/* Collective. All facts. ER_E_SIGNAL: go on by the same command. */
int er_tracing_run(er_tracing *t, er_err *err);
void er_tracing_close(er_tracing *t);

/* One fact's line without its end, as in trace.jsonl; known facts are traced. Not collective. */
int er_trace_line(er_text *out, const er_tracing *t, int64_t fact, er_err *err);

/* Rank 0, of lines as in trace.jsonl, in order; arrays from the arena. best and the proposal are of layers whose window
 * (of `window` blocks) does not reach block 0, where `propose` such layers exist. ER_E_FORMAT: not such a line. */
int er_trace_average(er_trace_means *out, const er_text *const *lines, int64_t count, int64_t layers, unsigned kinds,
                     int64_t window, int64_t propose, er_arena *arena, er_err *err);

/* Rank 0. Writes trace.csv, trace.json, trace.svg and the report; prints the table. */
int er_trace_report(const er_tracing *t, const er_trace_means *means, er_err *err);

#endif
