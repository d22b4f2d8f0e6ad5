/* SPDX-License-Identifier: Apache-2.0 */
/* The watch over a job's ranks: a rank that hangs or has gone ends the job with a line that names it, and a signal to
 * one rank reaches all.
 *
 * Two watchers, because a stopped process cannot speak for itself. In each rank a thread, which never calls MPI, looks
 * at the count of ticks and waits (base/tick.h): when it has stood still for the time allowed, the thread says so and
 * ends the process, and the launcher ends the others. Between ranks small messages go from every rank to rank 0 and
 * back, ten in the time allowed, sent and read by the main thread wherever it ticks or waits (er_tick_wait): rank 0 ends the job when
 * a rank has not been heard of for that time, another rank does it for rank 0. Only time in which the watcher itself
 * was running counts, so that a suspended job is not taken for a hanging one. Clocks are monotonic. */
#ifndef ER_RUNNER_WATCH_H
#define ER_RUNNER_WATCH_H

#include "runner/world.h"

/* Collective; part of er_world_open and er_world_close: the second before MPI ends, the third after it. */
int er_watch_open(er_world *w, er_err *err);
void er_watch_close(void);
void er_watch_end(void);
/* timeout: seconds without progress after which a rank counts as hanging; grace: seconds that units in flight get after
 * a signal, then the process leaves without them (exit code 75). 0: never. */
void er_watch_limits(double timeout, double grace);

/* What this rank works on from now on; unit < 0: nothing. `phase` must stay valid. */
void er_watch_work(const char *phase, int64_t unit);
/* Who hands out units: the one that is expected from a rank next, < 0: none. `rank` counts among all ranks. */
void er_watch_owes(int rank, const char *phase, int64_t unit);
/* Who hands out units: appends "rank 2 on n1 (unit 17 of targets), ..." of the ranks that owe units, at most eight. */
int er_watch_owing(er_text *out, er_err *err);

#endif
