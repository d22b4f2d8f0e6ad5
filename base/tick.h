/* SPDX-License-Identifier: Apache-2.0 */
/* A call that long computations make every few milliseconds (between layers, between tiles), so that rank 0 can serve
 * the others while it works itself. One function per process, set by runner/ before work starts; only the main thread
 * ticks. model/, stats/ and editors/ know nothing of what it does. */
#ifndef ER_BASE_TICK_H
#define ER_BASE_TICK_H

void er_tick_set(void (*function)(void *context), void *context); /* NULL: none */
void er_tick(void);

#endif
