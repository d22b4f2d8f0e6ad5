/* SPDX-License-Identifier: Apache-2.0 */
/* How long editing takes on a machine: the operations of cost.h at what the machine sustains, and the messages between
 * ranks. docs/scaling.md writes the formulas out.
 *
 * "Takers" are those who take units: ranks, or with shards groups of them (runner/team.h). Nothing here fails. */
#ifndef ER_RUNNER_COST_TIME_H
#define ER_RUNNER_COST_TIME_H

#include "runner/plan.h"

/* Seconds of one batch of n edits, `before` edits in the history, and messages left out. */
double er_time_targets(const er_plan *p, const er_machine *m, double n);
double er_time_keys(const er_plan *p, const er_machine *m, double n);
double er_time_solves(const er_plan *p, const er_machine *m, double n, double before); /* with rounding into weights */
/* Seconds of scoring `records` records once. */
double er_time_scores(const er_plan *p, const er_machine *m, double records);
double er_time_statistics(const er_plan *p, const er_machine *m);
double er_time_eigenpairs(const er_plan *p, const er_machine *m, double layers);

/* What passes between ranks for one batch of n edits (runner/units.c, batch_layers.c, overlay.c). */
typedef struct er_messages {
    double units, unit_bytes;             /* to and from rank 0: numbers and results of units */
    double collectives, collective_bytes; /* agreements, broadcasts, comparisons of hashes; bytes of one rank's share */
    double borders, border_bytes;         /* shards: streams and gradients handed over, all groups together */
    double seconds;                       /* of the slowest path, nothing hidden behind work */
} er_messages;
er_messages er_time_messages(const er_plan *p, const er_machine *m, double n);

/* All edits of the plan; messages of all batches. */
typedef struct er_times {
    double targets, keys, solves, messages, all;
} er_times;
er_times er_time_edits(const er_plan *p, const er_machine *m);

/* Bytes that a rank with layers [from, to) takes while editing and scoring, its weights with it. home: it solves these
 * layers (rank 0; with shards, those of group 0). */
double er_plan_rank_memory(const er_plan *p, int weights, int64_t from, int64_t to, int home);

#endif
