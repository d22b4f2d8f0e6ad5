/* SPDX-License-Identifier: Apache-2.0 */
/* TERM, USR1 and INT. The first one sets a flag and nothing else; units end at the next one (er_world_units), the state
 * is written and the program leaves with exit code 75. A second one, at least a second later, leaves at once with the
 * same code: what is lost are the units in flight, since everything else is on disk already. */
#ifndef ER_RUNNER_SIGNALS_H
#define ER_RUNNER_SIGNALS_H

void er_signals_install(void);
int er_signal_seen(void); /* the first one's number, 0: none; any thread */
/* Another rank has seen this signal. */
void er_signal_learn(int number);
/* Writes `why` to stderr and ends the process with exit code 75, from any thread or a handler. */
void er_signal_leave(const char *why) __attribute__((noreturn));

#endif
