/* SPDX-License-Identifier: Apache-2.0 */
/* What `errata plan` says: the figures of cost.h for one model and one way of editing it, as a sheet. */
#ifndef ER_RUNNER_PLAN_H
#define ER_RUNNER_PLAN_H

#include "editors/editor.h"
#include "jobs/dataset.h"
#include "jobs/job.h"
#include "model/tokenizer.h"
#include "runner/cost.h"
#include "runner/machine.h"
#include "runner/sheet.h"

typedef struct er_plan {
    const er_config *config;
    const char *path; /* as the user named the model */
    const er_editor *editor;
    const er_hyper *hyper;
    int weights;      /* enum er_dtype of the rank's memory; -1: all three */
    int64_t edits, batch, unit;
    int64_t shards;     /* ranks that hold the model together; 0, 1: each the whole */
    double rank_memory; /* bytes that a rank may take; 0: not said */
    er_cost_texts texts;
    er_cost_shared shared; /* of the texts of a unit */
    const char *texts_from; /* where they are from, for people */
    double tokens, document; /* of statistics; mean length of a document */
    const char *tokens_from;
    /* scores: of one record, and at how many moments; 0 prompts: no job */
    double prompts, prompt_tokens, prompt_heads, moments;
    er_machine machine;       /* rates of a rank */
    const char *machine_from; /* NULL: no times */
} er_plan;

/* Adds the sections; *sheet has an arena and err. */
void er_plan_model(er_sheet *sheet, const er_config *c, const char *path);
void er_plan_edit(er_sheet *sheet, const er_plan *p);
/* plan_nodes.c: times of all edits on so many nodes ("1,2,4"), each with one taker of p->machine's rates; with shards
 * groups of p->shards nodes, and as many ranks on a node. */
void er_plan_nodes(er_sheet *sheet, const er_plan *p, const char *nodes);

/* plan_tokenizer.c: the tokenizer of a model's folder or GGUF file, whose weights are not read. */
int er_plan_tokenizer(er_tokenizer **out, const char *path, er_err *err);

/* plan_absent.c: a job whose files are not there yet is planned by what it says of them. */

struct er_setup;
/* The job's data set, or, where its file is absent and data.count names a number, that many edits without texts
 * (data.requests stays NULL), with a warning. Collective. */
int er_plan_open_data(struct er_setup *s, er_err *err);
/* Tokens of the statistics without a tokenizer: the sample's; a file's at four bytes each and no more than may be taken
 * of it; of an absent file all that may be taken, where the job bounds it. *document: mean length of a document, unless
 * nothing is known of it. from: where the figure is from, for people. */
double er_plan_assume_tokens(const er_job *job, double *document, char *from, size_t size);

/* plan_show.c: prints text, ids, subject index and target ids of the first `most` requests. ER_E_INPUT: no tokenizer (why it
 * does not open), or the data set is not there. */
int er_plan_show(const struct er_setup *s, const er_config *config, const er_tokenizer *t, const er_err *why,
                 int64_t most, er_err *err);

/* plan_texts.c: tokens of texts. */

/* Rows of a request with the templates that the method generates, and the mean of what they put before the prompt: a
 * template's tokens and its full stop. */
int er_plan_rows(double *rows, double *prefix, const er_editor *editor, const er_hyper *hyper, er_err *err);
/* What is assumed without a tokenizer: means of CounterFact's records. P,S,T as --tokens gives them; NULL: these. */
int er_plan_texts_assumed(er_cost_texts *out, const er_editor *editor, const er_hyper *hyper, const char *given,
                          er_err *err);
/* Means over the data set's requests (the first `most` of those that can be edited) and what units of `unit` of them
 * share. known: the templates that texts are made with; NULL: those of the job's file, or generated ones by their planned
 * lengths, and then *out keeps the shares of rows and keys that it has. */
typedef struct er_plan_scored {
    double prompts, tokens, heads; /* scored prompts of a record, their positions, rows of logits */
} er_plan_scored;
typedef struct er_plan_counted {
    int64_t requests; /* counted; 0: none could be encoded, and the rest is as it was */
    er_cost_texts texts;
    er_plan_scored scored;
    er_cost_shared shared;
} er_plan_counted;
int er_plan_texts_of(er_plan_counted *out, const er_tokenizer *t, const er_job *job, const er_dataset *data,
                     const er_editor *editor, const er_hyper *hyper, const er_config *config,
                     const er_templates *known, int64_t unit, int64_t most, er_err *err);
/* Shares where nothing is counted: CounterFact's first 64 records in units of 8 with five templates. */
extern const er_cost_shared er_plan_shared_assumed;

/* plan_job.c: a job's figures. */

/* Where they are from, for people: a plan's texts_from and tokens_from. */
typedef struct er_plan_words {
    char texts[256], tokens[256];
} er_plan_words;
/* Fills *p from a job that is read, with its data (er_setup_open or er_plan_open_data). t: NULL when there is no
 * tokenizer: texts are assumed, or `given` as --tokens has them (else NULL). known: the run's templates, NULL: the job's.
 * The job's corpus is counted where it is open, or can be with t. *p keeps pointers to all of these. */
int er_plan_of_job(er_plan *p, er_plan_words *words, struct er_setup *job, const er_config *c, er_tokenizer *t,
                   const char *given, const er_templates *known, int64_t most, er_err *err);

#endif
