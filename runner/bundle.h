/* SPDX-License-Identifier: Apache-2.0 */
/* A run in one archive, to be verified elsewhere (errata bundle, errata verify). Rank 0 only.
 *
 * Entries in this order: bundle.json, the content in the order of its names, env.json, env.hash.
 *     job.resolved.yaml inputs.json templates.json events.jsonl cases.jsonl summary.json summary.csv ledger/000000.h5 ...
 *     inputs/templates    the job's template file, where it names one
 *     inputs/data, inputs/ids, inputs/drift, inputs/snippets, inputs/tfidf_vocab, inputs/tfidf_idf,
 *     inputs/corpus, store/...    as asked for
 * bundle.json: {"bundle": 1, "run": NAME-HASH, "content": hash of all that follows in it, "files": [{"name", "bytes",
 * "hash", and for lines "lines": first 16 digits of the hash of each}]}. Times and reports are left out. Hosts and ranks
 * stand in env.json alone, behind everything else and outside the content's hash: bundles of one run made in two ways are
 * the same bytes up to there. */
#ifndef ER_RUNNER_BUNDLE_H
#define ER_RUNNER_BUNDLE_H

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/text.h"
#include "runner/world.h"
#include "stats/store.h"

typedef struct er_bundle_options {
    int data, corpus, stats; /* what else goes in */
    const char *to;          /* NULL: NAME-HASH.tar in the working folder */
} er_bundle_options;

typedef struct er_bundle_made {
    char *path; /* to be er_freed */
    er_hash content;
    int64_t files, bytes;
} er_bundle_made;

/* The run in `folder`, which must be finished (ER_E_INPUT) and is locked meanwhile. Data and templates that are no longer
 * those of the run are ER_E_MISMATCH. */
int er_bundle_write(er_bundle_made *out, er_world *w, const char *folder, const er_bundle_options *options, er_err *err);

/* Unpacks the bundle into `folder`, a new one, and compares every hash. *damage (to be er_text_freed): the first file, with
 * line and case where it has lines, that is not what bundle.json says; empty when all hold. Damage of bundle.json, missing
 * and unexpected files and hostile archives are errors (ER_E_FORMAT, ER_E_MISMATCH, ER_E_INPUT). */
int er_bundle_unpack(const char *path, const char *folder, er_hash *content, int64_t *files, er_text *damage, er_err *err);

/* What a run's inputs.json says of its statistics: *count layers (0: it uses none), to be er_freed. */
typedef struct er_input_stats {
    er_stats_key key;
    er_hash content[2]; /* of moment and eigenpairs */
} er_input_stats;
int er_inputs_stats(er_input_stats **out, int64_t *count, const json_t *inputs, er_err *err);

#endif
