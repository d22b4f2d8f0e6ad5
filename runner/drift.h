/* SPDX-License-Identifier: Apache-2.0 */
/* Drift: what editing does to everything else, at the moments of score.drift (before, after every k edits, at the end).
 *
 *     perplexity  exp of the mean nll of the ids behind the first one of each held-out text: documents of a file (those
 *                 behind the statistics', where the file is theirs) or texts drawn from the unedited model, cut to 256
 *                 ids each and score.drift.tokens in all
 *     probe       score.drift.probe prompts of a list that the program brings along (drift_prompts.c): the unedited
 *                 model's greedy continuation of each by at most 8 ids is its answer, teacher-forced then through both
 *                 models. agreement: share of the answers' positions where the edited model's first choice is the
 *                 unedited's; kl: mean over positions of KL(unedited || edited), nats, fp64 over the vocabulary
 *
 * One text is one unit; sums are taken in order of the texts, so no figure depends on ranks. Units go to the run's journal,
 * figures to drift.jsonl: one line per moment, {"moment", "edits", "perplexity", "agreement", "kl", and the sums they are
 * made of}. Functions are collective unless they say "rank 0". */
#ifndef ER_RUNNER_DRIFT_H
#define ER_RUNNER_DRIFT_H

#include "runner/run.h"

/* Not collective. */
int er_drift_on(const er_run *r);
/* Not collective. Is drift measured behind batch b (-1: on the unedited model)? */
int er_drift_due(const er_run *r, int64_t b);
/* Figures of the overlay as it stands, computed where they are not known; *out on rank 0 (NULL allowed). */
int er_drift_measure(er_run *r, er_drift_figures *out, er_err *err);
/* The same where behind batch b it is due, and drift.jsonl written. */
int er_drift_after(er_run *r, int64_t b, er_err *err);
/* Rank 0. What an earlier start has in drift.jsonl becomes known. */
int er_drift_load(er_run *r, er_err *err);
/* Rank 0. Moments that are due and not known. */
int er_drift_missing(er_run *r, int64_t *missing, er_err *err);
/* Rank 0. drift.jsonl from what is known. */
int er_drift_write(er_run *r, er_err *err);
/* Rank 0. Perplexity against the unedited model's; NAN while that is not known. */
double er_drift_ratio(const er_run *r, const er_drift_figures *f);
/* Rank 0. Figures behind batch b; 0 where they are not known. */
int er_drift_get(const er_run *r, int64_t b, er_drift_figures *out);
/* Rank 0. ",\n  \"drift\": {...}" of summary.json, nothing where it is off. */
int er_drift_summary(er_text *out, const er_run *r, er_err *err);
void er_drift_close(er_drift *d);

/* drift_texts.c. Makes ids, start and the base view. */
int er_drift_open(er_run *r, er_err *err);
/* Rank 0. Makes the content hash: of model, texts and prompts, "measured" in drift.jsonl. */
int er_drift_hash(er_run *r, er_err *err);
/* Not collective. The same from its parts; reads the file of score.drift.path. */
int er_drift_content(er_hash *out, const er_job *j, const er_hash *weights, const er_hash *tokenizer, er_err *err);
/* Is the held-out file the corpus of the statistics? Then it is read behind their documents. */
int er_drift_is_corpus(const er_job *j);
/* drift_prompts.c */
enum { ER_DRIFT_PROMPTS = 40, ER_DRIFT_PROMPTS_VERSION = 1 };
extern const char *const er_drift_prompts[ER_DRIFT_PROMPTS];

#endif
