/* SPDX-License-Identifier: Apache-2.0 */
/* events.jsonl: what happened in each batch, made from ledger records and the store alone, so that it can be made again
 * at any time. Behind the spectra of the edited layers (spectrum.h), lines have "event": "target" (case_id, losses per
 * step as [total, nll, kl, wd], probability per step, norms, steps, why it stopped), "layer" (z_error, update_norm,
 * weight_norm, total_update_norm, condition, rank, capacity used) or "guard". Rank 0. */
#ifndef ER_RUNNER_EVENTS_H
#define ER_RUNNER_EVENTS_H

#include "base/text.h"
#include "runner/ledger.h"

/* One thing that a guard noticed. The policy is always "warn" so far. */
typedef struct er_guard {
    const char *name;  /* flat_loss, nonfinite, failed, update_norm, capacity */
    int64_t case_id;   /* -1: not about a case */
    int64_t layer;     /* -1: not about a layer */
    double value, limit;
} er_guard;

typedef int er_guard_sink(void *context, int64_t batch, const er_guard *guard, er_err *err);
/* Calls sink for everything that a record's guards notice. */
int er_guards(const er_record *r, er_guard_sink *sink, void *context, er_err *err);

/* All lines of one batch. */
int er_events_batch(er_text *out, const er_record *r, er_err *err);
int er_guard_json(er_text *out, int64_t batch, const er_guard *guard, int event, er_err *err);

#endif
