/* SPDX-License-Identifier: Apache-2.0 */
/* How fast element types are widened to fp32, one thread, best of several rounds, over more values than caches hold:
 *     type, GB/s of fp32 written, GB/s of the file's bytes read; last a plain copy of fp32.
 *
 *     bench_quant        a table on stdout */
#include "model/quant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { VALUES = 1 << 25, ROUNDS = 5 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double best_of(float *out, const void *data, int dtype)
{
    double best = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        double start = now();
        er_widen(out, data, dtype, 0, VALUES);
        double took = now() - start;
        if (took < best) best = took;
    }
    return best;
}

int main(void)
{
    float *out = malloc(sizeof *out * VALUES);
    uint8_t *data = malloc(sizeof *out * VALUES);
    if (!out || !data) return 1;
    memset(out, 1, sizeof *out * VALUES);
    for (size_t i = 0; i < sizeof *out * VALUES; i++) data[i] = (uint8_t)(i * 37 % 97); /* no fp16 of it is infinite */
    for (int dtype = ER_F16; dtype <= ER_DTYPE_COUNT; dtype++) {
        int kind = dtype == ER_DTYPE_COUNT ? ER_F32 : dtype;
        if (!er_dtype_block(kind)) continue;
        double seconds = best_of(out, data, kind), bytes = (double)er_dtype_span(kind, VALUES);
        printf("%-5s %6.2f %6.2f\n", er_dtype_name(kind), 4e-9 * VALUES / seconds, 1e-9 * bytes / seconds);
    }
    free(out);
    free(data);
    return 0;
}
