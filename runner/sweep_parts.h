/* SPDX-License-Identifier: Apache-2.0 */
/* Inside runner/sweep_*.c: a sweep at work. */
#ifndef ER_RUNNER_SWEEP_PARTS_H
#define ER_RUNNER_SWEEP_PARTS_H

#include "runner/sweep.h"

typedef struct er_sweeping {
    er_world *w;  /* all ranks */
    er_world *g;  /* those that work on a point together; w itself, or this rank's group */
    er_arena *arena;
    er_sweep file;
    er_sweep_item *items; /* (file.count) */
    uint8_t *chosen;      /* (file.count) by the command line */
    uint8_t *tried;       /* (file.count) run by this process: a failure is not tried again */
    er_share share;
    int64_t next;         /* rank 0 of the group: first point not looked at */
    er_counts totals;     /* rank 0 of the group */
} er_sweeping;

#endif
