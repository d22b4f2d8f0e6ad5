/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of one batch (run_edit.c), internal to runner/: prompts, targets, and layer by layer keys, one solve and
 * one rounding into the overlays. Rank 0 holds the record, and what its units gave is in the batch's journal; a layer is
 * solved at its home, where its statistics and history are (rank 0, unless shards hold the model: runner/team.h). All steps are collective unless they say otherwise. */
#ifndef ER_RUNNER_BATCH_H
#define ER_RUNNER_BATCH_H

#include "editors/stabilise.h"
#include "runner/run.h"

typedef struct er_batch {
    er_run *r;
    int64_t number, first, count;
    er_arena *arena;
    er_prompt *prompts; /* (count) */
    uint8_t *failed;    /* (count) equal on all ranks between phases */
    char (*reason)[sizeof((er_target *)0)->reason]; /* of prompts that cannot be made */
    er_hash state;      /* before the batch */
    er_record record;   /* rank 0 */
    er_journal *journal; /* rank 0: finished targets and keys of this batch */
    int64_t applied;
    int64_t *apply;     /* requests of the batch that join the solve */
    int64_t step, pass;
    uint8_t *join;      /* rank 0: (applied) takes part in the pass; NULL: all do */
    int idle;           /* nobody took part in the last pass */
    er_edit_at at;      /* the method at that step */
    er_hash target_state; /* on which targets are set: before the batch, with BLUE before the step */
    float *values;      /* rank 0: (applied, d) */
    float **keys;       /* (layers) of layers whose home is here and not rank 0, as in the record */
    uint8_t *held;      /* rank 0: (applied) BLUE: no target at this step, so nothing is asked of it; NULL: none */
    er_record_guard *trips; /* rank 0: guards that fired and do more than warn */
    int64_t trip_count;
    int marked;         /* the overlay's marks are of the state before this batch */
    size_t trip_room;
    er_update *trained; /* rank 0, methods that train: per edited matrix, until its layer takes it */
    int64_t made;       /* rank 0: targets that were optimised here, not found */
    double seconds[3];  /* targets, keys, solve */
} er_batch;

/* batch_targets.c. Not collective: rows of all requests, the same on every rank; one that cannot be made is a failed
 * request. */
int er_batch_prompts(er_batch *b, er_err *err);
/* Fills the record's targets, b->failed, b->apply, b->applied and, on rank 0, b->values. */
int er_batch_targets(er_batch *b, er_err *err);
/* batch_train.c. The same for a method that trains: fills b->trained in place of b->values. ER_E_NUMERIC as er_batch_layer. */
int er_batch_train(er_batch *b, er_err *err);
/* batch_targets.c. Everybody learns from rank 0's record which requests have not failed: b->failed, b->apply. */
int er_batch_agree_applied(er_batch *b, er_err *err);
/* Rank 0. Content key of the i-th request's target. */
int er_batch_target_key(const er_batch *b, int64_t i, er_hash *key, er_err *err);
/* Units that `items` are cut into, and the items of one of them. */
int64_t er_batch_units(const er_batch *b, int64_t items);
void er_batch_range(const er_batch *b, int64_t items, int64_t unit, int64_t *first, int64_t *count);

/* After requests failed: everybody learns which still join, rank 0 gathers their values. */
int er_batch_gather(er_batch *b, er_err *err);
/* run_edit.c. Weights as before the batch, the record without layers. */
int er_batch_undo(er_batch *b, er_err *err);
/* guard_batch.c. Rank 0, between keys and solve: measures the keys of b->step and notices what fires. */
int er_batch_look_at_keys(er_batch *b, er_err *err);

/* batch_layers.c. Keys, solve and update of layer b->step. ER_E_NUMERIC: the batch has failed, not the run. */
int er_batch_layer(er_batch *b, er_err *err);
/* Not collective. The batch's keys join the histories that are here. */
int er_batch_history(er_batch *b, er_err *err);
/* Collective over rank 0 and a home: n floats on rank 0 go to *at, which is allocated there and stays NULL elsewhere. */
int er_batch_bring(er_run *r, int home, const float *from, int64_t n, float **at, er_err *err);
/* batch_close.c. Before a batch begins (guards may undo it) and behind its last layer: what acts on a batch's updates as
 * a whole (RECT, PRUNE).
 * ER_E_NUMERIC as above. */
int er_batch_mark(er_batch *b, er_err *err);
int er_batch_close(er_batch *b, er_err *err);

#endif
