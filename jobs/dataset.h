/* SPDX-License-Identifier: Apache-2.0 */
/* The data set: a file of facts becomes checked edit requests in editing order.
 *
 * Order of the steps: records of the file -> data.order (file order, or one shuffle of the whole file by seed) ->
 * data.ids (only these case ids; it selects, it does not order) -> data.skip -> conflicts -> data.count. So count is
 * the number of records edited, and a larger count only appends. Records behind the last one taken are not checked.
 *
 * Formats (job->data.format):
 *   counterfact  the authors' array: case_id, requested_rewrite {prompt with one {}, subject, target_new.str,
 *                target_true.str, relation_id}, paraphrase_prompts, neighborhood_prompts. Other fields are not read.
 *                Groups: rewrite, paraphrase, neighborhood.
 *   easyedit     the flat array: prompt (the subject once, or one {}), subject, target_new, ground_truth,
 *                rephrase_prompt, locality_prompt with locality_ground_truth. Groups: rewrite, paraphrase, locality;
 *                the locality prompt has its own answer. Without case_id the record's 0-based position serves.
 *   facts        a JSON array or a YAML list: subject, prompt (one {}), target_new; optional target_true, paraphrases,
 *                neighborhood, relation, case_id (default: 0-based position). Unknown fields are errors.
 *   zsre, knowedit: ER_E_UNSUPPORTED.
 * Groups without prompts are left out, except rewrite. Braces other than the one {} are text.
 *
 * Every message is one line "FILE:LINE: record 17 (case 123): ..." with ER_E_INPUT; records are numbered from 1. */
#ifndef ER_JOBS_DATASET_H
#define ER_JOBS_DATASET_H

#include "base/request.h"
#include "jobs/job.h"

typedef struct er_dataset {
    int64_t count; /* records edited */
    er_request *requests;
    int64_t records;     /* in the file */
    int64_t asked;       /* data.count; 0: all. count < asked: the file holds no more, and a note says so */
    int64_t duplicates;  /* edited records whose case id an earlier one has: both stay, the later is flagged */
    int64_t conflicts;   /* records whose prompt and subject an earlier edited record sends to another target */
    int64_t dropped;     /* of these, left out by data.conflicts: drop */
    int64_t same_target; /* edited records whose target is already the answer: edited and flagged */
    er_hash source;      /* bytes of the data file and of the ids file: part of a run's identity (any count) */
    er_hash content;     /* of the requests actually edited, in order */
    int64_t note_count;
    const er_job_note *notes;
} er_dataset;

/* Everything in *out lives in the arena; *out is written only on success. With data.conflicts: keep both records of a
 * conflict are flagged, so the flag of an early record may depend on count: flags enter no hash. */
int er_dataset_read(er_dataset *out, const er_job *job, er_arena *arena, er_err *err);

/* What editing depends on: case id, subject, prompt, target_new. The key of a stored target. */
void er_request_hash(er_hasher *h, const er_request *request);
/* What scoring depends on besides: target_true and the groups with their answers. */
void er_request_hash_scored(er_hasher *h, const er_request *request);

#endif
