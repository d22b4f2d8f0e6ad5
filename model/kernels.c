/* SPDX-License-Identifier: Apache-2.0 */
/* Choice of the instruction set, threads, scratch; products. */
#include "model/kernels.h"

#include "base/error.h"
#include "base/tick.h"
#include "model/kernels_table.h"

#include <fenv.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const er_kernels *active;
static _Thread_local struct {
    void *data;
    size_t bytes;
} scratch;

/* --- start -------------------------------------------------------------------------------------------------------- */
/* Flushing of denormals shows in arithmetic, on any CPU. */
static int mode_is_default(void)
{
    volatile float least = 0x1p-126f, tiny = 0x1p-149f;
    volatile double least64 = 0x1p-1022, tiny64 = 0x0.0000000000001p-1022;
    return fegetround() == FE_TONEAREST && least * 0.5f != 0.0f && tiny * 0x1p+24f != 0.0f && least64 * 0.5 != 0.0 &&
           tiny64 * 0x1p+53 != 0.0;
}

#if defined(__x86_64__)
static int has_avx2(void)
{
    unsigned a, b, c = 0, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    return (c & bit_FMA) && (c & bit_F16C) && __builtin_cpu_supports("avx2");
}

static int has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

/* NULL: unknown, or this CPU lacks it. "": the best this CPU has. */
static const er_kernels *find(const char *name)
{
    int any = !*name;
#if defined(__x86_64__)
    if ((any || !strcmp(name, "avx512")) && has_avx512()) return &er_kernels_avx512;
    if ((any || !strcmp(name, "avx2")) && has_avx2()) return &er_kernels_avx2;
#endif
    return any || !strcmp(name, "scalar") ? &er_kernels_scalar : NULL;
}

int er_kernels_start(const char *isa)
{
    if (!isa || !*isa) isa = getenv("ERRATA_ISA");
    const er_kernels *chosen = find(isa ? isa : "");
    if (!chosen) return -1;
    int bad = 0;
#pragma omp parallel
    if (!mode_is_default()) {
#pragma omp atomic write
        bad = 1;
    }
    if (bad) return -1;
    active = chosen;
    return 0;
}

const char *er_kernels_name(void)
{
    return active ? active->name : "none";
}

void er_kernels_stop(void)
{
#pragma omp parallel
    {
        free(scratch.data);
        scratch.data = NULL;
        scratch.bytes = 0;
    }
}

/* --- what kernels share ------------------------------------------------------------------------------------------- */
int er_kernels_threads(double work)
{
    return omp_in_parallel() || work < 1e5 ? 1 : omp_get_max_threads();
}

int er_kernels_may_tick(void)
{
    return !omp_in_parallel();
}

/* The division whose slowest thread has least to do: multiply-adds, and copying its share of A and of B, which costs
 * about as much as multiplying by 16 columns or rows. */
er_grid er_kernels_grid(int64_t m, int64_t n, int64_t tile_rows, int64_t tile_cols, int threads)
{
    int64_t strips = (m + tile_rows - 1) / tile_rows, panels = (n + tile_cols - 1) / tile_cols;
    er_grid best = {1, 1};
    double least = 0;
    for (int down = 1; down <= threads; down++) {
        int across = threads / down;
        double rows = (double)((strips + down - 1) / down * tile_rows);
        double cols = (double)((panels + across - 1) / across * tile_cols), cost = rows * cols + 16 * (rows + cols);
        if (down > 1 && cost >= least) continue;
        least = cost;
        best.down = down;
        best.across = across;
    }
    return best;
}

void *er_kernels_scratch(size_t bytes)
{
    if (bytes > scratch.bytes) {
        free(scratch.data);
        scratch.bytes = (bytes + 4095) / 4096 * 4096;
        scratch.data = aligned_alloc(4096, scratch.bytes);
        ER_ALWAYS(scratch.data != NULL);
    }
    return scratch.data;
}

void er_pace_add(er_pace *pace, double work)
{
    pace->work += work;
    if (pace->work < ER_TICK_WORK) return;
    pace->work = 0;
    if (pace->ticks) er_tick();
}

const er_kernels *er_kernels_active(void)
{
    ER_ALWAYS(active != NULL); /* er_kernels_start was not called */
    return active;
}

/* --- products ----------------------------------------------------------------------------------------------------- */
static void check_matrix(const er_matrix *w, int64_t m)
{
    ER_ALWAYS(w->dtype == ER_F32 || w->dtype == ER_F16 || w->dtype == ER_BF16);
    ER_ALWAYS(m >= 0 && w->rows >= 0 && w->cols >= 0);
}

/* Rows per thread below which the work behind products is less than waiting for each other. */
enum { FEW_ROWS = 4 };

static void run_part(const er_rows_work *work, int64_t part, int64_t parts)
{
    const int64_t from = work->rows * part / parts, to = work->rows * (part + 1) / parts;
    if (from < to) work->run(work->context, from, to);
}

/* Product i gives its first part to another thread than product i - 1: where parts are uneven, nobody has all of the
 * larger ones. */
void er_products(const er_product_call *calls, int count, const er_rows_work *after, int after_count)
{
    const er_kernels *k = er_kernels_active();
    const int main_thread = er_kernels_may_tick();
    double work = 0;
    for (int i = 0; i < count; i++) {
        check_matrix(calls[i].w, calls[i].m);
        work += (double)calls[i].m * (double)calls[i].w->rows * (double)calls[i].w->cols;
    }
    const int threads = er_kernels_threads(work);
    const int shared = count && calls[0].m >= FEW_ROWS * threads ? after_count : 0;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const int t = omp_get_thread_num(), parts = omp_get_num_threads();
        for (int i = 0; i < count; i++) k->product(&calls[i], (t + i) % parts, parts, main_thread && t == 0);
        for (int i = 0; i < shared; i++) {
#pragma omp barrier
            run_part(&after[i], t, parts);
        }
    }
    for (int i = shared; i < after_count; i++) run_part(&after[i], 0, 1);
}

void er_rows_run(const er_rows_work *work, double floats)
{
    const int threads = er_kernels_threads(floats);
#pragma omp parallel num_threads(threads) if (threads > 1)
    run_part(work, omp_get_thread_num(), omp_get_num_threads());
}

void er_product(float *y, int64_t ldy, const float *x, int64_t ldx, int64_t m, const er_matrix *w)
{
    er_products(&(er_product_call){y, ldy, x, ldx, m, w, 0}, 1, NULL, 0);
}

void er_product_back(float *x_grad, int64_t ldx, const float *y_grad, int64_t ldy, int64_t m, const er_matrix *w)
{
    er_products(&(er_product_call){x_grad, ldx, y_grad, ldy, m, w, 1}, 1, NULL, 0);
}

void er_product64(double *c, int64_t ldc, const double *a, int64_t lda, const double *b, int64_t ldb, int64_t m,
                  int64_t n, int64_t k, int transposed_b, int accumulate)
{
    ER_ALWAYS(m >= 0 && n >= 0 && k >= 0);
    er_kernels_active()->product64(c, ldc, a, lda, b, ldb, m, n, k, transposed_b, accumulate);
}

void er_gram64(double *g, const float *x, int64_t ldx, int64_t m, int64_t n)
{
    ER_ALWAYS(m >= 0 && n >= 0);
    er_kernels_active()->gram64(g, x, ldx, m, n);
}
