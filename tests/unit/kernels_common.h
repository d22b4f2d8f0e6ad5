/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel tests share: reproducible inputs, and a walk over the instruction sets of this CPU. */
#ifndef ER_TESTS_KERNELS_COMMON_H
#define ER_TESTS_KERNELS_COMMON_H

#include "model/kernels.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const isas[] __attribute__((unused)) = {"scalar", "avx2", "avx512"};
enum { ISAS = 3 };

static uint64_t seed = 1;

/* in [-1, 1), with 24 bits */
static inline float noise(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(int64_t)(seed >> 40) / 8388608.0f - 1.0f;
}

static inline void *get(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    assert_non_null(p);
    return p;
}

static inline float *noises(int64_t n)
{
    float *p = get((size_t)n, sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = noise();
    return p;
}

static inline double *noises64(int64_t n)
{
    double *p = get((size_t)n, sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = (double)noise() + (double)noise() * 0x1p-30;
    return p;
}

static inline int start(int isa)
{
    if (!er_kernels_start(isas[isa])) return 1;
    assert_int_not_equal(isa, 0); /* every CPU has the portable kernels */
    return 0;
}

#endif
