/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "runner/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What comes this soon after the first signal is the same one by another way: launchers forward, Slurm signals steps
 * and the batch shell. */
enum { SAME_MS = 1000, EXIT_CODE = 75 };

static atomic_int first_number;
static atomic_int_fast64_t first_ms;

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void er_signal_learn(int number)
{
    int none = 0;
    if (atomic_load(&first_number)) return;
    atomic_store(&first_ms, now_ms());
    atomic_compare_exchange_strong(&first_number, &none, number);
}

void er_signal_leave(const char *why)
{
    if (write(STDERR_FILENO, why, strlen(why)) < 0) { /* nobody listens; leave all the same */
    }
    _exit(EXIT_CODE);
}

/* Only what may be done in a handler: atomics, clock_gettime, write, _exit. */
static void on_signal(int number)
{
    int saved = errno;
    if (!atomic_load(&first_number)) er_signal_learn(number);
    else if (now_ms() - atomic_load(&first_ms) >= SAME_MS)
        er_signal_leave("errata: a second signal: leaving at once; units in flight are lost, all before is kept\n");
    errno = saved;
}

void er_signals_install(void)
{
    static const int numbers[] = {SIGTERM, SIGUSR1, SIGINT};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) sigaction(numbers[i], &action, NULL);
}

int er_signal_seen(void) { return atomic_load(&first_number); }
