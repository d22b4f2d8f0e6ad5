/* SPDX-License-Identifier: Apache-2.0 */
/* What `errata plan` says: the figures of cost.h for one model and one way of editing it, as a sheet. */
#ifndef ER_RUNNER_PLAN_H
#define ER_RUNNER_PLAN_H

#include "editors/editor.h"
#include "jobs/dataset.h"
#include "jobs/job.h"
#include "model/tokenizer.h"
#include "runner/cost.h"
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
    const char *texts_from; /* where they are from, for people */
    double tokens, document; /* of statistics; mean length of a document */
    const char *tokens_from;
    /* scores: of one record, and at how many moments; 0 prompts: no job */
    double prompts, prompt_tokens, prompt_heads, moments;
    double speed;     /* flop/s of a rank; 0: no times */
    const char *speed_from;
} er_plan;

/* Adds the sections; *sheet has an arena and err. */
void er_plan_model(er_sheet *sheet, const er_config *c, const char *path);
void er_plan_edit(er_sheet *sheet, const er_plan *p);

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
/* Means over the data set's requests (the first thousand of those that can be edited); templates of a file as they
 * stand, generated ones by their planned lengths. *counted: 0 when none could be encoded, and then *out is as it was.
 * Also of the scored prompts of a record: how many, their positions, rows of logits. */
typedef struct er_plan_scored {
    double prompts, tokens, heads;
} er_plan_scored;
int er_plan_texts_of(er_cost_texts *out, er_plan_scored *scored, int64_t *counted, const er_tokenizer *t,
                     const er_job *job, const er_dataset *data, const er_editor *editor, const er_hyper *hyper,
                     const er_config *config, er_err *err);

#endif
