/* SPDX-License-Identifier: Apache-2.0 */
/* Holding a run, or a bundle of one, against its inputs: hashes, the replay of its ledger, and the same job once more. */
#ifndef ER_RUNNER_VERIFY_H
#define ER_RUNNER_VERIFY_H

#include "base/json.h"
#include "runner/ledger.h"
#include "runner/setup.h"

enum { ER_VERIFY_SETS = 12 };

typedef struct er_verifying {
    const char *folder;  /* of the run: job.resolved.yaml, inputs.json, ledger/, ... Not written to */
    const char *scratch; /* NULL: there is none; else the only folder that is written to */
    const char *model, *data, *ids, *corpus, *templates, *store; /* instead of the job's, where not NULL */
    const char *drift, *snippets, *tfidf_vocab, *tfidf_idf; /* likewise; a bundle's */
    int corpus_at_hand;  /* the corpus that was given is compared, too */
    char *set[ER_VERIFY_SETS]; /* the same as overrides of the job */
    int set_count;
    json_t *inputs;
    er_setup setup;
    er_overlay overlay;
    char *ledger;
    int64_t records, edits;
    int64_t objects, objects_wanted; /* of statistics: found and sound; named by the run */
} er_verifying;

/* One rank. Fills `set` from the fields above it and the job that stands in the folder. */
int er_verify_sets(er_verifying *v, er_world *alone, er_err *err);
/* One rank. Inputs against the hashes in inputs.json (model, tokenizer, templates; data, corpus and statistics where they
 * were given), then every record of the ledger. ER_E_MISMATCH names what differs. */
int er_verify(er_verifying *v, er_world *alone, er_err *err);
/* Collective. The job once more, in scratch/again, with statistics from scratch/store (measured where they are not
 * there). *text on rank 0: the first difference, empty when the runs are the same bytes. */
int er_verify_again(er_verifying *v, er_world *w, er_text *text, er_err *err);
void er_verify_close(er_verifying *v);

#endif
