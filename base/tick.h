/* SPDX-License-Identifier: Apache-2.0 */
/* A call that long computations make every few milliseconds (between layers, between tiles), so that rank 0 can serve
 * the others while it works itself, and so that a rank that hangs is told from one that works. One function per
 * process, set by runner/ before work starts; only the main thread ticks. model/, stats/ and editors/ know nothing of
 * what it does. */
#ifndef ER_BASE_TICK_H
#define ER_BASE_TICK_H

#include <stdint.h>

void er_tick_set(void (*function)(void *context), void *context); /* NULL: none */
void er_tick(void);
/* The main thread waits for others: counts as a tick, but does not call the function set. */
void er_tick_wait(void);
/* Before one foreign call that may run for so many seconds on a slow machine (LAPACK): no tick is expected meanwhile.
 * The next tick takes it back. */
void er_tick_quiet(double seconds);

/* For the watch (runner/watch.h): called at every tick and wait, behind the function above; NULL: none. */
void er_tick_pulse(void (*function)(void));
/* Any thread. Ticks so far; *quiet is what er_tick_quiet announced, 0 when nothing is announced. */
uint64_t er_tick_count(double *quiet);

#endif
