/* SPDX-License-Identifier: Apache-2.0 */
/* What a machine sustains: the rates that a plan's times follow from. */
#ifndef ER_RUNNER_MACHINE_H
#define ER_RUNNER_MACHINE_H

#include "base/error.h"
#include "model/config.h"

#include <stdint.h>

/* "Takers" are those who take units of work: ranks, or with shards groups of them (runner/team.h). Rates are one taker's,
 * with all its threads. */
typedef struct er_machine {
    double products;   /* fp32 flop/s of products, weights out of cache */
    double products64; /* fp64 flop/s */
    double core64;     /* of one thread: eigenpairs */
    double read;       /* bytes/s from memory */
    double bandwidth, latency; /* of the network: bytes/s, and seconds of a message */
    int64_t takers, shards;    /* at least 1 */
} er_machine;

/* Rates that nobody has measured: one core of the machine in docs/performance.md, and 10 Gbit/s with 20 us. One taker. */
er_machine er_machine_assumed(void);
/* Products like those of forward passes (96 rows), fp64 ones and reading, about `seconds` each, with this process's
 * threads; the rest of *m stays as it is. core64: the fp64 rate through the number of threads. */
int er_machine_measure(er_machine *m, const er_config *c, double seconds, er_err *err);
/* "products=GF/s,fp64=GF/s,core64=GF/s,read=GB/s,network=GB/s,latency=us", any of them: overrides these rates. fp64 and
 * core64 not named are half of products. ER_E_USAGE names what is wrong. */
int er_machine_read(er_machine *m, const char *text, er_err *err);

#endif
