/* SPDX-License-Identifier: Apache-2.0 */
/* What `ask`, `score`, `export` and `verify` work on: a model, or a run's model with the first N edits in it. One
 * rank. */
#ifndef ER_RUNNER_SUBJECT_H
#define ER_RUNNER_SUBJECT_H

#include "runner/ledger.h"
#include "runner/setup.h"

#include <stdint.h>

typedef struct er_subject {
    int is_run;
    er_setup setup; /* of a run: job and model; of a model: its model alone */
    er_model *model;
    er_view plain;      /* without edits */
    er_overlay overlay; /* of a run: with edits */
    int64_t edits, batches;
} er_subject;

/* Nonzero when the path is a run's folder. */
int er_is_run(const char *path);
/* path: a model (folder or GGUF), or a run's folder. at: edits that shall be in the model, -1 for all; for a model it
 * must be -1 or 0. Hashes are checked on the way (ER_E_MISMATCH). s need not be zeroed. */
int er_subject_open(er_subject *s, er_world *w, const char *path, int64_t at, er_err *err);
void er_subject_close(er_subject *s);
const er_view *er_subject_view(const er_subject *s); /* with edits where there are any */

#endif
