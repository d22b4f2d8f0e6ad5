/* SPDX-License-Identifier: Apache-2.0 */
/* What the machine can do, measured by helper processes: OpenBLAS is the serial one, which must not be entered by
 * several threads at once, and processes of their own leave the measured process's memory alone. */
#ifndef ER_BENCH_RATES_H
#define ER_BENCH_RATES_H

enum rate_kind { RATE_SGEMM, RATE_DGEMM, RATE_DSYRK, RATE_READ, RATE_KINDS };
extern const char *const rate_names[RATE_KINDS];

/* OpenBLAS 0.3.21 does not know every CPU and then falls back to a slow kernel: unless the user said which, starts the
 * program again with the widest that this CPU runs. To be called first in main. */
void rates_choose_blas(char **argv);
/* Starts `helpers` processes. To be called before the first parallel region. 0, or -1 with errno set. */
int rates_start(int helpers);
void rates_stop(void);

typedef struct rate {
    double wall; /* flop (RATE_READ: bytes) per second of all working helpers together */
    double cpu;  /* per second of CPU of one of them */
} rate;
/* `workers` of the helpers work side by side for about a tenth of a second each. Zeros when a helper is gone. */
rate rates_measure(enum rate_kind kind, int workers);

#endif
