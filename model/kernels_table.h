/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: the kernels of one instruction set, and what they share. */
#ifndef ER_MODEL_KERNELS_TABLE_H
#define ER_MODEL_KERNELS_TABLE_H

#include "model/kernels.h"

#include <stddef.h>
#include <stdint.h>

/* Members have the meaning of the er_ function of the same name (model/kernels.h). */
typedef struct er_kernels {
    const char *name;
    /* part `part` of `parts` of one product; ticks: this is the thread that may */
    void (*product)(const er_product_call *, int part, int parts, int ticks);
    void (*product64)(double *, int64_t, const double *, int64_t, const double *, int64_t, int64_t, int64_t, int64_t,
                      int, int);
    void (*gram64)(double *, const float *, int64_t, int64_t, int64_t);
    float (*dot)(const float *, const float *, int64_t);
    double (*norm64)(const float *, int64_t);
    void (*add)(float *, const float *, int64_t);
    void (*axpy)(float *, float, const float *, int64_t);
    void (*axpy64)(double *, double, const double *, int64_t);
    void (*rms_norm)(float *, const float *, const float *, int64_t, int64_t, float);
    void (*rms_norm_back)(float *, const float *, const float *, const float *, int64_t, int64_t, float, int);
    void (*layer_norm)(float *, const float *, const float *, const float *, int64_t, int64_t, float);
    void (*layer_norm_back)(float *, const float *, const float *, const float *, int64_t, int64_t, float, int);
    void (*add_bias)(float *, const float *, int64_t, int64_t);
    void (*scale)(float *, int64_t, float);
    int (*round_bf16)(float *, int64_t);
    int (*round_f16)(float *, int64_t);
    void (*activate)(float *, const float *, int64_t, enum er_activation);
    void (*activate_back)(float *, const float *, const float *, int64_t, enum er_activation);
    void (*gated)(float *, const float *, const float *, int64_t, enum er_activation);
    void (*gated_back)(float *, float *, const float *, const float *, const float *, int64_t, enum er_activation);
    void (*softcap)(float *, int64_t, float);
    void (*softcap_back)(float *, const float *, int64_t, float);
    float (*log_sum_exp)(const float *, int64_t, int64_t *);
    void (*exp_shifted)(float *, const float *, float, int64_t);
    void (*rope)(float *, const float *, const float *, int64_t, int64_t, int64_t, int, int);
    void (*attend)(float *, float *, const float *, const er_seen *, int64_t, float);
    void (*attend_back)(float *, float *, float *, int64_t, const float *, const float *, float *, const float *,
                        const er_seen *, int64_t, float);
} er_kernels;

extern const er_kernels er_kernels_scalar;
#if defined(__x86_64__)
extern const er_kernels er_kernels_avx2, er_kernels_avx512;
#endif

/* The chosen set; er_kernels_start has been called. */
const er_kernels *er_kernels_active(void);
/* Threads for a call of so much work (multiply-adds, or floats touched): 1 inside a parallel region and for little. */
int er_kernels_threads(double work);
/* Whether thread 0 of a region opened now is the thread that may tick: no region is open already. */
int er_kernels_may_tick(void);
/* Scratch of the calling thread, at least so many bytes, aligned to 4096; valid until the thread's next call. */
void *er_kernels_scratch(size_t bytes);

/* How threads divide c (m, n) = A (m, k) B: `down` strips of rows times `across` sets of panels. */
typedef struct er_grid {
    int down, across;
} er_grid;
er_grid er_kernels_grid(int64_t m, int64_t n, int64_t tile_rows, int64_t tile_cols, int threads);

/* Calls er_tick() about every ER_TICK_WORK multiply-adds, on the thread that may. */
#define ER_TICK_WORK 2e7
typedef struct er_pace {
    int ticks; /* this is the thread that may */
    double work;
} er_pace;
void er_pace_add(er_pace *pace, double work);

/* Reading ahead: cache lines of `left` rows that are needed soon, asked for a few per step. */
typedef struct er_ahead {
    const char *row;
    int64_t stride, lines, line, left, each;
} er_ahead;

static inline void er_ahead_set(er_ahead *a, const void *base, int64_t stride, int64_t row, int64_t offset,
                                int64_t rows, int64_t bytes, int64_t steps)
{
    const char *at = (const char *)base + row * stride + offset;
    int64_t skew = (int64_t)((uintptr_t)at & 63);
    a->row = at - skew;
    a->stride = stride;
    a->lines = (bytes + skew + 63) / 64;
    a->line = 0;
    a->left = rows;
    a->each = (rows * a->lines + steps - 1) / steps;
}

static inline void er_ahead_step(er_ahead *a)
{
    for (int64_t n = a->each; n > 0 && a->left > 0; n--) {
        __builtin_prefetch(a->row + 64 * a->line, 0, 2);
        if (++a->line < a->lines) continue;
        a->line = 0;
        a->row += a->stride;
        a->left--;
    }
}

#endif
