/* SPDX-License-Identifier: Apache-2.0 */
/* bench_rates KIND COUNT [ROUNDS]: what one process sustains and what COUNT at once do (sgemm, dgemm, dsyrk: GF/s; read:
 * GB/s), in turns, the best of the rounds of each: two numbers on a line. */
#include "rates.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    const int count = argc > 2 ? atoi(argv[2]) : 0, rounds = argc > 3 ? atoi(argv[3]) : 3;
    double one = 0, all = 0;
    int kind = 0;
    rates_choose_blas(argv);
    while (argc > 2 && kind < RATE_KINDS && strcmp(argv[1], rate_names[kind]) != 0) kind++;
    if (argc < 3 || kind == RATE_KINDS || count < 1)
        return fprintf(stderr, "usage: %s sgemm|dgemm|dsyrk|read COUNT [ROUNDS]\n", argv[0]), 2;
    if (rates_start(count)) return fprintf(stderr, "bench_rates: no processes\n"), 1;
    for (int i = 0; i < rounds; i++) {
        const rate a = rates_measure((enum rate_kind)kind, 1), b = rates_measure((enum rate_kind)kind, count);
        if (a.wall > one) one = a.wall;
        if (b.wall > all) all = b.wall;
    }
    rates_stop();
    printf("%.2f %.2f\n", 1e-9 * one, 1e-9 * all);
    return 0;
}
